"""A container of a real engine (podman), with this machine's programs in it: nothing is fetched, nothing is kept.

Its storage, its state and its settings are in a folder of their own, beside whatever else the engine does here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE_S = 60.0
SHARED = ("usr", "bin", "sbin", "lib", "lib32", "lib64")
LIMITS = ["nofile=1024:1024", "nproc=1024:1024"]  # its own are more than a root without CAP_SYS_RESOURCE may give
WITHOUT_IPV6 = "net.ipv6.conf.all.disable_ipv6=1"  # as docker has it in each container to which it gives no IPv6


@contextlib.contextmanager
def engine(setenv: Callable[[str, str], object]) -> Iterator[None]:
    """Where `podman` has an empty storage of its own, as `setenv` tells it; its containers are removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bp"))  # the engine refuses long names
    runtime = "runtime = 'runc'\n" if shutil.which("runc") else ""  # crun wants cgroups of version 2 alone
    state = f"cgroup_manager = 'cgroupfs'\nevents_logger = 'none'\nlock_type = 'file'\ntmp_dir = '{folder}/state'\n"
    store = f"driver = 'vfs'\ngraphroot = '{folder}/storage'\nrunroot = '{folder}/run'\n"
    settings = {
        "CONTAINERS_CONF": f"[containers]\ndefault_ulimits = {LIMITS}\n[engine]\n{runtime}{state}",
        "CONTAINERS_STORAGE_CONF": f"[storage]\n{store}",
    }
    for name, text in settings.items():
        (folder / name).write_text(text)
        setenv(name, str(folder / name))
    try:
        yield
    finally:
        try:
            podman("rm", "--all", "--force", "--time", "0")
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what it could not let go of is not what is tested


def run(name: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """Runs a command in a container of its own, with a network of its own that leads nowhere; what it prints."""
    root = Path(os.environ["CONTAINERS_CONF"]).parent / f"root-{name}"
    root.mkdir()
    mounts: list[str] = []
    for shared in SHARED:
        outside = Path("/", shared)
        if outside.is_symlink():
            (root / shared).symlink_to(outside.readlink())
        elif outside.is_dir():
            (root / shared).mkdir()
            mounts += ["--volume", f"{outside}:{outside}:ro"]
    return podman("run", "--name", name, "--network", "none", *options, *mounts, "--rootfs", str(root), *command)


def podman(*arguments: str) -> str:
    """What it prints. Raises RuntimeError with what it says if it fails."""
    command = ["podman", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        raise RuntimeError(f"podman {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def lacking() -> str:
    """Why no container can be had here; empty if one can, by having one."""
    if not shutil.which("podman"):
        return "program podman not found: apt-get install podman runc"
    try:
        with pytest.MonkeyPatch.context() as changed, engine(changed.setenv):
            said = run("tried", "echo", "here", options=("--rm",))
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return f"podman runs no container here: {error}"
    return "" if said == "here\n" else f"a container of podman's says {said!r}"
