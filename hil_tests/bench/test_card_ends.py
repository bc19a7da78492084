"""A bench in three parts whose one end is a network card: hardware at the terminal's, a TAP device at the gateway's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench
from emulator.bench.end_side import Role, open_end
from emulator.bench.fabrics import Listening
from emulator.errors import InterfaceError
from emulator.ports.nic import IFF_UP
from emulator.scenario import load_scenario
from emulator.timeline.causes import Cause
from hil_tests.bench.living import World, children, finished, new_world, until
from hil_tests.bench.wires import Wires, sh, wires
from hil_tests.unit.link.packets import packet
from hil_tests.unit.link.test_conservation import adds_up
from hil_tests.unit.link.test_ethernet import ETHERTYPE, MACS

pytestmark = pytest.mark.needs("root", "netns", "tun", "compiled", "ip")
DELAY_MS = 20
TAP = ("--set", "ports.kind=tap")


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))


@pytest.fixture
def quiet() -> Iterator[Wires]:
    with wires(addresses=False) as found:
        yield found


@contextlib.contextmanager
def at_the_cards(found: Wires) -> Iterator[World]:
    """A world whose network is that in which the cards are."""
    with new_world() as world:
        space, world.space = world.space, found.middle
        try:
            yield world
        finally:
            world.space = space


def says(process: subprocess.Popen[str], wanted: str) -> None:
    """Reads on until it says that; fails if it never does."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if wanted in line:
            return
    raise AssertionError(f"never said {wanted!r}: {said}")


@contextlib.contextmanager
def link(directory: Path, *overrides: str) -> Iterator[tuple[Bench, tuple[str, str]]]:
    """A link that waits for its ends, and how these find it."""
    scenario = load_scenario("fixed", [f"link.delay_ms={DELAY_MS}", "link.rate_mbps=0", *overrides])
    endpoint = f"ipc://{directory / 's'}"
    with Bench(scenario, listening=Listening((endpoint,))) as bench:
        yield bench, ("--link", endpoint)


@pytest.mark.needs("ping")
def test_hardware_at_the_terminals_end_reaches_a_gateway_elsewhere(quiet: Wires, tmp_path: Path) -> None:
    """Over layer 2, ARP included; who kills that end finds the card as it was, and may start it again."""
    with link(tmp_path, "ports.kind=tap") as (bench, how), at_the_cards(quiet) as world:
        gateway = world.bentpipe("gateway", "fixed", *TAP, "--isolate", *how)
        sh(quiet.middle, "ip link set eth1 mtu 4000")
        quiet.terminal.sh("ip link set h0 mtu 4000; ip addr add 198.18.0.2/30 dev h0")

        def pinging() -> subprocess.Popen[str]:
            end = world.bentpipe("terminal", "fixed", "--nic", "eth1", *how)
            says(end, "terminal behind the network card eth1")
            says(end, "connected with the link")
            until(quiet.terminal.running)
            until(lambda: all(one.connected and one.clock.exchanges for one in bench.counters().relay.ends))
            said = quiet.terminal.sh("ping -c 3 -i 0.1 198.18.0.1")
            assert " 0% packet loss" in said
            assert float(said.split("min/avg/max/mdev = ")[1].split("/")[0]) >= 2 * DELAY_MS
            assert quiet.promiscuous("eth1")
            return end

        terminal = pinging()
        terminal.kill()
        terminal.wait()
        until(lambda: not quiet.flags("eth1") & IFF_UP and not quiet.promiscuous("eth1"))
        terminal = pinging()
        wrong = world.bentpipe("terminal", "fixed", *how)
        with quiet.terminal.raw() as here:
            for length in (1501, 3000, 1500):
                here.send(MACS + ETHERTYPE[4] + packet(length, length))
            counted = until(lambda: (now := bench.counters()).uplink.dropped.get(Cause.TOO_LONG) == 2 and now)
        assert adds_up(counted.uplink)
        assert adds_up(counted.downlink)
        refused = finished(wrong)
        assert refused.returncode == 71
        assert "both must be of one layer" in refused.stderr
        sh(quiet.middle, "ip link del eth1")
        gone = finished(terminal)
        assert gone.returncode == 75, gone.stderr
        assert "interface eth1 has gone" in gone.stderr
        gateway.send_signal(signal.SIGINT)
        assert finished(gateway).returncode == 0


@pytest.mark.long
def test_what_the_card_had_no_room_for_is_in_the_sum(quiet: Wires, tmp_path: Path) -> None:
    """The end's process stands still for a moment: what its card's socket could not keep is dropped, PORT_QUEUE."""
    with link(tmp_path, "ports.kind=nic") as (bench, how), at_the_cards(quiet) as world:
        few = ("--set", "ports.tx_queue_packets=1")
        gateway = world.bentpipe("gateway", "fixed", "--nic", "eth2", *few, *how)
        terminal = world.bentpipe("terminal", "fixed", "--nic", "eth1", *few, *how)
        says(gateway, "connected with the link")
        says(terminal, "connected with the link")
        until(quiet.have_carrier)
        (end,) = [pid for pid in children(terminal.pid) if b"end_part" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        frame, sent = MACS + ETHERTYPE[4] + packet(1400, 1), 6_000
        missed = before_the_card(quiet)
        with quiet.terminal.raw() as here:
            os.kill(end, signal.SIGSTOP)
            for _ in range(sent):
                here.send(frame)
            os.kill(end, signal.SIGCONT)
        missed = before_the_card(quiet) - missed
        up = until(lambda: (now := bench.counters().uplink).offered_packets == sent - missed and now)
        assert adds_up(up)
        assert up.dropped[Cause.PORT_QUEUE] > 0


def before_the_card(found: Wires) -> int:
    """What the kernel dropped on the cable: its backlog was full."""
    (told,) = json.loads(sh(found.middle, "ip -s -j link show eth1"))
    return int(told["stats64"]["rx"]["dropped"])


# refusals


def refusal(found: Wires, role: Role, *overrides: str) -> str:
    """What opening the end says, and that nothing of it is left."""

    def attempt() -> str:
        scenario = load_scenario("fixed", ["ports.kind=nic", *overrides])
        warnings: list[str] = []
        with pytest.raises(InterfaceError) as refused, open_end(scenario, role, isolate=True, warn=warnings.append):
            pass
        return str(refused.value)

    before = found.flags("eth1")
    said: Any = found.middle.run(attempt)
    assert not found.promiscuous("eth1")
    assert found.flags("eth1") == before
    return str(said)


def test_a_card_that_the_machine_needs_or_that_is_too_small_is_refused(quiet: Wires) -> None:
    eth1 = "ports.terminal=eth1"
    assert "ports.datacenter: expected the network card of this end" in refusal(quiet, "gateway", eth1)
    assert "interface eth9: there is none" in refusal(quiet, "terminal", "ports.terminal=eth9")
    small = refusal(quiet, "terminal", eth1, "ports.mtu=2000")
    assert "interface eth1: expected an MTU of ports.mtu, 2000, or more, got 1500" in small
    sh(quiet.middle, "ip link set eth1 up; ip addr add 10.1.0.1/24 dev eth1; ip route add default via 10.1.0.2")
    assert "eth1: this machine's default route leaves by it" in refusal(quiet, "terminal", eth1)


def test_a_card_of_the_default_route_may_be_forced(quiet: Wires) -> None:
    sh(quiet.middle, "ip link set eth1 up; ip addr add 10.1.0.1/24 dev eth1; ip route add default via 10.1.0.2")
    scenario = load_scenario("fixed", ["ports.kind=nic", "ports.terminal=eth1", "ports.force=true"])
    warnings: list[str] = []

    def opened() -> bool:
        with open_end(scenario, "terminal", isolate=True, warn=warnings.append):
            return quiet.promiscuous("eth1")

    assert quiet.middle.run(opened)
    assert any("this machine answers there too" in warning for warning in warnings)
    assert not quiet.promiscuous("eth1")
