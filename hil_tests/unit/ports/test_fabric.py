"""The ZeroMQ fabric where its second process fails it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from emulator.errors import EmulationError, EndpointError
from emulator.ports import fabric
from emulator.ports.fabric import SOCKETS, FabricRelay
from emulator.ports.mirror import MirroredLink
from emulator.timeline.model import Channel
from hil_tests.unit.ports.carriers import END_NS, SMALL, rig

pytestmark = pytest.mark.needs("compiled")
OPEN = Channel.constant(0, delay_ns=0)
LONGEST_SOCKET_PATH = 107  # unix(7): sun_path, less its final 0


def test_a_link_process_that_dies_before_it_connects_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric, "child_command", lambda *_: [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"])
    with pytest.raises(EmulationError, match="link process has ended with status 3"), rig(OPEN, fabric="zmq"):
        pass


def test_a_question_that_was_interrupted_does_not_bar_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(OPEN, fabric="zmq") as run:
        relay = run.relay
        assert isinstance(relay, FabricRelay)

        def interrupted(step: object) -> None:
            step()  # type: ignore[operator]
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(relay, "_patiently", interrupted)
            with pytest.raises(KeyboardInterrupt):
                relay.counters()
        assert relay.counters().broken_batches == 0


@pytest.mark.parametrize("length", [LONGEST_SOCKET_PATH - max(map(len, SOCKETS)) - 1, LONGEST_SOCKET_PATH])
def test_a_directory_may_be_as_long_as_sockets_allow(length: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bp", dir="/tmp") as base:
        directory = Path(base, "x" * (length - len(base) - 1))
        directory.mkdir()
        links = [MirroredLink(OPEN, END_NS, seed=1, direction=way, options=SMALL) for way in range(2)]
        relay = FabricRelay(links[0], links[1], -1, -1, (-1, -1), directory=directory)
        try:
            if length == LONGEST_SOCKET_PATH:
                with pytest.raises(EndpointError, match="set BENTPIPE_RUNTIME_DIR to another, shorter directory"):
                    relay.start()
            else:
                relay.start()
                assert relay.counters().uplink.offered_packets == 0
        finally:
            relay.stop()
