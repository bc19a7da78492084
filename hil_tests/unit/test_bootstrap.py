"""tools/bootstrap where it need not install anything: which environment it takes, and what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
NOBODY = 65_534


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    (copy / "tools").mkdir(parents=True)
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    shutil.copy(CHECKOUT / "tools" / "bootstrap", copy / "tools")
    return copy


def bootstrap(checkout: Path, *extras: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Without any Python to be found on the path: what is installed already must be enough."""
    return subprocess.run(
        [checkout / "tools" / "bootstrap", *extras],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(checkout.parent), "PYTHON": "/bin/false", **environment},
    )


def cksum(path: Path) -> str:
    """What cksum(1) prints for a file on its standard input."""
    return subprocess.run(["cksum"], input=path.read_bytes(), capture_output=True, check=True).stdout.decode().strip()


def install(checkout: Path, venv: Path, extras: str) -> None:
    """An environment as bootstrap leaves it behind, without its packages."""
    (venv / "bin").mkdir(parents=True)
    for program in ("python", "bentpipe"):
        (venv / "bin" / program).symlink_to("/bin/true")
    (venv / "bentpipe-stamp").write_text(f"{checkout} {cksum(checkout / 'pyproject.toml')}\n{extras}\n")


@pytest.mark.parametrize("extras", [(), ("test",), ("report",), ("test", "report")])
def test_what_is_installed_already_is_taken_at_once(checkout: Path, extras: tuple[str, ...]) -> None:
    install(checkout, checkout / ".venv", "report test")
    done = bootstrap(checkout, *extras)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{checkout}/.venv\n", "")


@pytest.mark.parametrize("extra", ["nonsense", "a b", "--user", "report]", ""])
def test_an_extra_that_there_is_not_is_refused(checkout: Path, extra: str) -> None:
    install(checkout, checkout / ".venv", "report")
    done = bootstrap(checkout, extra)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("bootstrap: ")


@pytest.mark.needs("root")
def test_a_checkout_of_somebody_else_s_is_left_alone(checkout: Path) -> None:
    cache = checkout.parent / "cache"
    (checkout / ".venv").mkdir()
    for path in (checkout, checkout / ".venv"):
        os.chown(path, NOBODY, NOBODY)
    cache.mkdir()
    done = subprocess.run(
        ["sh", "-c", f"printf '%s:%s' {checkout} $(id -u) | cksum | cut -d ' ' -f 1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    venv = cache / "bentpipe" / f"venv-{done.stdout.strip()}"
    venv.parent.mkdir(mode=0o700)
    install(checkout, venv, "test")
    assert bootstrap(checkout, "test", XDG_CACHE_HOME=str(cache)).stdout == f"{venv}\n"
    checkout.chmod(0o755)


def test_the_script_is_plain_sh() -> None:
    for script in ("bootstrap", "with", "clients"):
        path = CHECKOUT / "tools" / script
        assert path.read_text().startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", path], check=True)
