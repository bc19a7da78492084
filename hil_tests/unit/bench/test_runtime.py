"""The directory of a running bench: private, locked, and cleared up after whoever died."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.bench import runtime
from emulator.bench.runtime import (
    MARK,
    RuntimeDirectory,
    bench_directories,
    processes_of,
    remove_leftovers,
    running_benches,
    runtime_root,
)
from emulator.errors import EndpointError, InterfaceError

NOBODY_PID = 2**22 + 1  # beyond the largest that Linux gives


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_it_is_private_and_says_who_it_is(root: Path) -> None:
    bench = RuntimeDirectory()
    bench.describe({"scenario": "fixed"})
    assert bench.path.parent == root
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o700
    facts = json.loads((bench.path / "bench.json").read_text())
    assert facts == {"pid": os.getpid(), "token": bench.token, "scenario": "fixed"}
    bench.close()
    assert list(root.iterdir()) == []


def test_a_bench_runs_once_it_has_described_itself() -> None:
    bench = RuntimeDirectory()
    assert running_benches() == []
    bench.describe({})
    assert running_benches() == [bench.path]
    bench.close()
    assert running_benches() == []


def test_the_living_are_left_alone() -> None:
    bench = RuntimeDirectory()
    assert remove_leftovers() == []
    assert bench.path.exists()
    bench.close()


def test_one_that_is_only_being_made_is_left_alone(root: Path) -> None:
    """Between making its directory and holding its lock a bench looks dead; only its name tells."""
    root.mkdir(mode=0o700)
    draft = root / f".{os.getpid()}-00000000"
    draft.mkdir()
    (draft / "lock").touch()
    assert remove_leftovers() == []
    assert draft.exists()
    assert running_benches() == bench_directories() == []


@pytest.mark.parametrize("name", [f".{NOBODY_PID}-00000000", f"{NOBODY_PID}-00000000"])
@pytest.mark.parametrize("locked", [True, False])
def test_what_the_dead_left_is_removed(root: Path, name: str, locked: bool) -> None:
    (root / name / "below").mkdir(parents=True)
    root.chmod(0o700)
    if locked or not name.startswith("."):
        (root / name / "lock").touch()
    assert [line for line in remove_leftovers() if name in line]
    assert list(root.iterdir()) == []


def test_the_dead_ones_processes_are_killed_and_nobody_elses(root: Path) -> None:
    token = f"{NOBODY_PID}-0badcafe"
    (root / token).mkdir(parents=True)
    root.chmod(0o700)
    (root / token / "lock").touch()

    def sleeper(mark: str) -> subprocess.Popen[bytes]:
        ready = subprocess.Popen(
            ["sh", "-c", "echo; exec sleep 1000"], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE
        )
        assert ready.stdout is not None
        ready.stdout.readline()
        return ready

    ours, others, similar = sleeper(token), sleeper("12-deadbeef"), sleeper(token + "0")
    removed = remove_leftovers()
    assert f"process {ours.pid} of bench {token}" in removed
    assert ours.wait(20) == -signal.SIGKILL
    for one in (others, similar):
        assert one.poll() is None
        one.kill()
        one.wait()
    for one in (ours, others, similar):
        assert one.stdout is not None
        one.stdout.close()


def test_closing_ends_processes_that_nobody_guards_any_more() -> None:
    bench = RuntimeDirectory()
    left = subprocess.Popen(["sleep", "1000"], env={**os.environ, MARK: bench.token})
    bench.close()
    assert left.wait(20) == -signal.SIGKILL


def test_one_does_not_kill_oneself(root: Path) -> None:
    """`bentpipe clean` may be typed in a shell that a dead bench has left behind."""
    code = "from emulator.bench.runtime import *; print(kill_processes_of('x-1'), processes_of('x-1'))"
    environment = {**os.environ, MARK: "x-1", "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] []"


def test_a_lock_has_one_holder_and_its_file_goes_with_the_last(tmp_path: Path) -> None:
    """Each of those who want it adds one, by reading and writing; none is lost, however often the file is removed."""
    (tmp_path / "count").write_text("0")
    code = (
        "import sys; from pathlib import Path; from emulator.bench.runtime import holding, take_lock\n"
        "left = 300\n"
        "while left:\n"
        "    lock = take_lock(Path(sys.argv[1]) / 'one.lock')\n"
        "    if lock is None: continue\n"
        "    with holding(lock):\n"
        "        count = Path(sys.argv[1]) / 'count'; count.write_text(str(int(count.read_text()) + 1)); left -= 1\n"
    )
    crew = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(60) for process in crew] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "900"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_locks_of_the_dead_go_and_those_of_the_living_stay(root: Path) -> None:
    bench = RuntimeDirectory()
    bench.take_address_number(set())
    for name in ("address-7.lock", "card-1-2.lock"):
        (root / name).touch()
    remove_leftovers()
    assert sorted(path.name for path in root.iterdir()) == sorted([bench.token, "address-0.lock"])
    bench.close()
    assert list(root.iterdir()) == []


def test_numbers_of_addresses_are_each_given_once() -> None:
    benches = [RuntimeDirectory() for _ in range(4)]
    assert [bench.take_address_number({1}) for bench in benches] == [0, 2, 3, 4]
    benches[1].close()
    late = RuntimeDirectory()
    assert late.take_address_number(set()) == 1
    later = RuntimeDirectory()
    assert later.take_address_number({1}) == 2
    for bench in (benches[0], *benches[2:], late, later):
        bench.close()


def test_when_all_numbers_are_taken_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "ADDRESSES", 2)
    bench = RuntimeDirectory()
    with pytest.raises(InterfaceError, match="2 networks"):
        bench.take_address_number({0, 1})
    bench.close()


def test_processes_are_known_by_their_mark_alone() -> None:
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, MARK: "a-b"}) as one:
        # the environment is that of the new program once it runs
        ready = os.pidfd_open(one.pid)
        assert not select.select([ready], [], [], 0)[0]
        os.close(ready)
        while not processes_of("a-b"):
            assert one.poll() is None
        assert processes_of("a-b") == [one.pid]
        assert processes_of("a") == []
        one.kill()


def test_a_root_that_is_open_to_others_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(EndpointError, match="open to others"):
        runtime_root()
    (root / "bentpipe").mkdir()
    (root / "bentpipe").chmod(0o777)
    monkeypatch.setattr(runtime, "outer_user", lambda: 4_000_000_000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root))
    monkeypatch.delenv("BENTPIPE_RUNTIME_DIR")
    chosen = runtime_root()
    assert chosen == Path("/tmp/bentpipe-4000000000"), "where nobody named one, the next will do"
    chosen.rmdir()


def test_no_root_at_all_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENTPIPE_RUNTIME_DIR")
    monkeypatch.setattr(runtime, "outer_user", lambda: "none/such")  # /tmp/bentpipe-none/such
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    Path("/tmp/bentpipe-none").write_text("")
    try:
        with pytest.raises(EndpointError, match="BENTPIPE_RUNTIME_DIR"):
            runtime_root()
    finally:
        Path("/tmp/bentpipe-none").unlink()


def test_a_directory_that_was_named_and_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(EndpointError, match=r"file.*BENTPIPE_RUNTIME_DIR"):
        runtime_root()


def test_a_disk_that_takes_no_more_is_told_in_one_line() -> None:
    bench = RuntimeDirectory()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(EndpointError, match=r"bench\.json.*cannot be written: File too large$"):
            bench.describe({})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        bench.close()
