"""The directory of a running bench, and what dead ones left behind.

Each bench has a directory of mode 0700 with a lock that it holds while it lives: whoever can take the lock knows that
the bench is dead, and clears up after it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from emulator.bench.privilege import outer_user
from emulator.errors import EndpointError, InterfaceError

MARK = "BENTPIPE_BENCH"  # in the environment of every process of a bench
LOCKS = ("address-*.lock", "card-*.lock")  # of what benches must not share, in `runtime_root`
ADDRESSES = 1024  # benches side by side in one network namespace


def runtime_root() -> Path:
    """Where this user's benches live: $BENTPIPE_RUNTIME_DIR, /run/bentpipe (root), $XDG_RUNTIME_DIR or /tmp.

    Raises EndpointError if none can be written, or if it belongs to somebody else.
    """
    user = outer_user()
    configured, session = os.environ.get("BENTPIPE_RUNTIME_DIR"), os.environ.get("XDG_RUNTIME_DIR")
    if configured:  # who names one does not look for benches elsewhere
        candidates = [Path(configured)]
    else:
        candidates = [Path(f"/tmp/bentpipe-{user}")]
        if user == 0:
            candidates.insert(0, Path("/run/bentpipe"))
        elif session and os.access(session, os.W_OK):
            candidates.insert(0, Path(session) / "bentpipe")
    refused = []
    for path in candidates:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
                return path
            refused.append(f"{path} belongs to somebody else or is open to others")
        except OSError as error:
            refused.append(f"{path}: {error.strerror}")
    raise EndpointError(f"no directory for running benches: {'; '.join(refused)}; set BENTPIPE_RUNTIME_DIR")


def take_lock(path: Path) -> IO[str] | None:
    """An open file with the exclusive lock on `path`, made if need be; None if somebody holds it."""
    while True:
        lock = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                lock.close()
                return None
            if error.errno != errno.ENOENT:
                lock.close()
                raise
        lock.close()  # whoever held it has removed the file meanwhile


@contextlib.contextmanager
def holding(lock: IO[str]) -> Iterator[None]:
    """Removes the lock's file at the end, and then lets go of it."""
    with lock:
        try:
            yield
        finally:
            Path(lock.name).unlink(missing_ok=True)


class RuntimeDirectory:
    """A living bench's directory. `token` marks its processes."""

    def __init__(self) -> None:
        root = runtime_root()
        self.token = f"{os.getpid()}-{secrets.token_hex(4)}"
        draft = root / f".{self.token}"  # it gets its name when its lock is held: nobody takes it for a dead one
        try:
            draft.mkdir(mode=0o700)
            lock = take_lock(draft / "lock")
        except OSError as error:
            raise EndpointError(f"{draft}: cannot make a bench's directory: {error.strerror}") from error
        if lock is None:
            raise EndpointError(f"{draft}/lock: expected to be ours alone")
        self._lock = lock
        self.path = draft.rename(root / self.token)
        self._address_lock: IO[str] | None = None

    def describe(self, facts: dict[str, Any]) -> None:
        """Writes `bench.json`, whole or not at all."""
        draft = self.path / "bench.json.new"
        try:
            draft.write_text(json.dumps({"pid": os.getpid(), "token": self.token, **facts}, indent=1))
            draft.rename(self.path / "bench.json")
        except OSError as error:
            raise EndpointError(f"{draft}: cannot be written: {error.strerror}") from error

    def take_address_number(self, in_use: set[int]) -> int:
        """The lowest number below ADDRESSES that no other bench of this user has and that is not `in_use`."""
        for number in range(ADDRESSES):
            if number in in_use:
                continue
            self._address_lock = take_lock(self.path.parent / f"address-{number}.lock")
            if self._address_lock is not None:
                return number
        raise InterfaceError(f"addresses: all {ADDRESSES} networks for benches are taken; see `bentpipe clean`")

    def close(self) -> None:
        kill_processes_of(self.token)  # a guardian that was killed leaves its command's children to nobody
        shutil.rmtree(self.path, ignore_errors=True)
        if self._address_lock is not None:
            with holding(self._address_lock):
                self._address_lock = None
        self._lock.close()


def bench_directories() -> list[Path]:
    """The directories of this user's benches, living or dead, but for those that are only just being made."""
    with contextlib.suppress(EndpointError):
        return sorted(path for path in runtime_root().iterdir() if path.is_dir() and _is_bench(path))
    return []


def _is_bench(path: Path) -> bool:
    """A draft, whose name has a dot, counts only once its maker is gone: its lock may not be taken yet."""
    if path.name.startswith("."):
        return not Path("/proc", path.name[1:].partition("-")[0]).exists()
    return (path / "lock").exists()


def running_benches() -> list[Path]:
    """The runtime directories of this user's living benches that carry packets; each holds a `bench.json`."""
    running = []
    for path in bench_directories():
        with contextlib.suppress(OSError):
            lock = take_lock(path / "lock")
            if lock is not None:
                lock.close()
            elif (path / "bench.json").exists():
                running.append(path)
    return running


def remove_leftovers() -> list[str]:
    """Removes what dead benches left: processes, sockets, directories. Returns a line for each thing removed.

    Namespaces and TUN devices go by themselves with the last process that holds them.
    """
    removed = []
    for path in bench_directories():
        try:
            lock = take_lock(path / "lock")
        except OSError:
            continue
        if lock is None:
            continue
        with lock:
            removed += [f"process {pid} of bench {path.name}" for pid in kill_processes_of(path.name)]
            shutil.rmtree(path, ignore_errors=True)
            removed.append(f"runtime directory of bench {path.name}")
    _remove_free_locks()
    return removed


def _remove_free_locks() -> None:
    """Files that keep others off an address or a card, of benches that were killed."""
    with contextlib.suppress(EndpointError):
        for path in [one for kind in LOCKS for one in runtime_root().glob(kind)]:
            with contextlib.suppress(OSError):
                if (lock := take_lock(path)) is not None:
                    with holding(lock):
                        pass


def kill_processes_of(token: str) -> list[int]:
    """Kills the processes that carry the mark of bench `token`, and returns them."""
    killed = []
    for pid in processes_of(token):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def processes_of(token: str) -> list[int]:
    """Processes, other than this one, whose environment carries the mark of bench `token`."""
    wanted = f"{MARK}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
