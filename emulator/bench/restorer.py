"""Gives network cards back as they were found, when the bench that took them has died: it survives `kill -9` of that.

    python -I -S restorer.py NAMESPACE_FD LIFE_FD NAME up|down …

A process of its own, on the standard library alone. LIFE_FD is the reading end of a pipe whose other end only the bench
holds. A byte on it says that the bench has restored the cards itself; its end without one, that it could not.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000  # linux/sched.h
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


def main() -> None:
    namespace, life, cards = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.read(life, 1):
        return
    ctypes.CDLL(None).setns(namespace, CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name, state in zip(cards[::2], cards[1::2], strict=True):
            with contextlib.suppress(OSError):  # it has gone
                request = struct.pack("16sH22x", name.encode(), 0)
                (flags,) = struct.unpack_from("16xH", fcntl.ioctl(control, SIOCGIFFLAGS, request))
                wanted = flags | IFF_UP if state == "up" else flags & ~IFF_UP
                fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), wanted))


if __name__ == "__main__":
    main()
