"""Unnamed network namespaces: alive while somebody holds them, gone with the last one."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTM_DELLINK, RTMGRP_LINK

from emulator.errors import PrivilegeError
from emulator.ports import namespace
from emulator.ports.namespace import Namespace, in_thread

pytestmark = pytest.mark.needs("netns", "root")


def interfaces() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex())


def test_a_new_one_has_a_loopback_that_is_up_and_nothing_else() -> None:
    with Namespace.create() as new:
        assert new.run(interfaces) == ["lo"]
        assert new.run(lambda: Path("/proc/thread-self/net/if_inet6").read_text().split()[-1]) == "lo"

        def talk() -> bytes:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.bind(("127.0.0.1", 0))
                one.sendto(b"x", one.getsockname())
                return one.recv(1)

        assert new.run(talk) == b"x"


def test_no_thread_of_ours_stays_in_it() -> None:
    before = interfaces()
    with Namespace.create() as new:
        new.run(interfaces)
        assert interfaces() == before
        assert new.inode != Namespace.current().inode


def test_it_has_no_name_that_could_stay_behind() -> None:
    def named() -> list[str]:
        return sorted(os.listdir("/run/netns")) if Path("/run/netns").exists() else []

    before = named()
    with Namespace.create():
        assert named() == before


def test_what_is_raised_inside_is_raised_outside_and_nothing_leaks() -> None:
    def fail() -> None:
        raise KeyError("inside")

    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    with Namespace.create() as new, pytest.raises(KeyError):
        new.run(fail)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads


def test_closing_twice_is_closing_once() -> None:
    new = Namespace.create()
    new.close()
    new.close()
    assert new.descriptor == -1


def test_who_may_no_longer_enter_lets_go_all_the_same() -> None:
    """A thread that has given up its capabilities; those that it starts have none either."""
    version_3, here = struct.pack("Ii", 0x20080522, 0), bytes(24)  # linux/capability.h
    new = Namespace.create()

    def give_up_and_close() -> None:
        assert namespace._libc.capset(version_3, here) == 0
        with pytest.raises(PrivilegeError, match="entering a network namespace"):
            new.run(interfaces)
        new.close()

    in_thread(give_up_and_close)
    assert new.descriptor == -1


def test_what_a_program_left_unsent_does_not_keep_one_that_is_closed() -> None:
    """A closed socket with data that nobody takes: the kernel would hold the namespace, and its end of the veth."""
    with Namespace.create() as near, Namespace.create() as far:

        def join() -> None:
            with IPRoute() as netlink:
                netlink.link("add", ifname="near", kind="veth", peer={"ifname": "far", "net_ns_fd": far.descriptor})

        def set_state(name: str, state: str) -> None:
            with IPRoute() as netlink:
                netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state=state)

        def bring_up(name: str, address: str) -> None:
            with IPRoute() as netlink:
                netlink.addr("add", index=netlink.link_lookup(ifname=name)[0], address=address, prefixlen=24)
            set_state(name, "up")

        near.run(join)
        far.run(lambda: bring_up("far", "198.51.100.2"))
        near.run(lambda: bring_up("near", "198.51.100.1"))
        listener = far.run(lambda: socket.create_server(("198.51.100.2", 0)))
        watch = far.run(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
        client = near.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with listener, watch:
            watch.bind((0, RTMGRP_LINK))
            client.connect(listener.getsockname())
            with listener.accept()[0]:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        client.send(bytes(1 << 16))
                far.run(lambda: set_state("far", "down"))  # as a link that is gone: nobody answers the probes
                client.close()
                near.close()
                while int.from_bytes(watch.recv(1 << 16)[4:6], sys.byteorder) != RTM_DELLINK:  # within the test's limit
                    pass


def test_a_refusal_names_what_was_attempted() -> None:
    def drop_and_try() -> None:
        namespace._libc.unshare(0)
        os.setresuid(65_534, 65_534, 65_534)  # glibc would change all threads; the child below has one
        Namespace.create()

    pid = os.fork()
    if pid == 0:
        try:
            drop_and_try()
        except PrivilegeError as error:
            os._exit(0 if "network namespace" in str(error) and "doctor" in str(error) else 3)
        except BaseException:  # noqa: BLE001 (in a forked child nothing may get out)
            os._exit(4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_give_back_what_they_were_asked() -> None:
    assert in_thread(lambda: threading.current_thread().name) == "namespace"
