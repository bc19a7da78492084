"""Starts the modules of this very package as processes of their own: `python -P child.py MODULE [ARGUMENT …]`.

`python -m` puts the working directory before everything else on the path: a folder `emulator` there, anybody's, would
run in our place, as root at that. So the child finds the package by this file's own place, in a checkout and when it is
installed, and `-P` keeps the working directory and this file's folder off the path.
"""

import contextlib
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)


def child_command(module: str, *arguments: object) -> list[str]:
    """The command line that runs `module` of this package as a program."""
    return [sys.executable, "-P", __file__, module, *(str(argument) for argument in arguments)]


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started meanwhile do not hear Ctrl-C, which goes to all of a terminal's, before they
    `ignore_ctrl_c`: in the middle of their imports they would answer it with a traceback. We hear it at the end.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # the first process of `multiprocessing` starts it, and that ends the block
    came: list[tuple[int, FrameType | None]] = []
    in_main = threading.current_thread() is threading.main_thread()
    # a thread of a library's may still take the signal for us: the handler then runs, whatever is blocked here
    handler = signal.signal(signal.SIGINT, lambda *one: came.append(one)) if in_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if in_main:
            signal.signal(signal.SIGINT, handler)
        for one in came:
            if callable(handler):
                handler(*one)


def ignore_ctrl_c() -> None:
    """In a process that was started so: whoever started it is told, and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def main() -> None:
    """The child: becomes the module."""
    if PACKAGE_PARENT not in sys.path:
        sys.path.insert(0, PACKAGE_PARENT)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
