"""Unnamed network namespaces: alive while somebody holds them, gone with the last one."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

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
