"""What this process may do with networks, and how an ordinary user gets a network to do it with."""

from __future__ import annotations

import os
from pathlib import Path

from emulator.errors import PrivilegeError
from emulator.ports.namespace import become_root_of_own_namespace

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21  # linux/capability.h


def may_configure_networks() -> bool:
    """Whether this process holds the capabilities that TUN devices and network namespaces need."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return bool(effective >> CAP_NET_ADMIN & 1 and effective >> CAP_SYS_ADMIN & 1)
    return False


def has_machine_network() -> bool:
    """Whether this process may configure the machine's own network; an ordinary user in its own namespace may not."""
    return may_configure_networks() and outer_user() == os.getuid()


def outer_user() -> int:
    """Our user number as the machine knows it: inside a user namespace of our own we are 0, outside we are not."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, outside, count = (int(number) for number in line.split())
        if inside <= os.getuid() < inside + count:
            return outside + os.getuid() - inside
    return os.getuid()


def ensure_network_privilege() -> bool:
    """Makes sure that we may make namespaces and TUN devices; True if that took a user namespace of our own.

    To be called before any thread is started (NumPy starts some): the kernel moves only processes of one thread.
    Raises PrivilegeError, with the remedy, where the kernel does not let ordinary users do this.
    """
    if may_configure_networks():
        return False
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise PrivilegeError(
            "the bench needs root, or a process of one thread that can move into a user namespace; "
            f"this one has {threads} threads: call ensure_network_privilege() first"
        )
    become_root_of_own_namespace()
    return True
