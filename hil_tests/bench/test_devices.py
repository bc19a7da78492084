"""The terminal's devices in a bench: stubs that see the live link, hardware behind the same port, IP over serial."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import serial
import zmq

import emulator
from emulator.bench import Bench
from emulator.errors import EndpointError
from emulator.ports.namespace import Namespace
from emulator.ports.tun import IFF_NO_PI, IFF_TUN, TUNSETIFF
from emulator.scenario import load_scenario
from emulator.scenario.model import OverlayEvent
from emulator.terminal import Antenna, Mount, Terminal
from emulator.timeline.causes import Cause
from firmware_stubs.record import read_record
from firmware_stubs.registry import Hardware
from firmware_stubs.slip import Framing, frame
from firmware_stubs.transport import SerialStub

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
MTU, BAUD = 1006, 460_800  # as RFC 1055 advises; a fast port
FIXED = ("link.delay_ms=5", "terminal.latitude_deg=48.5", "terminal.longitude_deg=-123.3")

pytestmark = pytest.mark.needs("netns", "tun")


def bench_with(*settings: str) -> Bench:
    return Bench(load_scenario("fixed", [*FIXED, *settings]))


def until(done: Callable[[], bool]) -> None:
    give_up, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not done():
        assert time.monotonic() < give_up
        pause.wait(0.01)


def address_of(bench: Bench) -> str:
    assert bench.devices is not None
    ((_, address),) = bench.devices.addresses
    return address


def ask(port: serial.Serial, command: bytes, end: bytes = b"OK\r\n") -> bytes:
    port.write(command + b"\r")
    answer = port.read_until(end)
    assert answer.endswith(end)
    return answer


def test_a_message_service_is_there_when_the_link_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.bench.devices.SESSION_NS", 50_000_000)
    with (
        bench_with(f'devices=[{{ kind = "sbd", port = "{tmp_path}/modem", mailbox = "{tmp_path}/mail" }}]') as bench,
        serial.Serial(address_of(bench), 19200, timeout=PATIENCE_S) as port,
    ):
        assert b"+CSQ:5" in ask(port, b"AT+CSQ")
        ask(port, b"AT+SBDWT=hello")
        bench.apply(OverlayEvent(kind="outage", at_s=0, duration_s=3600, direction="uplink"))
        until(lambda: b"+CSQ:0" in ask(port, b"AT+CSQ"))
        assert b"+SBDIX: 32," in ask(port, b"AT+SBDIX")
        assert list((tmp_path / "mail" / "mo").iterdir()) == []


@pytest.mark.parametrize("firmware", ["stub", "hardware"])
def test_the_same_port_has_a_stub_or_the_hardware_and_what_that_does_wrong_is_told(
    firmware: str, tmp_path: Path
) -> None:
    port, record = tmp_path / "gnss", tmp_path / "gnss.jsonl"
    with contextlib.ExitStack() as running:
        behind, hardware = "", None
        if firmware == "hardware":
            site = Terminal(48.5, -123.3, 0)
            hardware = running.enter_context(SerialStub("nmea", site.state, str(tmp_path / "ttyUSB0")))
            behind = f', firmware = {{ serial = "{tmp_path}/ttyUSB0" }}'
        device = f'{{ kind = "nmea", port = "{port}", record = "{record}"{behind} }}'
        bench = running.enter_context(bench_with(f"devices=[{device}]"))
        with serial.Serial(str(port), 9600, timeout=PATIENCE_S) as client:
            assert client.read_until(b"GGA")
            assert b",4830.0" in client.readline()
        if hardware is not None:
            assert bench.devices is not None
            oddities = bench.devices.served[0].oddities  # type: ignore[attr-defined]
            # a machine that stands still for a while hears silence, or a sentence that stops; no more than that
            assert {kind for _, kind, _ in oddities} <= {"silence", "half a line"}
            hardware.stop()
            until(lambda: bool(oddities) and oddities[-1][1] == "line lost")
            assert oddities[-1][2]
    assert b"GGA" in b"".join(piece.data for piece in read_record(record) if piece.speaker == "device")
    assert not port.exists()


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's RFC 2217 client
@pytest.mark.parametrize("firmware", ["stub", "hardware"])
def test_the_firmware_lines_of_a_bench_are_all_that_changes(firmware: str, tmp_path: Path) -> None:
    """bench_virtual as it is, and with its lines pointing at devices elsewhere: RFC 2217, a pty, a TCP port."""
    text, quick = (ROOT / "configs/bench_virtual.toml").read_text(), ("azimuth_rate_deg_s", "elevation_rate_deg_s")
    site = Terminal(35.3, 25.1, 100.0)
    with contextlib.ExitStack() as running:
        if firmware == "hardware":
            attached = Hardware(antenna=Antenna(Mount(azimuth_rate_deg_s=1000, elevation_rate_deg_s=1000)))
            places = {"easycomm2": "rfc2217:127.0.0.1:0", "nmea": str(tmp_path / "gnss"), "sbd": "tcp:127.0.0.1:0"}
            for kind, place in places.items():
                stub = running.enter_context(SerialStub(kind, site.state, place, hardware=attached))
                url = stub.address.replace("tcp:", "socket://").replace("rfc2217:", "rfc2217://")
                text = text.replace('firmware = "stub"', f'firmware = {{ serial = "{url}" }}', 1)
            assert 'firmware = "stub"' not in text
        file = tmp_path / "bench.toml"
        file.write_text(text)
        door = ["terminal.antenna.port=tcp:127.0.0.1:0", "terminal.antenna.acquisition_s=0.2"]
        bench = running.enter_context(
            Bench(load_scenario(str(file), [*door, *(f"terminal.antenna.mount.{key}=1000" for key in quick)]))
        )
        assert bench.antenna is not None
        assert bench.devices is not None
        loop, addresses = bench.antenna, dict(bench.devices.addresses)
        until(lambda: loop.state.locked)  # tracked, over whatever line
        with serial.Serial(addresses["nmea"], 9600, timeout=PATIENCE_S) as gnss:
            assert gnss.read_until(b"GGA,").endswith(b"GGA,")
            assert b",3518.0" in gnss.readline()
        with serial.Serial(addresses["sbd"], 19200, timeout=PATIENCE_S) as modem:
            assert b"+CSQ:" in ask(modem, b"AT+CSQ")


class SerialHost:
    """A host whose only way to the world is a serial line: a namespace with a TUN, and SLIP by pyserial."""

    def __init__(self, line: str, address: str) -> None:
        self.space = Namespace.create()
        self._tun = self.space.run(lambda: self._open(address))
        self._line = serial.Serial(line, BAUD, timeout=0)
        self._stop_fd = os.eventfd(0)
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    @staticmethod
    def _open(address: str) -> int:
        from pyroute2 import IPRoute

        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"sl0", IFF_TUN | IFF_NO_PI))
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname="sl0")[0]
            netlink.link("set", index=index, mtu=MTU, state="up")
            netlink.addr("add", index=index, address=address, prefixlen=32)
            netlink.route("add", dst="0.0.0.0/0", oif=index)
        return tun

    def _carry(self) -> None:
        framing, unsent = Framing(), b""
        while True:
            line = self._line.fileno()
            ready, _, _ = select.select([self._tun, line, self._stop_fd], [line] if unsent else [], [], 0.5)
            if self._stop_fd in ready:
                return
            for packet in framing.feed(self._line.read(4096)):
                os.write(self._tun, packet)
            while len(unsent) < 4096:
                try:
                    unsent += frame(os.read(self._tun, 65_535))
                except BlockingIOError:
                    break
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[os.write(line, unsent) :] if unsent else b""

    def close(self) -> None:
        os.eventfd_write(self._stop_fd, 1)
        self._thread.join()
        self._line.close()
        for descriptor in (self._tun, self._stop_fd):
            os.close(descriptor)
        self.space.close()


@pytest.fixture
def serial_host(tmp_path: Path) -> Iterator[tuple[Bench, SerialHost]]:
    device = f'{{ kind = "slip", port = "{tmp_path}/sl", firmware = {{ baud = {BAUD} }} }}'
    with bench_with(f"devices=[{device}]") as bench:
        host = SerialHost(address_of(bench), bench.terminal.ipv4)
        try:
            yield bench, host
        finally:
            host.close()


@pytest.mark.needs("ping")
def test_ping_and_tcp_cross_the_link_over_a_serial_line(serial_host: tuple[Bench, SerialHost]) -> None:
    bench, host = serial_host
    ping = ["ping", "-c", "3", "-i", "0.2", "-W", "10", "-s", "900", bench.datacenter.ipv4]
    done = host.space.run(lambda: subprocess.run(ping, capture_output=True, text=True, check=False, timeout=PATIENCE_S))
    assert ", 0% packet loss" in done.stdout

    listener = bench.datacenter.namespace.run(lambda: socket.create_server((bench.datacenter.ipv4, 0)))
    sent = os.urandom(20_000)
    with listener:
        listener.settimeout(PATIENCE_S)
        address = listener.getsockname()
        near = host.space.run(lambda: socket.create_connection(address, PATIENCE_S))
        with near:
            far, _ = listener.accept()
            with far, far.makefile("rb") as file:
                far.settimeout(PATIENCE_S)
                near.sendall(sent)
                near.shutdown(socket.SHUT_WR)
                assert file.read() == sent
                far.sendall(sent)
                far.shutdown(socket.SHUT_WR)
                with near.makefile("rb") as back:
                    assert back.read() == sent

    counters = bench.counters()
    assert counters.uplink.delivered_packets > 20
    assert counters.downlink.delivered_packets > 20
    assert not counters.uplink.dropped.get(Cause.MALFORMED, 0)


def control(bench: emulator.Bench, verb: str, **values: Any) -> dict[str, object]:
    """What a program of the datacenter's says over ZeroMQ and msgpack, and is told, without a line of ours."""
    with zmq.Context() as context, context.socket(zmq.REQ) as client:
        client.linger = 0
        client.connect(f"ipc://{bench.runtime_dir}/control.ipc")
        client.send(msgpack.packb({"version": 1, "verb": verb, **values}))
        assert client.poll(PATIENCE_S * 1000)
        reply = msgpack.unpackb(client.recv())
    assert isinstance(reply, dict)
    return reply


def test_mail_crosses_between_modems_and_a_program_that_speaks_zeromq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mailbox in memory, and one in a directory."""
    monkeypatch.setattr("emulator.bench.devices.SESSION_NS", 50_000_000)
    devices = [
        f'{{ kind = "sbd", port = "{tmp_path}/sbd" }}',
        f'{{ kind = "sbd", port = "{tmp_path}/sbd1", mailbox = "{tmp_path}/mail" }}',
    ]
    with emulator.Bench("fixed", overrides=[*FIXED, f"devices=[{', '.join(devices)}]"]) as bench:
        for name in ("sbd", "sbd1"):
            nothing = {"device": name, "name": "", "message": b""}
            assert control(bench, "mail_take", device=name)["result"] == nothing
            assert control(bench, "mail_send", device=name, message=b"for the ship")["ok"]
            counts = control(bench, "mail", device=name)["result"]
            assert counts == {"device": name, "from_terminal": 0, "for_terminal": 1}
            with serial.Serial(str(tmp_path / name), 19200, timeout=PATIENCE_S) as port:
                for text in (b"one", b"two"):
                    ask(port, b"AT+SBDWT=" + text)
                    assert b"+SBDIX: 0," in ask(port, b"AT+SBDIX")
                assert b"for the ship" in ask(port, b"AT+SBDRT")
            first = control(bench, "mail_take", device=name)["result"]
            assert isinstance(first, dict)
            assert first == control(bench, "mail_take", device=name)["result"]  # until it is done: none is lost
            assert first["message"] == b"one"
            second = bench.mail_take(device=name, done=first["name"])  # from Python
            assert second["message"] == b"two"
            assert control(bench, "mail_take", device=name, done=second["name"])["result"] == nothing
        for verb, values, fault in (
            ("mail", {}, "(sbd, sbd1), got ''"),
            ("mail_take", {"device": "jspr"}, "(sbd, sbd1), got 'jspr'"),
            ("mail_take", {"device": "sbd1", "done": "../../secret"}, "mail_take: done"),
            ("mail_take", {"device": "sbd1", "done": "nobody's"}, "nobody's"),
            ("mail_send", {"message": "text"}, "mail_send: message"),
            ("mail_send", {"message": bytes(100_001)}, "mail_send: message"),
        ):
            refused = control(bench, verb, **values)
            assert not refused["ok"]
            assert fault in str(refused["error"])


def test_a_bench_without_a_message_service_has_no_mail() -> None:
    with emulator.Bench("fixed") as bench, pytest.raises(EndpointError, match="no mail"):
        bench.mail()
