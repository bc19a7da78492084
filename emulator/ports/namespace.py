"""Unnamed network namespaces: held by a file descriptor, so that the kernel removes them with the last holder.

Nothing is bound to a name under /run/netns; after `kill -9` nothing remains.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from emulator.errors import PrivilegeError

Result = TypeVar("Result")

CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h

_libc = ctypes.CDLL(None, use_errno=True)


def _system_call(attempt: str, status: int) -> None:
    """Raises PrivilegeError or OSError naming what was attempted, if `status` says that it failed."""
    if status == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS):
        raise PrivilegeError(f"{attempt}: {os.strerror(code)}; try as root, or see `bentpipe doctor`")
    raise OSError(code, f"{attempt}: {os.strerror(code)}")


def become_root_of_own_namespace() -> None:
    """Moves this process, which has one thread, into a user namespace of its own, as root, with a network of its own.

    Of that network there is the loopback. Raises PrivilegeError where the kernel or its administrator does not allow
    it.
    """
    uid, gid = os.geteuid(), os.getegid()
    _system_call("a user namespace of our own (unshare)", _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET))
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as error:
        raise PrivilegeError(f"a user namespace of our own: its user map was refused ({error.strerror})") from error
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:  # a new network's loopback is down
        fcntl.ioctl(asked, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def enter_namespaces(pid: int, network: Path) -> None:
    """Moves this process, which has one thread, to where process `pid` lives, and into the network at `network`.

    `network`: as `Namespace.path` names it. Raises PrivilegeError, or OSError if either is gone.
    """
    own_user, their_user = Path("/proc/self/ns/user"), Path(f"/proc/{pid}/ns/user")
    with network.open("rb") as wanted, their_user.open("rb") as user:  # both before the first move
        if own_user.stat().st_ino != their_user.stat().st_ino:
            _system_call("entering the bench's user namespace (setns)", _libc.setns(user.fileno(), CLONE_NEWUSER))
        _system_call("entering the bench's network (setns)", _libc.setns(wanted.fileno(), CLONE_NEWNET))


class Namespace:
    """A network namespace, as a file descriptor. Use as a context, or `close` it."""

    def __init__(self, descriptor: int, *, ours: bool = False) -> None:
        self.descriptor, self._ours = descriptor, ours

    @classmethod
    def create(cls) -> Namespace:
        """A new, empty one, its loopback up. Raises PrivilegeError."""

        def make() -> Namespace:
            _system_call("a network namespace (unshare)", _libc.unshare(CLONE_NEWNET))
            from pyroute2 import IPRoute

            with IPRoute() as netlink:
                netlink.link("set", index=1, state="up")
            return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), ours=True)

        return in_thread(make)

    @classmethod
    def current(cls) -> Namespace:
        """The one that this thread is in."""
        return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @property
    def inode(self) -> int:
        """The number by which the kernel shows it: processes in it have it in /proc/<pid>/ns/net."""
        return os.fstat(self.descriptor).st_ino

    @property
    def path(self) -> str:
        """Where another process of this user finds it while this one lives, as nsenter(1) takes it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def run(self, work: Callable[[], Result]) -> Result:
        """Does `work` in a thread that has entered this namespace; sockets and devices made there belong to it."""

        def enter_and_work() -> Result:
            _system_call("entering a network namespace (setns)", _libc.setns(self.descriptor, CLONE_NEWNET))
            return work()

        return in_thread(enter_and_work)

    def close(self) -> None:
        """Lets go of it. In one of our own, what programs left unsent in TCP is given up soon.

        The kernel would try to send it for some minutes, keep the namespace for so long, and take it off the memory
        that TCP has on this machine (tcp_mem): the next bench's windows then do not open beyond 64 KiB.
        """
        if self.descriptor >= 0:
            try:
                if self._ours:  # a favour to the next bench: /proc/sys may be read-only, and entering be refused
                    with contextlib.suppress(OSError, PrivilegeError):
                        self.run(lambda: Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1"))
            finally:
                os.close(self.descriptor)
                self.descriptor = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def in_thread(work: Callable[[], Result]) -> Result:
    """Does `work` in a thread of its own, which may change its namespaces, and gives back what it gave or raised."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 (handed to the caller below)
            failure.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
