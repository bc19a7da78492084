"""The traps of Numba's cache, each kept shut."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest

from emulator.link import compiled
from hil_tests.capabilities import other_user
from hil_tests.unit.link.subprocesses import REPOSITORY, python

DRAW = """
from emulator.link import lose, state
from emulator.link.link import Link, LinkOptions
from emulator.timeline.model import Channel

options = LinkOptions(memory_bytes=64, flight_packets=2)
link = Link(Channel.constant(0, delay_ns=0), 10, seed=1, direction=0, options=options)
link.state.reg[state.CH_LOSS] = 1 << 31
print("".join("01"[bool(lose.is_lost(link.state, number, 0, 100))] for number in range(40)),
      sum(lose.is_lost.stats.cache_hits.values()))
"""
PEEK = """
import numpy as np
from emulator.link import compiled
from emulator.link.wire import be16
try:
    be16(np.zeros(2, np.uint8), 1)
    print("read beyond the end", end=" ")
except IndexError:
    print("caught", end=" ")
print(compiled.cache_directory.name, sum(be16.stats.cache_hits.values()))
"""
NOWHERE = """
import tempfile
tempfile.tempdir = "/dev/null/none"
import numpy as np
from emulator.link import compiled
from emulator.link.wire import be16
assert compiled.cache_directory is None, compiled.cache_directory
print(be16(np.array([1, 2], np.uint8), 0))
"""


FULL = """
import resource, sys
def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
if sys.argv[1] == "before":
    fill()
import numpy as np
from emulator.link import compiled
from emulator.link.wire import be16
fill()
print(be16(np.array([1, 2], np.uint8), 0), compiled.cache_directory is not None, compiled.cache_warning())
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that may be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "emulator", tmp_path / "copy" / "emulator", ignore=ignored)
    return tmp_path / "copy"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_change_in_another_file_changes_its_callers(package: Path, tmp_path: Path) -> None:
    """`is_lost` calls `draw32`, which lives in another file; Numba itself looks at the caller's file only."""

    def draw() -> tuple[str, int]:
        drawn, hits = python("-c", DRAW, package=package, BENTPIPE_CACHE_DIR=str(tmp_path / "cache")).split()
        return drawn, int(hits)

    cold, warm = draw(), draw()
    assert cold == (warm[0], 0)
    assert warm[1] == 1, "the second run finds it in the cache"
    assert set(cold[0]) == {"0", "1"}
    finish = "    return finish(state ^ 20)\n"
    replace(package / "emulator/link/draws.py", finish, "    return finish(state ^ 20) >> 32\n")
    assert draw() == ("1" * 40, 0)
    replace(package / "emulator/link/draws.py", finish.replace("20)", "20) >> 32"), finish)
    assert draw() == warm, "and what was compiled before is still there"


@pytest.mark.parametrize(
    "name", ["link/queue.py", "link/wire.py", "ports/relay.py", "ports/syscalls.py", "timeline/causes.py"]
)
def test_every_source_that_is_compiled_in_is_in_the_key(
    name: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = package / "emulator"
    monkeypatch.setattr(
        compiled, "COMPILED_FOLDERS", tuple(copied / folder.name for folder in compiled.COMPILED_FOLDERS)
    )
    monkeypatch.setattr(
        compiled, "COMPILED_IN", tuple(copied / path.relative_to(compiled.EMULATOR) for path in compiled.COMPILED_IN)
    )
    before = compiled.cache_key(compiled.compiled_sources(), "")
    assert before == compiled.cache_key(reversed(compiled.compiled_sources()), "")
    with (copied / name).open("a") as source:
        source.write("\n# changed\n")
    assert compiled.cache_key(compiled.compiled_sources(), "") != before


def names_in(nodes: list[ast.AST]) -> set[str]:
    return {node.id for top in nodes for node in ast.walk(top) if isinstance(node, ast.Name)}


def compiled_in(module: ast.Module) -> set[str]:
    """The names that a module's compiled functions use, and those that its constants are made from."""
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    used = names_in([statement for function in functions for statement in function.body])
    for statement in reversed(module.body):
        if isinstance(statement, ast.Assign) and names_in([*statement.targets]) & used:
            used |= names_in([statement.value])
    return used


def test_no_constant_is_compiled_in_from_a_source_outside_the_key() -> None:
    """Numba freezes what a compiled function takes from other modules: each of those must change the key."""
    keyed = set(compiled.compiled_sources())
    assert len(keyed) > 10
    for path in keyed:
        module = ast.parse(path.read_text())
        used = compiled_in(module)
        for node in module.body:
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("emulator."):
                continue  # versions of Python and of packages are in the key, and itertools has no file
            if used & {name.name for name in node.names}:
                imported = Path(str(importlib.import_module(str(node.module)).__file__))
                assert imported in keyed, f"{path.name}: {node.module}"


def test_versions_and_flags_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = compiled.compiled_sources()
    keys = {compiled.cache_key(sources, ""), compiled.cache_key(sources, "boundscheck=True")}
    for package in (numba, llvmlite, np):
        with monkeypatch.context() as patch:
            patch.setattr(package, "__version__", "0.0")
            keys.add(compiled.cache_key(sources, ""))
    assert len(keys) == 5


def test_checked_builds_have_their_own_cache_and_catch(tmp_path: Path) -> None:
    """A warm cache of the unchecked build must not answer for the checked one, nor the other way round."""
    cache = str(tmp_path / "cache")
    plain, checked, warm = (
        python("-c", PEEK, BENTPIPE_CACHE_DIR=cache, NUMBA_BOUNDSCHECK=flag).rsplit(maxsplit=2)
        for flag in ("0", "1", "0")
    )
    assert (plain[0], plain[2]) == ("read beyond the end", "0")
    assert (checked[0], checked[2]) == ("caught", "0")
    assert (warm[0], warm[2]) == ("read beyond the end", "1")
    assert plain[1] == warm[1] != checked[1]


def test_without_any_writable_directory_it_works_uncached() -> None:
    none = "/dev/null/none"
    assert python("-c", NOWHERE, HOME=none, XDG_CACHE_HOME="", BENTPIPE_CACHE_DIR=none) == "258"


def test_without_any_temporary_directory_there_are_fewer_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    assert compiled.candidate_roots()


@pytest.mark.needs("other-user")
def test_a_user_with_no_home_of_his_own_works_uncached(tmp_path: Path) -> None:
    """Nobody's home does not exist, and the package's own directories belong to root."""
    user = other_user()
    assert user is not None
    environment = {**user.options["env"], "BENTPIPE_CACHE_DIR": str(tmp_path)}
    finished = subprocess.run(
        [user.python, "-B", "-c", NOWHERE],
        **{**user.options, "env": environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.strip() == "258", finished.stderr


def test_two_cold_starts_at_once_do_not_hurt_each_other(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "BENTPIPE_CACHE_DIR": str(tmp_path / "cache"),
        "NUMBA_DISABLE_JIT": "0",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
    }
    both = [
        subprocess.Popen([sys.executable, "-B", "-c", DRAW], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    drawn = {process.communicate()[0].split()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(drawn) == 1


class TestUnsafeDirectories:
    """A cache holds code: a directory that somebody else can write, or put another in the place of, is not used."""

    @pytest.fixture(autouse=True)
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first, self.second = tmp_path / "first", tmp_path / "second"
        self.first.mkdir(mode=0o700)
        monkeypatch.setenv("BENTPIPE_CACHE_DIR", str(self.first))
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.second))

    def chosen(self) -> Path | None:
        directory = compiled.choose_cache()
        return None if directory is None else directory.relative_to(self.first.parent).parents[-2]

    def test_a_safe_one_is_used_and_is_private(self) -> None:
        directory = compiled.choose_cache()
        assert directory is not None
        assert self.chosen() == Path("first")
        assert [path.stat().st_mode & 0o777 for path in (directory, directory.parent)] == [0o700, 0o700]

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
    def test_one_that_others_can_write_is_not(self, mode: int) -> None:
        self.first.chmod(mode)
        assert self.chosen() == Path("second")

    @pytest.mark.parametrize("depth", [1, 2])
    def test_nor_one_whose_parent_others_can_write(self, depth: int) -> None:
        directory = compiled.choose_cache()
        assert directory is not None
        (directory, directory.parent, self.first)[depth].chmod(0o777)
        assert self.chosen() == Path("second")

    def test_nor_one_that_is_a_link(self, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        (self.first / "compiled").symlink_to(elsewhere)
        assert self.chosen() == Path("second")

    def test_nor_one_that_is_a_file(self) -> None:
        (self.first / "compiled").write_text("")
        assert self.chosen() == Path("second")

    @pytest.mark.needs("root")
    @pytest.mark.parametrize("depth", [0, 1, 2])
    def test_nor_one_that_belongs_to_somebody_else(self, depth: int) -> None:
        directory = compiled.choose_cache()
        assert directory is not None
        os.chown((directory, directory.parent, self.first)[depth], 65_534, 65_534)
        assert self.chosen() == Path("second")


def test_old_caches_are_forgotten_but_the_latest_few(tmp_path: Path) -> None:
    oldest = compiled.KEPT_CACHES + 4
    for age in range(oldest + 1):
        (tmp_path / str(age)).mkdir()
        os.utime(tmp_path / str(age), (1000 - age, 1000 - age))
    compiled.forget_old_caches(tmp_path, keep=tmp_path / str(oldest))
    assert {path.name for path in tmp_path.iterdir()} == {str(oldest), *map(str, range(compiled.KEPT_CACHES - 1))}


def test_interpreted_there_is_no_cache_and_nothing_is_compiled() -> None:
    code = (
        "from emulator.link import compiled, wire; import types\n"
        "print(compiled.cache_directory, isinstance(wire.be16, types.FunctionType))"
    )
    assert python("-c", code, NUMBA_DISABLE_JIT="1") == "None True"


def test_a_disk_that_is_full_is_no_place_for_a_cache(tmp_path: Path) -> None:
    value, kept, warning = python("-c", FULL, "before", BENTPIPE_CACHE_DIR=str(tmp_path)).split(maxsplit=2)
    assert (value, kept) == ("258", "False")
    assert str(tmp_path) in warning
    assert "BENTPIPE_CACHE_DIR" in warning


def test_a_disk_that_fills_up_later_stops_nothing(tmp_path: Path) -> None:
    value, kept, warning = python("-c", FULL, "later", BENTPIPE_CACHE_DIR=str(tmp_path)).split(maxsplit=2)
    assert (value, kept) == ("258", "True")
    assert f"{tmp_path}/compiled/" in warning
    assert "File too large" in warning
