"""Runs one command inside a namespace and sees to it that nothing of it outlives the bench.

    python -I -S guardian.py NAMESPACE_FD LIFE_FD COMMAND [ARGUMENT …]

A process of its own, on the standard library alone, because it must start in milliseconds and survive `kill -9` of
the bench. LIFE_FD is the reading end of a pipe whose other end only the bench holds: its end is the bench's end. The
guardian is the sub-reaper of all that the command leaves behind, and ends it. Its exit status is the command's.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
CLONE_NEWNET = 0x40000000  # linux/sched.h
ROUND_S = 0.002
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 (pathlib takes longer to import than the rest of this file)
    except OSError:
        return found
    for task in tasks:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as listing:  # noqa: PTH123
            for child in listing.read().split():
                found += [int(child), *descendants(int(child))]
    return found


def end_all() -> None:
    """Kills what is below us until nothing is left; a process that forks while we look is found in the next round."""
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(ROUND_S)


def start(libc: ctypes.CDLL, command: list[str]) -> int:
    """Forks, and becomes `command` in the child."""
    pid = os.fork()
    if pid:
        return pid
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in (*FORWARDED, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"bentpipe: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def reap(child: int) -> int | None:
    """Buries whoever has ended, orphans of the command too; the status of `child` if it has."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                status = ended
    return status


def main() -> None:
    namespace, life, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    if namespace >= 0:
        if libc.setns(namespace, CLONE_NEWNET) != 0:
            sys.exit(f"bentpipe: entering the network namespace: {os.strerror(ctypes.get_errno())}")
        os.close(namespace)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.set_inheritable(life, False)
    waker, wakee = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakee, warn_on_full_buffer=False)
    for quiet in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, *FORWARDED):  # Ctrl-C reaches the command itself
        signal.signal(quiet, lambda *_: None)
    child = start(libc, command)
    while True:
        readable, _, _ = select.select([life, waker], [], [])
        if life in readable:  # the bench has ended
            end_all()
            sys.exit(1)
        for number in os.read(waker, 64):
            if number in FORWARDED:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
        status = reap(child)
        if status is not None:
            break
    end_all()
    if os.WIFSIGNALED(status):  # end as the command ended
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
