"""Reports over `last_resort`: fibre first, then Starlink, and by an Iridium modem's messages when both are down."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from pathlib import Path

import pytest
import serial
from adafruit_rockblock import RockBlock

from emulator.bench import Bench
from emulator.scenario.model import OverlayEvent
from emulator.units import parse_utc_ns
from hil_tests.bench.field import PATIENCE_S, keep, running

pytestmark = [
    pytest.mark.needs("netns", "tun", "root", "compiled"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.long,
]
START_NS = parse_utc_ns("2025-05-29T23:20:50Z")
FIBRE_CUT_S, LEO_LOST_S, LEO_BACK_S, FIBRE_BACK_S, END_S = 6.0, 12.0, 34.0, 40.0, 46.0
PORT, ANSWER_S = 7000, 0.5


class Collector:
    """The datacenter's end: takes a report per connection, and acknowledges it."""

    def __init__(self, bench: Bench) -> None:
        self.came: list[tuple[int, str]] = []
        self._server = bench.datacenter.namespace.run(socket.socket)
        self._server.bind(("", PORT))
        self._server.listen()
        self._addresses = {
            bench.network.paths.told[f"BENTPIPE_{name.upper()}_TERMINAL"]: name for name in ("fibre", "leo")
        }
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (peer, _) = self._server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(ANSWER_S)
                    number = int(connection.recv(20))
                    connection.sendall(b"taken")
                    self.came.append((number, self._addresses[peer]))

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


def report(bench: Bench, path: str, number: int) -> bool:
    """By TCP over one path; whether it was acknowledged in time."""
    told = bench.network.paths.told
    with bench.terminal.namespace.run(functools.partial(socket.socket)) as line, contextlib.suppress(OSError):
        line.settimeout(ANSWER_S)
        line.bind((told[f"BENTPIPE_{path.upper()}_TERMINAL"], 0))
        line.connect((told[f"BENTPIPE_{path.upper()}_DATACENTER"], PORT))
        line.sendall(str(number).encode())
        return line.recv(5) == b"taken"
    return False


def test_reports_arrive_by_message_when_all_else_is_down(tmp_path: Path) -> None:
    """A report a second, or what has gathered; none is lost, and an order comes back the same way."""
    device = f"devices=[{{kind='sbd', port='{tmp_path}/modem', mailbox='{tmp_path}/mail'}}]"
    with running("last_resort", f'paths[1].set=["{device}"]', start_utc_ns=START_NS) as bench:
        collector = Collector(bench)
        leo = bench.network.paths.benches["leo"]

        def elapsed_s() -> float:
            return (time.monotonic_ns() - bench.started_monotonic_ns) / 1e9

        for one, begin_s, end_s in ((bench, FIBRE_CUT_S, FIBRE_BACK_S), (leo, LEO_LOST_S, LEO_BACK_S)):
            now_s = elapsed_s()
            one.apply(OverlayEvent(kind="outage", at_s=begin_s - now_s, duration_s=end_s - begin_s))
        sent: list[tuple[float, float, str, list[int]]] = []  # when begun, when acknowledged, which way, which reports
        orders = ""
        (tmp_path / "mail" / "mt" / "1.sbd").write_bytes(b"go on")
        with serial.Serial(str(tmp_path / "modem"), 19200, timeout=PATIENCE_S) as line:
            modem, number, waiting = RockBlock(line), 0, list[int]()
            pause = threading.Event()
            while (now_s := elapsed_s()) < END_S:
                while number <= now_s:
                    waiting.append(number)
                    number += 1
                if not waiting:
                    pause.wait(max(0.0, number - elapsed_s()))
                    continue
                way = next((path for path in ("fibre", "leo") if report(bench, path, waiting[0])), "iridium")
                if way != "iridium":
                    sent.append((now_s, elapsed_s(), way, [waiting.pop(0)]))
                    continue
                modem.text_out = ",".join(map(str, waiting))
                status = modem.satellite_transfer()
                if status[0] <= 4:  # MO status: 0 to 4 are sent
                    sent.append((now_s, elapsed_s(), way, waiting))
                    waiting = []
                if status[2] == 1:  # MT status: one was received
                    orders += modem.text_in or ""
        collector.close()
        messages = [path.read_bytes().decode() for path in sorted((tmp_path / "mail" / "mo").iterdir())]
    keep("last_resort", sent=sent, cuts={"fibre": (FIBRE_CUT_S, FIBRE_BACK_S), "leo": (LEO_LOST_S, LEO_BACK_S)})
    ways = [way for _, _, way, _ in sent]
    assert list(dict.fromkeys(ways)) == ["fibre", "leo", "iridium"]
    assert ways[-1] == "fibre", "and back"
    by_message = [int(one) for message in messages for one in message.split(",")]
    came = sorted({number for number, _ in collector.came} | set(by_message))
    assert came == list(range(came[-1] + 1)), "none is lost"
    assert came[-1] >= END_S - 3
    assert orders == "go on"
    took = [done - begun for begun, done, way, _ in sent if way == "iridium"]
    print(f"{len(messages)} messages with {len(by_message)} reports, {min(took):.1f} to {max(took):.1f} s each")
