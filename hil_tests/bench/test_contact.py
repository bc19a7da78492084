"""A spacecraft delivers to a TCP and a UDP endpoint in the datacenter, over two passes of `ground_station_contact`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping

import pytest

from emulator.bench import Bench
from emulator.bench.schedule import served_schedule
from emulator.bench.sides import Side
from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Gate
from emulator.timeline.model import Contact
from emulator.units import NS_PER_S, format_utc, parse_utc_ns
from hil_tests.bench.field import PATIENCE_S, connected, keep
from hil_tests.bench.living import until

pytestmark = [
    pytest.mark.needs("netns", "tun", "root", "compiled"),
    pytest.mark.usefixtures("nothing_left"),
]
START_NS = parse_utc_ns("2025-05-29T23:20:50Z")
BEFORE_S, LOOK_S = 6, 0.02
SIZE = 64_000_000


@functools.cache
def passes() -> list[Contact]:
    windows = windows_for(load_scenario("ground_station_contact"), epoch_utc_ns=START_NS)
    return windows.contacts(START_NS, START_NS + 12 * 3600 * NS_PER_S)


def datagrams_of(side: Side) -> socket.socket:
    made = side.namespace.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM))
    made.setblocking(False)
    return made


class Delivery:
    """A file by TCP and numbered datagrams by UDP, from the spacecraft; what has come, and when."""

    def __init__(self, bench: Bench) -> None:
        self.data = os.urandom(SIZE)
        self.came, self.size, self.numbers = hashlib.sha256(), 0, list[int]()
        self.seen: list[tuple[float, int, int]] = []  # simulated seconds, bytes by TCP, datagrams by UDP
        self._bench, self._begin_ns = bench, bench.utc_ns()
        self._client, self._accepted = connected(bench.terminal, bench.datacenter)
        self._far, self._near = datagrams_of(bench.datacenter), datagrams_of(bench.terminal)
        self._far.bind((bench.datacenter.ipv4, 6000))
        self._accepted.setblocking(False)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._count)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            self._client.sendall(self.data)
            self._client.shutdown(socket.SHUT_WR)

    def _count(self) -> None:
        number = 0
        while not self._stop.wait(LOOK_S):
            self._near.sendto(number.to_bytes(4, "big"), (self._bench.datacenter.ipv4, 6000))
            number += 1

    def look(self) -> None:
        """Takes what has come."""
        with contextlib.suppress(BlockingIOError):
            while chunk := self._accepted.recv(1 << 20):
                self.came.update(chunk)
                self.size += len(chunk)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.numbers.append(int.from_bytes(self._far.recv(10), "big"))
        at_s = (self._bench.utc_ns() - self._begin_ns) / NS_PER_S
        self.seen.append((at_s, self.size, len(self.numbers)))
        time.sleep(LOOK_S)

    def look_until_utc(self, utc_ns: int) -> None:
        while self._bench.utc_ns() < utc_ns:
            self.look()

    def close(self) -> None:
        self._stop.set()
        for end in (self._client, self._accepted, self._far, self._near):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def delivery(bench: Bench) -> Iterator[Delivery]:
    made = Delivery(bench)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.long
def test_a_contact_is_cut_by_loss_of_signal_and_resumes_at_the_next_pass() -> None:
    """TCP loses nothing, UDP all of in between."""
    first, second = passes()[:2]
    with Bench(load_scenario("ground_station_contact"), start_utc_ns=first.end_ns - BEFORE_S * NS_PER_S) as bench:
        with delivery(bench) as data:
            data.look_until_utc(first.end_ns + 2 * NS_PER_S)
            cut, last = data.size, data.numbers[-1]
            assert 0 < cut < SIZE, "loss of signal cuts it"
            received = len(data.numbers)
            data.look()
            assert len(data.numbers) == received
            assert bench.state().satellite == ""
            bench.operator.jump("next-contact", 2 * NS_PER_S, bench.operator.moment("now"), "test")
            deadline = time.monotonic() + PATIENCE_S
            while data.size < SIZE:
                assert time.monotonic() < deadline
                data.look()
        sought = data.seen, data.size, data.numbers[received]
    keep("contact", seen=sought[0], size=SIZE, first_ends_s=BEFORE_S, between_s=(second.start_ns - first.end_ns) / 1e9,
         stations=[first.station, second.station])  # fmt: skip
    assert data.came.digest() == hashlib.sha256(data.data).digest()
    assert data.numbers[received] > last + 1, "what was sent in between is lost"


def test_the_schedule_opens_the_link_and_shuts_it() -> None:
    """Nothing passes but in contacts that are scheduled; by the interface that azure-mgmt-orbital uses."""
    one = max(passes()[:4], key=lambda contact: contact.end_ns - contact.start_ns)
    middle_ns = (one.start_ns + one.end_ns) // 2
    with Bench(load_scenario("ground_station_contact"), start_utc_ns=middle_ns) as bench, served_schedule(bench) as at:
        base = f"{at}/subscriptions/s/resourceGroups/g/providers/Microsoft.Orbital"

        def put(path: str, properties: Mapping[str, object], method: str = "PUT") -> None:
            data = json.dumps({"location": "local", "properties": properties}).encode()
            asked = urllib.request.Request(f"{base}/{path}", data, {"Content-Type": "application/json"}, method=method)
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
                answer.read()

        def gate_at(utc_ns: int) -> Gate:
            return bench.channel_at("uplink", utc_ns).gate

        put("spacecrafts/bird", {})
        put("contactProfiles/all", {"links": []})
        until(lambda: gate_at(bench.utc_ns()) is Gate.DROP)
        assert bench.state().satellite, "it is above the horizon, but nothing is scheduled"
        begin_ns = bench.utc_ns() + NS_PER_S
        end_ns = begin_ns + 60 * NS_PER_S
        profile = f"{base[len(at) :]}/contactProfiles/all"
        reservation = {
            "groundStationName": one.station,
            "contactProfile": {"id": profile},
            "reservationStartTime": format_utc(begin_ns),
            "reservationEndTime": format_utc(end_ns),
        }
        put("spacecrafts/bird/contacts/one", reservation)
        second_ns = NS_PER_S
        for utc_ns, gate in (
            (begin_ns - second_ns // 10, Gate.DROP), (begin_ns + second_ns, Gate.PASS),
            (end_ns - second_ns, Gate.PASS), (end_ns + second_ns, Gate.DROP),
        ):  # fmt: skip
            assert gate_at(utc_ns) is gate
        until(lambda: bench.utc_ns() > begin_ns)
        client, accepted = connected(bench.terminal, bench.datacenter)
        client.close()
        accepted.close()
        put("spacecrafts/bird/contacts/one", {}, "DELETE")
        until(lambda: gate_at(bench.utc_ns()) is Gate.DROP)
    assert not bench.warnings
