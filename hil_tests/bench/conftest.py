"""What tests of benches share: a network of its own for one test, which is as empty afterwards as it was before."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.ports.namespace import CLONE_NEWNET, Namespace

LOOK = "ip -o link; ip route show table all; ip -6 route; ip rule; ip netns; nft list ruleset; ss -Hanltup"


def network() -> str:
    """Interfaces, routes, rules and sockets of the network that this thread is in."""
    ours = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}  # whatever the test has done to it
    return subprocess.run(["/bin/sh", "-ec", LOOK], env=ours, capture_output=True, text=True, check=True).stdout


def held_namespaces() -> set[str]:
    """Network namespaces that this process keeps alive: by a descriptor, or by a thread that is in them."""
    found = set()
    for place in (*Path("/proc/self/fd").iterdir(), *Path("/proc/self/task").glob("*/ns/net")):
        with contextlib.suppress(OSError):  # the folder's own descriptor, a thread that has just ended
            found.add(str(place.readlink()))
    return {target for target in found if target.startswith("net:")}


def enter(place: Namespace) -> None:
    """This thread goes there, and the threads and processes that it starts from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(place.descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def nothing_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runtime directory and a network for this test alone; it fails if anything is left in them.

    `ip`, `nft` and `ss` are asked what there is, and the kernel whether a namespace of a bench's lives on. Needs root.
    """
    runtime = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(runtime))
    with Namespace.current() as machine, Namespace.create() as alone:
        enter(alone)
        try:
            before, held = network(), held_namespaces()
            yield
            gc.collect()  # what the test has not closed is not the bench's
            assert network() == before
            assert held_namespaces() == held, "a namespace lives on"
            assert list(runtime.glob("*-*/")) == []
        finally:
            enter(machine)
