"""Two network cards, and the link between them: what one side sends is what the other gets, later."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.bench import Bench
from emulator.bench.cards import GRACE_NS, Mirror
from emulator.errors import EmulationError, InterfaceError
from emulator.link.link import DirectionCounters
from emulator.ports.nic import IFF_UP, NicPort
from emulator.timeline.causes import Cause
from hil_tests.bench.living import finished, new_world, until
from hil_tests.bench.wires import CARDS, Wires, inline, receive, sh, wires
from hil_tests.unit.link.packets import Super, filler, packet
from hil_tests.unit.link.test_conservation import adds_up
from hil_tests.unit.link.test_ethernet import ETHERTYPE, MACS, TAGS, lifted

pytestmark = pytest.mark.needs("root", "netns", "compiled", "ip")


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path / "r"))


@pytest.fixture
def cables() -> Iterator[Wires]:
    with wires() as found:
        yield found


@pytest.fixture
def quiet() -> Iterator[Wires]:
    with wires(addresses=False) as found:
        yield found


def settled(bench: Bench, offered: int) -> tuple[DirectionCounters, DirectionCounters]:
    """The counters of both directions once `offered` packets have come in and nothing is under way."""

    def reached() -> tuple[DirectionCounters, DirectionCounters] | None:
        counted = bench.counters()
        both = counted.uplink, counted.downlink
        done = sum(way.offered_packets for way in both) >= offered and not any(way.held_packets for way in both)
        return both if done else None

    both: tuple[DirectionCounters, DirectionCounters] = until(reached)
    return both


# traffic


@pytest.mark.needs("ping", "ipv6")
@pytest.mark.parametrize("fabric", ["direct", "zmq"])
def test_ping_finds_its_way_and_takes_the_links_time(cables: Wires, fabric: str) -> None:
    """Address resolution (ARP, neighbour discovery) crosses the link too: it is Ethernet's, and untouched."""
    with inline(cables, fabric=fabric) as bench:
        for target in (cables.datacenter.ipv4, cables.datacenter.ipv6):
            said = cables.terminal.sh(f"ping -c 3 -i 0.1 {target}")
            assert " 0% packet loss" in said
            assert float(said.split("min/avg/max/mdev = ")[1].split("/")[0]) >= 10.0
        known = cables.terminal.sh("ip neigh show dev h0")
        assert cables.datacenter.ipv4 in known
        assert cables.datacenter.ipv6 in known
        assert all(adds_up(way) for way in settled(bench, 16))


@pytest.mark.needs("iperf3", "ipv6")
def test_tcp_and_udp_cross_both_ways_over_both_ips(cables: Wires) -> None:
    """With whatever the cards' offloads make of it: nothing is broken, and nothing lost but where a receiver slept."""
    lost = 0
    with inline(cables) as bench:
        for options in ("", "-R", "-6", "-6 -R", "-u -b 50M", "-u -b 50M -R", "-6 -u -b 50M"):
            target = cables.datacenter.ipv6 if "-6" in options else cables.datacenter.ipv4
            server = cables.datacenter.space.run(
                lambda: subprocess.Popen(["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True)
            )
            assert server.stdout is not None
            assert any("listening" in said for said in iter(server.stdout.readline, ""))
            result = json.loads(
                cables.terminal.sh(f"iperf3 -J -c {target} -n 4M -l {1200 if '-u' in options else 65536} {options}")
            )
            server.communicate(timeout=30)
            assert "error" not in result
            if "-u" in options:
                lost += result["end"]["sum"]["lost_packets"]
            else:
                assert result["end"]["sum_sent"]["bytes"] >= 4_000_000
        up, down = settled(bench, 10_000)
        assert up.dropped == down.dropped == {}
        assert lost <= sum(host.space.run(slept_over) for host in (cables.terminal, cables.datacenter))
        assert up.offered_packets == up.delivered_packets > 8_000
        assert bench.counters().relay.ingress_wait_worst_ns == 0, "each arrival has the kernel's stamp"


def slept_over() -> int:
    """Datagrams of the calling thread's network that were sound and found no room in their receiver's socket."""
    names, values = (
        line.split()[1:] for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if "Udp:" in line
    )
    six = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
    return int(values[names.index("RcvbufErrors")]) + int(six["Udp6RcvbufErrors"])


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("fabric", ["direct", "zmq"])
def test_tags_and_what_is_not_ip_arrive_as_they_were_sent(quiet: Wires, tags: bytes, fabric: str) -> None:
    frames = [
        MACS + tags + ETHERTYPE[4] + packet(200, 1),
        MACS + tags + b"\x08\x06" + filler(28, 2),
        MACS + tags + b"\x88\xb5" + filler(1400, 3),
    ]
    with inline(quiet, fabric=fabric) as bench, quiet.terminal.raw() as here, quiet.datacenter.raw() as there:
        for frame in frames:
            here.send(frame)
        assert [receive(there) for _ in frames] == frames
        for frame in frames:
            there.send(frame)
        assert [receive(here) for _ in frames] == frames
        up, down = settled(bench, 6)
        assert up.offered_bytes == down.offered_bytes == 200 + 28 + 1400
        assert up.delivered_packets == down.delivered_packets == 3


@pytest.mark.parametrize("tags", TAGS[:2])
@pytest.mark.parametrize("burst", [Super("tcp", 4, 8 * 1000, 1000, 1), Super("udp", 6, 8 * 1000, 1000, 2)])
def test_a_super_packet_is_cut_where_the_link_cuts_it(quiet: Wires, burst: Super, tags: bytes) -> None:
    """80 ms apart its packets leave one by one, each with its tag, its own lengths and a sound checksum."""
    sent = lifted(tags, burst.frame())
    with inline(quiet, "link.rate_mbps=0.1", "link.delay_ms=0") as bench, quiet.datacenter.raw() as there:
        host = NicPort(quiet.terminal.space, "h0", queue_packets=100)
        try:
            host_socket = host._socket
            assert host_socket is not None
            host_socket.send(sent)
            got = [receive(there) for _ in range(8)]
        finally:
            host.close()
        headers = len(MACS + tags) + 2 + burst.header_bytes
        assert {len(frame) for frame in got} == {headers + 1000}
        assert all(frame.startswith(MACS + tags) for frame in got)
        assert b"".join(frame[headers:] for frame in got) == filler(8000, burst.number)
        up, _ = settled(bench, 8)
        assert (up.offered_packets, up.delivered_packets, up.dropped) == (8, 8, {})


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_noise_on_the_wire_is_carried_or_counted(noisy: tuple[Bench, socket.socket], data: st.DataObject) -> None:
    bench, here = noisy
    before = bench.counters().uplink.offered_packets
    frames = data.draw(st.lists(st.binary(min_size=14, max_size=1514), min_size=1, max_size=8))
    for frame in frames:
        here.send(frame)
    up, _ = settled(bench, before + len(frames))
    assert adds_up(up)
    assert set(up.dropped) <= {Cause.MALFORMED, Cause.TOO_LONG}


@pytest.fixture
def noisy(quiet: Wires) -> Iterator[tuple[Bench, socket.socket]]:
    with inline(quiet, "link.delay_ms=0") as bench, quiet.terminal.raw() as here:
        yield bench, here


def test_what_the_other_card_could_not_take_is_dropped_with_its_cause(quiet: Wires) -> None:
    sh(quiet.middle, "ip link set eth1 mtu 4000; ip link set eth2 mtu 1400")
    quiet.terminal.sh("ip link set h0 mtu 4000")
    with inline(quiet) as bench, quiet.terminal.raw() as here, quiet.datacenter.raw() as there:
        assert any("longer than 1400 bytes are dropped" in warning for warning in bench.warnings)
        for length in (1401, 3000, 1400):
            here.send(MACS + ETHERTYPE[4] + packet(length, length))
        assert receive(there) == MACS + ETHERTYPE[4] + packet(1400, 1400)
        up, _ = settled(bench, 3)
        assert up.dropped == {Cause.TOO_LONG: 2}


def test_an_injected_packet_goes_to_everybody_at_the_far_side(quiet: Wires) -> None:
    with inline(quiet) as bench, quiet.terminal.raw() as there:
        bench.inject("downlink", packet(60, 5))
        frame = receive(there)
        assert (frame[:6], frame[12:14], frame[14:]) == (b"\xff" * 6, b"\x08\x00", packet(60, 5))


# carrier


def test_a_carrier_that_goes_on_one_side_goes_on_the_other_and_comes_back(quiet: Wires) -> None:
    with inline(quiet) as bench, quiet.terminal.raw() as here, quiet.datacenter.raw() as there:
        until(lambda: quiet.terminal.running() and quiet.datacenter.running())
        quiet.terminal.sh("ip link set h0 down")
        until(lambda: not quiet.datacenter.running())
        assert not quiet.flags("eth2") & IFF_UP
        quiet.terminal.sh("ip link set h0 up")
        until(lambda: quiet.terminal.running() and quiet.datacenter.running())
        assert [warning.partition(":")[0] for warning in bench.warnings] == [
            "the carrier of eth1 is lost",
            "the carrier of eth1 is back",
        ]
        with contextlib.suppress(OSError):
            here.recv(1, socket.MSG_DONTWAIT)  # that h0 was down
        frame = MACS + b"\x88\xb5" + filler(100, 1)
        here.send(frame)
        assert until(lambda: receive(there)) == frame
        assert bench.counters().uplink.delivered_packets == 1


class Cable:
    """What a card would show: its carrier comes `slow_ns` after both ends are up."""

    def __init__(self) -> None:
        self.up, self.plugged, self.since_ns = True, True, 0

    def running(self, now_ns: int, slow_ns: int) -> bool:
        return self.up and self.plugged and now_ns >= self.since_ns + slow_ns


@given(
    st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(1, 30)), max_size=20),
    st.integers(0, GRACE_NS - 2 * 10**9),
)
def test_when_both_cables_are_in_both_cards_come_up_and_stay(events: list[tuple[int, bool, int]], slow_ns: int) -> None:
    """Whatever was pulled and plugged before, and however slowly a card finds its carrier: no card takes turns."""
    mirror, cables, now = Mirror(0), (Cable(), Cable()), 0
    second = 10**9

    def passes(seconds: int) -> list[tuple[bool | None, bool | None]]:
        nonlocal now
        taken = []
        for _ in range(seconds):
            now += second
            actions = mirror.step(now, (cables[0].running(now, slow_ns), cables[1].running(now, slow_ns)))
            for cable, action in zip(cables, actions, strict=True):
                if action is not None:
                    cable.up, cable.since_ns = action, now
            taken.append(actions)
        return taken

    for side, plugged, seconds in events:
        if plugged != cables[side].plugged:
            cables[side].plugged, cables[side].since_ns = plugged, now
        passes(seconds)
    for cable in cables:
        if not cable.plugged:
            cable.plugged, cable.since_ns = True, now
    passes(60)
    assert all(cable.up for cable in cables)
    assert set(passes(60)) == {(None, None)}


@given(st.integers(0, 1))
def test_while_one_cable_is_out_the_other_side_sees_no_carrier(side: int) -> None:
    mirror, second = Mirror(0), 10**9
    mirror.step(second, (True, True))
    running = [True, True]
    running[side] = False
    actions = mirror.step(2 * second, (running[0], running[1]))
    assert actions[1 - side] is False
    assert actions[side] is None
    assert mirror.step(99 * second, (False, False)) == (None, None)
    running[1 - side], running[side] = False, True
    assert mirror.step(100 * second, (running[0], running[1]))[1 - side] is True


# life


def test_the_cards_are_given_back_as_they_were(quiet: Wires) -> None:
    sh(quiet.middle, "ip link set eth2 up")
    with inline(quiet):
        assert all(quiet.flags(card) & IFF_UP for card in CARDS)
        assert quiet.promiscuous("eth1")
    assert not quiet.flags("eth1") & IFF_UP
    assert quiet.flags("eth2") & IFF_UP
    assert not quiet.promiscuous("eth1")


def test_a_card_that_the_bench_took_down_is_given_back_up(quiet: Wires) -> None:
    sh(quiet.middle, "ip link set eth1 up; ip link set eth2 up")
    with inline(quiet):
        until(quiet.datacenter.running)
        quiet.terminal.sh("ip link set h0 down")
        until(lambda: not quiet.flags("eth2") & IFF_UP)
    assert quiet.flags("eth2") & IFF_UP


def test_after_kill_9_the_cards_are_as_they_were() -> None:
    with wires(addresses=False) as found, new_world() as world:
        space, world.space = world.space, found.middle
        sh(found.middle, "ip link set eth2 up")
        process = world.bentpipe("run", "fixed", "--nic", ",".join(CARDS), "--quiet")
        until(lambda: found.promiscuous("eth1") or process.poll() is not None)
        assert process.poll() is None, finished(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not found.flags("eth1") & IFF_UP)
        assert found.flags("eth2") & IFF_UP
        assert not found.promiscuous("eth1") | found.promiscuous("eth2")
        again = world.bentpipe("run", "fixed", "--nic", ",".join(CARDS), "--quiet", "--duration", "1", "--json")
        assert json.loads(finished(again).stdout)["uplink"]["held_packets"] == 0
        world.space = space


def test_a_card_that_is_pulled_out_ends_the_bench_with_its_name(quiet: Wires) -> None:
    with inline(quiet) as bench:
        sh(quiet.middle, "ip link del eth1")

        def told() -> str:
            try:
                bench.counters()
            except EmulationError as error:
                return str(error)
            return ""

        assert until(told) == "the bench lost a network card: interface eth1 has gone"


# refusals


def refusal(found: Wires, *overrides: str) -> str:
    with pytest.raises(InterfaceError) as refused, inline(found, *overrides):
        pass
    return str(refused.value)


def test_the_card_of_the_default_route_is_refused_unless_forced(quiet: Wires) -> None:
    sh(quiet.middle, "ip link set eth1 up; ip addr add 10.1.0.1/24 dev eth1; ip route add default via 10.1.0.2")
    assert "eth1: this machine's default route leaves by it" in refusal(quiet)
    assert not quiet.promiscuous("eth1")
    with inline(quiet, "ports.force=true") as bench:
        assert any("this machine answers there too" in warning for warning in bench.warnings)


def test_a_card_of_a_bridge_is_refused(quiet: Wires) -> None:
    sh(quiet.middle, "ip link add br7 type bridge; ip link set eth2 master br7")
    assert "eth2: it belongs to br7" in refusal(quiet)


def test_a_card_that_is_not_there_is_told_with_those_that_are(quiet: Wires) -> None:
    assert refusal(quiet, "ports.terminal=eth9") == "interface eth9: there is none; this machine has eth1, eth2"


@pytest.mark.parametrize("terminal", ["", "eth2"])
def test_one_card_is_not_enough(quiet: Wires, terminal: str) -> None:
    assert "expected two network cards" in refusal(quiet, f"ports.terminal={terminal}")


def test_what_is_no_ethernet_is_refused(quiet: Wires) -> None:
    assert "lo: expected an Ethernet card" in refusal(quiet, "ports.terminal=lo")


def test_a_card_that_another_bench_has_is_refused(quiet: Wires) -> None:
    with inline(quiet) as bench:
        assert refusal(quiet) == "interface eth1: another bench has taken it"
        assert bench.counters().uplink.offered_packets == 0


def test_run_takes_cards_and_shell_refuses_them() -> None:
    with wires() as found, new_world() as world:
        space, world.space = world.space, found.middle
        keys = [word for key in ("kind=nic", "terminal=eth1", "datacenter=eth2") for word in ("--set", f"ports.{key}")]
        told = finished(world.bentpipe("shell", "fixed", *keys, "--", "true"))
        assert told.returncode == 2
        assert "bentpipe run" in told.stderr
        refused = finished(world.bentpipe("run", "fixed", "--nic", "eth1"))
        assert refused.returncode == 2
        assert "eth1,eth2" in refused.stderr
        world.space = space


# who is wired to them


@pytest.mark.needs("ip")
def test_a_side_is_entered_where_the_scenario_says_that_it_is_here(cables: Wires) -> None:
    def enter(side: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "emulator.cli.main", "enter", "--at", side, "--", "ip", "-br", "link"]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    with inline(cables):
        for side in ("terminal", "datacenter"):
            refused = enter(side)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert f"--at {side}: this side of the bench is not in reach from here" in refused.stderr
    with inline(
        cables,
        'ports.terminal_host={remote=["ssh", "terminal"]}',
        f'ports.datacenter_host={{namespace="{cables.datacenter.space.path}"}}',
    ):
        assert enter("terminal").returncode == 2
        assert "h0" in enter("datacenter").stdout
