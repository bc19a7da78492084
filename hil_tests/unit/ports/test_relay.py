"""The packet loops between real sockets, without devices: what one end writes, the other reads, and nobody else."""

from __future__ import annotations

import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import EmulationError
from emulator.link.link import Change, LinkOptions
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import Super, frame, packet
from hil_tests.unit.link.strategies import MS, supers
from hil_tests.unit.ports.carriers import SMALL, Fabric, rig

pytestmark = [
    pytest.mark.needs("compiled"),
    pytest.mark.parametrize("fabric", ["direct", "zmq"]),
]
OPEN = Channel.constant(0, delay_ns=0)


def wire_packets(received: bytes) -> list[bytes]:
    """What a frame that was written stands for, by a link that changes nothing."""
    return [delivery.packet for delivery in drive(new_link(OPEN), [Offer(0, received)]).deliveries]


def test_each_port_feeds_the_other(fabric: Fabric) -> None:
    with rig(OPEN, fabric=fabric) as run:
        run.terminal.send(frame(100, 1))
        run.datacenter.send(frame(200, 2))
        assert run.datacenter.recv(1 << 17) == frame(100, 1)
        assert run.terminal.recv(1 << 17) == frame(200, 2)


def test_an_injected_packet_goes_where_an_offered_one_goes(fabric: Fabric) -> None:
    with rig(OPEN, fabric=fabric) as run:
        run.injectors[0].send(frame(100, 1))
        run.injectors[1].send(frame(200, 2))
        assert run.datacenter.recv(1 << 17) == frame(100, 1)
        assert run.terminal.recv(1 << 17) == frame(200, 2)
        up, down = run.counters()
    assert (up.offered_packets, down.offered_packets) == (1, 1)


def test_no_packet_comes_before_its_delay(fabric: Fabric) -> None:
    with rig(Channel.constant(0, delay_ns=20 * MS), fabric=fabric) as run:
        for number in range(5):
            before = time.monotonic_ns()
            run.terminal.send(frame(100, number))
            assert run.datacenter.recv(1 << 17) == frame(100, number)
            assert time.monotonic_ns() - before >= 20 * MS


def test_super_packets_arrive_as_their_segments(fabric: Fabric) -> None:
    """At a rate that tells the segments apart; they may come back together, but in order and unchanged."""
    with rig(Channel.constant(0, delay_ns=MS, rate_bps=2_000_000_000), fabric=fabric) as run:

        @settings(max_examples=20)
        @given(st.lists(supers() | st.integers(20, 9000), min_size=1, max_size=8))
        def law(kinds: list[Super | int]) -> None:
            frames = [kind.frame() if isinstance(kind, Super) else frame(kind, at) for at, kind in enumerate(kinds)]
            expected = [one for sent in frames for one in wire_packets(sent)]
            for sent in frames:
                run.terminal.send(sent)
            arrived: list[bytes] = []
            while len(arrived) < len(expected):
                arrived += wire_packets(run.datacenter.recv(1 << 17))
            assert arrived == expected

        law()


def test_a_slow_link_sends_a_super_packet_packet_by_packet_each_not_before_its_time(fabric: Fabric) -> None:
    """A loop that woke late lets those go together that have fallen due meanwhile; none goes before that."""
    burst = Super("tcp", 4, payload=10_000, segment=1000)
    with rig(Channel.constant(0, delay_ns=5 * MS, rate_bps=8_000_000), fabric=fabric) as run:  # 1 ms each
        before = time.monotonic_ns()
        run.terminal.send(burst.frame())
        received: list[bytes] = []
        while len(received) < burst.wire_packets:
            received += wire_packets(run.datacenter.recv(1 << 17))
            assert time.monotonic_ns() - before >= 5 * MS + len(received) * MS
    assert received == wire_packets(burst.frame())


def test_a_write_quantum_lets_a_run_leave_together(fabric: Fabric) -> None:
    burst = Super("udp", 6, payload=10_000, segment=1000)
    channel = Channel.constant(0, delay_ns=20 * MS, rate_bps=8_000_000_000)  # 1 µs each
    with rig(channel, fabric=fabric, quantum_ns=100_000) as run:
        run.terminal.send(burst.frame())
        received: list[bytes] = []
        while sum(len(wire_packets(one)) for one in received) < burst.wire_packets:
            received.append(run.datacenter.recv(1 << 17))
    assert [one for run_ in received for one in wire_packets(run_)] == wire_packets(burst.frame())
    if fabric == "direct":  # over ZeroMQ a run is cut where a batch ends
        assert len(received) == 1


def test_what_is_counted_adds_up_while_packets_fly(fabric: Fabric) -> None:
    sent = 2000
    options = LinkOptions(queue_packets=50, memory_bytes=1 << 24, flight_packets=1 << 14)
    channel = Channel.constant(0, delay_ns=10 * MS, rate_bps=100_000_000, loss=0.1)
    with rig(channel, options, fabric=fabric) as run:

        def send() -> None:
            for number in range(sent):
                run.terminal.send(frame(500, number))

        received: list[bytes] = []

        def receive() -> None:
            while data := run.datacenter.recv(1 << 17):
                received.append(data)

        sender, receiver = threading.Thread(target=send), threading.Thread(target=receive)
        sender.start()
        receiver.start()
        while sender.is_alive():
            for way in run.counters():
                assert way.offered_packets == way.delivered_packets + way.dropped_packets + way.held_packets
                assert min(way.queued_packets, way.flying_packets) >= 0
        up, _ = run.until(lambda up, _: up.offered_packets == sent and not up.held_packets)
        assert set(up.dropped) <= {Cause.QUEUE, Cause.LOSS}
        run.inside[1].shutdown(2)  # SHUT_RDWR: the receiver's end
        receiver.join()
    assert up.delivered_packets == len(received) == sent - up.dropped_packets


def test_drops_are_those_that_the_link_alone_would_make(fabric: Fabric) -> None:
    """Loss is drawn by the packet's number: in whatever process the link lives, the same packets are lost."""
    frames = [frame(100, number) for number in range(200)]
    channel = Channel.constant(0, delay_ns=0, loss=0.3)
    alone = drive(new_link(channel, seed=7), [Offer(0, one) for one in frames]).deliveries
    with rig(channel, fabric=fabric, seed=7) as run:
        for one in frames:
            run.terminal.send(one)
        arrived = [run.datacenter.recv(1 << 17)[10:] for _ in alone]
        up, _ = run.until(lambda up, _: up.offered_packets == 200 and not up.held_packets)
    assert arrived == [delivery.packet for delivery in alone]
    assert up.dropped == {Cause.LOSS: 200 - len(alone)}


def test_malformed_frames_are_counted_and_carried_no_further(fabric: Fabric) -> None:
    with rig(OPEN, fabric=fabric) as run:
        for bad in (b"x", bytes(10), bytes(30), b"\xff" * 2000):
            run.terminal.send(bad)
        run.terminal.send(frame(100, 1))
        assert run.datacenter.recv(1 << 17) == frame(100, 1)
        up, _ = run.until(lambda up, _: up.offered_packets == 5 and not up.held_packets)
    assert up.dropped == {Cause.MALFORMED: 4}


def test_memory_that_is_full_drops_and_counts(fabric: Fabric) -> None:
    options = LinkOptions(memory_bytes=1 << 18, flight_packets=1 << 14)
    with rig(Channel.constant(0, delay_ns=300 * MS), options, fabric=fabric) as run:
        for number in range(20):
            run.terminal.send(frame(60_000, number))
        up, _ = run.until(lambda up, _: up.offered_packets == 20 and not up.held_packets)
    assert set(up.dropped) == {Cause.MEMORY}
    assert up.delivered_packets == 20 - up.dropped[Cause.MEMORY] >= 2
    assert up.offered_bytes == 20 * 60_000


def test_an_overlay_acts_on_what_comes_after_its_beginning(fabric: Fabric) -> None:
    with rig(OPEN, fabric=fabric) as run:
        run.terminal.send(frame(100, 1))
        assert run.datacenter.recv(1 << 17) == frame(100, 1)
        now = time.monotonic_ns()
        run.links[0].overlay([Change(now, 1 << 61, Gate.DROP, Cause.COMMAND)])
        run.terminal.send(frame(100, 2))
        up, _ = run.until(lambda up, _: up.offered_packets == 2 and not up.held_packets)
        assert up.dropped == {Cause.COMMAND: 1}
        run.links[0].overlay([])
        run.terminal.send(frame(100, 3))
        assert run.datacenter.recv(1 << 17) == frame(100, 3)


def test_a_port_that_goes_away_is_told_to_whoever_asks(fabric: Fabric) -> None:
    with rig(OPEN, fabric=fabric) as run:
        run.terminal.close()
        with pytest.raises(EmulationError, match="terminal's interface"):
            run.until(lambda *_: False)


def test_a_reader_that_does_not_read_makes_counted_drops(fabric: Fabric) -> None:
    with rig(OPEN, fabric=fabric) as run:
        big = frame(60_000, 1)
        for _ in range(1000):
            run.terminal.send(big)
        up, _ = run.until(lambda up, _: up.offered_packets == 1000 and not up.held_packets)
    assert Cause.EGRESS in up.dropped
    elsewhere = {Cause.MEMORY, Cause.TRANSPORT}  # a burst that the other processes could not keep
    assert set(up.dropped) <= {Cause.EGRESS} | (elsewhere if fabric == "zmq" else set())
    assert up.delivered_packets + up.dropped_packets == 1000


def test_stopping_leaves_no_thread_no_descriptor_and_no_process(fabric: Fabric) -> None:
    def belongings() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    with rig(OPEN, SMALL, fabric=fabric) as run:  # whatever is made once is made now
        pass
    before = belongings()
    with rig(OPEN, SMALL, fabric=fabric) as run:
        ends = getattr(run.relay, "ends", ())
    assert belongings() == before
    assert [end.process.returncode for end in ends] == [0] * len(ends)


def test_packets_under_way_when_it_stops_are_held_and_counted(fabric: Fabric) -> None:
    with rig(Channel.constant(0, delay_ns=10_000 * MS), fabric=fabric) as run:
        run.terminal.send(frame(100, 1))
        up, _ = run.until(lambda up, _: up.offered_packets == 1)
        assert up.held_packets == 1


def test_packets_keep_their_bytes_at_every_length(fabric: Fabric) -> None:
    sizes = [20, 21, 63, 64, 65, 1499, 1500, 9000, 32_768, 65_534, 65_535]
    with rig(OPEN, fabric=fabric) as run:
        for number, size in enumerate(sizes):
            run.terminal.send(frame(size, number))
            assert run.datacenter.recv(1 << 17)[10:] == packet(size, number)
