"""How the packet path is compiled: one decorator, and the traps of Numba's cache kept shut.

Numba's file cache notices a change in the file of the cached function, not in the files of the functions that it
calls, and it does not know about `NUMBA_BOUNDSCHECK`. So the cache directory's name is a hash of every compiled source,
of the versions of what compiles them and of the flags: another source, another cache.

With `NUMBA_DISABLE_JIT=1` the same functions run as plain Python: for coverage, a debugger and the property tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np

from emulator.link.nested import call_nested

Function = TypeVar("Function", bound=Callable[..., Any])

KEPT_CACHES = 16  # some MB each: checkouts side by side, branches and flags stay warm
ROOM_BYTES = 1 << 20  # what must be free where a cache is put; it grows to some 5 MB
EMULATOR = Path(__file__).parent.parent
COMPILED_FOLDERS = (EMULATOR / "link", EMULATOR / "ports")
COMPILES = re.compile(r"^@compiled|= compiled", re.MULTILINE)
IMPORTS = re.compile(r"^from emulator\.(\w+\.\w+) import", re.MULTILINE)
COMPILED_IN = (EMULATOR / "timeline" / "causes.py",)  # its numbers are constants of the compiled code

interpreted: bool = bool(numba.config.DISABLE_JIT)
bounds_checked: bool = bool(numba.config.BOUNDSCHECK)


def cache_key(sources: Iterable[Path], flags: str) -> str:
    """Hash of the compiled sources' names and contents, the versions that compile them, and `flags`."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    for part in (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__, flags):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:20]


def compiled_sources() -> list[Path]:
    """Every source file whose functions or constants may be compiled into the packet path.

    Those that compile something, and what they import of their folders, and what that imports.
    """
    text = {
        f"{folder.name}.{path.stem}": path.read_text() for folder in COMPILED_FOLDERS for path in folder.glob("*.py")
    }
    places = {f"{folder.name}.{path.stem}": path for folder in COMPILED_FOLDERS for path in folder.glob("*.py")}
    found: set[str] = set()
    wanted = [name for name, source in text.items() if COMPILES.search(source)]
    while wanted:
        name = wanted.pop()
        if name not in found and name in text:
            found.add(name)
            wanted += IMPORTS.findall(text[name])
    return [*COMPILED_IN, *sorted(places[name] for name in found)]


def candidate_roots() -> list[Path]:
    """Where a cache may live, best first: $BENTPIPE_CACHE_DIR, the user's cache directory, a private temporary one."""
    roots = []
    if configured := os.environ.get("BENTPIPE_CACHE_DIR"):
        roots.append(Path(configured).resolve())
    with contextlib.suppress(RuntimeError):  # no home directory
        roots.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "bentpipe")
    with contextlib.suppress(OSError):  # no temporary directory either
        roots.append(Path(tempfile.gettempdir()).resolve() / f"bentpipe-cache-{os.getuid()}")
    return roots


def private_directory(path: Path) -> bool:
    """True if `path` is, or could be made, a writable directory of ours that nobody else can write: it holds code."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()  # not what a link points to today
        others_may_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_may_write:
            return False
        with tempfile.TemporaryFile(dir=path, buffering=0) as file:  # a full disk makes files and takes no bytes
            return file.write(bytes(ROOM_BYTES)) == ROOM_BYTES
    except OSError:
        return False


def choose_cache() -> Path | None:
    """The cache directory of this build, made if need be; None where none is writable: then nothing is cached."""
    key = cache_key(compiled_sources(), f"boundscheck={bounds_checked}")
    for root in candidate_roots():
        directory = root / "compiled" / key
        with contextlib.suppress(OSError):
            root.parent.mkdir(parents=True, exist_ok=True)
        # each step of the way: who may write one of them could put another directory in the place of the next
        if all(private_directory(step) for step in (root, directory.parent, directory)):
            os.utime(directory)
            forget_old_caches(directory.parent, keep=directory)
            return directory
    return None


def forget_old_caches(parent: Path, keep: Path) -> None:
    """Removes all but the most recently used caches."""
    with contextlib.suppress(OSError):
        caches = sorted((path for path in parent.iterdir() if path != keep), key=lambda path: path.stat().st_mtime)
        for path in caches[: -KEPT_CACHES + 1]:
            shutil.rmtree(path, ignore_errors=True)


cache_faults: list[str] = []  # what kept a compiled function out of the cache
cache_directory: Path | None = None if interpreted else choose_cache()
if cache_directory is not None:
    numba.config.CACHE_DIR = str(cache_directory)  # read by Numba when a function is decorated


def compiled(function: Function, inline: bool = True) -> Function:
    """Compiles `function` on its first call, without the GIL, from the cache where there is one.

    Compiled functions allocate nothing: they work on the arrays that they are given. That lets Numba leave out the
    reference counts of those arrays, which would cost more than the packet path itself (1,600 ns a packet against 20).
    """
    options = {"nogil": True, "error_model": "numpy", "forceinline": inline, "_nrt": False}
    dispatcher = numba.njit(cache=cache_directory is not None, **options)(function)
    if not interpreted:
        call_nested(dispatcher, function, **options)
    if cache_directory is not None:
        _go_on_unsaved(dispatcher._cache)
    return dispatcher  # type: ignore[no-any-return,unused-ignore]


def _go_on_unsaved(cache: Any) -> None:
    """What was compiled is of use even where it cannot be saved: the disk may have filled up meanwhile."""
    save = cache.save_overload

    def save_if_possible(signature: Any, result: Any) -> None:
        try:
            save(signature, result)
        except OSError as error:
            cache_faults.append(f"{cache_directory}: {error.strerror or error}")

    cache.save_overload = save_if_possible


def cache_warning() -> str | None:
    """Why the packet path has to be compiled again at the next start, if it has to."""
    if cache_directory is None and not interpreted:
        places = ", ".join(map(str, candidate_roots()))
        reason = f"{places}: not private, not writable or full"
        return f"the packet path is compiled at every start, as it cannot be kept ({reason}); set BENTPIPE_CACHE_DIR"
    if cache_faults:
        return f"the compiled packet path could not be kept: {cache_faults[0]}"
    return None


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Around what may compile: Ctrl-C, SIGTERM and SIGHUP end it as their handlers say.

    LLVM's callbacks swallow the exception that a signal handler raises; the compilation then fails, or goes on as if
    nobody had asked for its end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handlers = {int(number): handler for number, handler in found.items() if callable(handler)}
    pending: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        pending.append(number)
        handlers[number](number, frame)

    def tell(unraisable: Any) -> None:  # what was raised in a callback, and is raised again below, is no news
        if not pending:
            told(unraisable)

    told, sys.unraisablehook = sys.unraisablehook, tell
    for number in handlers:
        signal.signal(number, remember)
    try:
        yield
    except Exception:
        if not pending:
            raise
    finally:
        sys.unraisablehook = told
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in pending:
        handlers[number](number, None)


def compiled_apart(function: Function) -> Function:
    """The same for a function that is called from several places and is worth a call: it is compiled once."""
    return compiled(function, inline=False)


@compiled
def bit_length(value: int) -> int:
    """Of a number below 2⁶³; 0 for 0."""
    length = 0
    if value >> 32:
        value, length = value >> 32, 32
    if value >> 16:
        value, length = value >> 16, length + 16
    if value >> 8:
        value, length = value >> 8, length + 8
    if value >> 4:
        value, length = value >> 4, length + 4
    if value >> 2:
        value, length = value >> 2, length + 2
    return length + (2 if value >> 1 else value)
