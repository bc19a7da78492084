"""Clients written for the real dish, unmodified, at the terminal's side of a bench: starlink-grpc-core and grpcurl."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench
from emulator.bench.dish import BenchDish
from emulator.scenario import load_scenario

ROOT = Path(__file__).parents[2]
BENTPIPE = (sys.executable, "-m", "emulator.cli.main")
GRPCURL = str(Path(sys.executable).parent / "grpcurl")
DISH = "192.168.100.1:9200"
LOSSLESS = [f"link.{way}.{key}=0" for way in ("uplink", "downlink") for key in ("loss", "bursts.loss")]
HANDLE = "SpaceX.API.Device.Device/Handle"
BOOT = ("dish.boot_s=1.2", "dish.unreachable_s=0.6", "dish.search_s=0.6")
PATIENCE_S = 60
# One expression per line in, what it gives per line out: the client's own process, at the terminal's side.
CLIENT = """
import sys
import starlink_grpc as dish
context = dish.ChannelContext(*sys.argv[1:])
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except dish.GrpcError as error:
        print(repr("GrpcError"), flush=True)
"""

on_a_bench = pytest.mark.needs("netns", "tun", "ping")


class Client:
    """starlink-grpc-core in a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, expression: str) -> Any:
        """The value of an expression in which `dish` is the module and `context` a channel; "GrpcError" for that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return ast.literal_eval(self.process.stdout.readline().replace("nan", "None"))

    def state(self) -> str:
        found = self.ask("dish.status_data(context)[0]['state']")
        assert isinstance(found, str)
        return found


class Pings:
    """`ping` through the link, 20 in a second: a reply or its absence paces whoever waits for something."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> float | None:
        """The RTT of the next one in ms, None if it was not answered."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"time=([\d.]+)", line):
                return float(found[1])
            if "no answer" in line:
                return None
        raise AssertionError("ping has ended")

    def run_of(self, *, answered: bool, length: int = 5, within: int = 400) -> None:
        """Returns after so many of a kind in a row."""
        run = 0
        for _ in range(within):
            run = run + 1 if (self.next() is not None) == answered else 0
            if run == length:
                return
        raise AssertionError(f"no {length} pings in a row that are {'' if answered else 'not '}answered")


def started(stack: contextlib.ExitStack, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    def end() -> None:
        process.terminate()
        process.wait(PATIENCE_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    stack.callback(end)
    return process


@contextlib.contextmanager
def dish_bench(scenario: str, *overrides: str) -> Iterator[tuple[Bench, Client, Pings]]:
    with (
        Bench(load_scenario(scenario, [*BOOT, *overrides])) as bench,
        BenchDish(bench),
        contextlib.ExitStack() as stack,
    ):
        client = bench.terminal.popen(
            [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        ping = bench.terminal.popen(
            ["ping", "-O", "-i", "0.05", bench.datacenter.ipv4], stdout=subprocess.PIPE, text=True
        )
        yield bench, Client(started(stack, client)), Pings(started(stack, ping))


@pytest.fixture(scope="module")
def on_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Client, Pings]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
        with dish_bench("fixed", "link.delay_ms=10", "link.rate_mbps=0") as found:
            yield found


def grpcurl(bench: Bench, *arguments: str) -> tuple[int, str, str]:
    process = bench.terminal.popen(
        [GRPCURL, "-plaintext", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, fault = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, fault


@on_a_bench
def test_status_and_history_are_the_links(on_bench: tuple[Bench, Client, Pings]) -> None:
    _, client, pings = on_bench
    while client.ask("dish.history_stats(-1, context=context)[0]['samples']") < 3:
        pings.next()
    status = client.ask("dish.status_data(context)[0]")
    assert status["state"] == "CONNECTED"
    assert status["pop_ping_drop_rate"] == 0.0
    assert status["pop_ping_latency_ms"] == pytest.approx(20, abs=0.01)
    general, bulk = client.ask("dish.history_bulk_data(2, context=context)")
    assert general["samples"] == 2
    assert bulk["pop_ping_drop_rate"] == [0.0, 0.0]
    assert bulk["pop_ping_latency_ms"] == pytest.approx([20, 20], abs=0.01)
    # 20 pings of 84 bytes in a second, both ways; one more or less at the second's edges
    assert bulk["uplink_throughput_bps"] == pytest.approx([13440, 13440], rel=0.3)
    assert bulk["downlink_throughput_bps"] == pytest.approx([13440, 13440], rel=0.3)


@on_a_bench
def test_a_reboot_stops_the_traffic_and_resets_the_counter(on_bench: tuple[Bench, Client, Pings]) -> None:
    _, client, pings = on_bench
    pings.run_of(answered=True)
    while (before := client.ask("dish.get_history(context).current")) < 4:
        pings.next()
    assert client.ask("dish.reboot(context)") is None
    pings.run_of(answered=False)
    states = [client.state()]
    while (first := client.ask("dish.history_stats(-1, context=context)[0]")) == "GrpcError":
        pings.next()
    assert first["end_counter"] < before
    while states[-1] != "CONNECTED":
        states.append(client.state())
        pings.next()
    passed = list(dict.fromkeys(states))
    assert passed == [state for state in ("GrpcError", "BOOTING", "SEARCHING", "CONNECTED") if state in passed]
    assert passed[0] == "GrpcError"  # nobody answers at first
    pings.run_of(answered=True)
    causes = client.ask("[(outage.cause, outage.duration_ns) for outage in dish.get_history(context).outages]")
    assert causes == [(1, 1_200_000_000), (4, 600_000_000)]


@on_a_bench
def test_stow_stops_the_traffic_until_unstow(on_bench: tuple[Bench, Client, Pings]) -> None:
    bench, client, pings = on_bench
    pings.run_of(answered=True)
    client.ask("dish.set_stow_state(context=context)")
    assert client.state() == "STOWED"
    pings.run_of(answered=False, length=20)
    client.ask("dish.set_stow_state(unstow=True, context=context)")
    pings.run_of(answered=True)
    assert client.state() == "CONNECTED"
    assert bench.state().uplink.gate.name == "PASS"


@on_a_bench
def test_the_other_functions_of_the_client_work(on_bench: tuple[Bench, Client, Pings]) -> None:
    _, client, pings = on_bench
    pings.run_of(answered=True)
    assert client.ask("dish.get_id(context)").startswith("ut0")
    assert client.ask("dish.location_data(context)") == {"latitude": None, "longitude": None, "altitude": None}
    assert client.ask("[len(dish.obstruction_map(context)), len(dish.obstruction_map(context)[0])]") == [123, 123]
    assert client.ask("dish.reset_obstruction_map(context)") is None
    assert client.ask("dish.set_gps_config(False, context)") is False
    assert client.ask("dish.status_data(context)[0]['gps_enabled']") is False
    assert client.ask("dish.set_gps_config(True, context)") is True
    assert client.ask("dish.get_sleep_config(context)") == (0, 0, False)
    client.ask("dish.set_sleep_config(0, 1440, context=context)")
    pings.run_of(answered=False)
    assert client.state() == "SLEEPING"
    client.ask("dish.set_sleep_config(0, 0, enable=False, context=context)")
    pings.run_of(answered=True)


@on_a_bench
def test_grpcurl_discovers_and_calls_it(on_bench: tuple[Bench, Client, Pings]) -> None:
    bench, _, pings = on_bench
    pings.run_of(answered=True)
    assert "SpaceX.API.Device.Device" in grpcurl(bench, DISH, "list")[1].split()
    for symbol in ("SpaceX.API.Device.Device", "SpaceX.API.Device.DishAlerts", "SpaceX.API.Device.DishOutage"):
        assert grpcurl(bench, DISH, "describe", symbol)[0] == 0
    status, shown, _ = grpcurl(bench, "-d", '{"getStatus":{}}', DISH, HANDLE)
    assert status == 0
    assert json.loads(shown)["dishGetStatus"]["deviceInfo"]["isHitl"] is True
    _, _, fault = grpcurl(bench, "-d", '{"get_location":{}}', DISH, HANDLE)
    assert "PermissionDenied" in fault
    assert "GetLocation requests are not enabled on this device" in fault
    assert "Unimplemented" in grpcurl(bench, "-d", "{}", DISH, HANDLE)[2]
    envelope = '{"request":{"id":"1","dishGetConfig":{}}} {"request":{"id":"2","getDeviceInfo":{}}}'
    _, streamed, _ = grpcurl(bench, "-d", envelope, DISH, "SpaceX.API.Device.Device/Stream")
    assert re.findall(r'"id": "(\d)",\n\s+"apiVersion"', streamed) == ["1", "2"]


@on_a_bench
def test_what_speaks_no_grpc_does_no_harm(on_bench: tuple[Bench, Client, Pings]) -> None:
    bench, client, _ = on_bench

    def connect() -> socket.socket:
        return socket.create_connection(("192.168.100.1", 9200), PATIENCE_S)

    with contextlib.ExitStack() as stack:
        for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 40):
            peer = stack.enter_context(bench.terminal.namespace.run(connect))
            peer.sendall(noise)
        assert client.state() == "CONNECTED"


@on_a_bench
def test_the_history_is_what_ping_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter and slots included, in the same seconds. A busy machine adds to what ping measures, and never less than
    nothing: the history is no more than ping's mean, but for the sampling of the same jitter, nor less than its best.
    """
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(tmp_path))
    with dish_bench("starlink_2025", *LOSSLESS) as (_, client, pings):
        first = client.ask("dish.get_history(context).current")
        measured = [pings.next() for _ in range(160)]
        history = client.ask(f"dish.history_bulk_data(-1, start={first}, context=context)")[1]
    answered = [rtt for rtt in measured if rtt is not None]
    seen = [rtt for rtt in history["pop_ping_latency_ms"] if rtt is not None]
    assert len(seen) >= 7
    assert min(answered) - 0.5 < statistics.mean(seen) < statistics.mean(answered) + 3


# the commands


@on_a_bench
def test_shell_serves_it_with_the_option(tmp_path: Path) -> None:
    code = "import starlink_grpc; print(starlink_grpc.status_data()[0]['state'])"
    done = subprocess.run(
        [*BENTPIPE, "shell", "fixed", "--isolate", "--dish", "--", sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "BENTPIPE_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "CONNECTED\n"), done.stderr
    assert "gRPC at 192.168.100.1:9200 of the terminal's side" in done.stderr


@contextlib.contextmanager
def stub(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`bentpipe stub dish`, and what it tells when clients may connect; empty if it never does."""
    process = subprocess.Popen(
        [*BENTPIPE, "stub", "dish", "--json", *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process, json.loads(line) if line else {}
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_the_stub_alone_answers_grpc_and_grpc_web() -> None:
    with stub("--port", "127.0.0.1:0", "fixed", "--set", "dish.location_consent=true") as (process, facts):
        with contextlib.ExitStack() as stack:
            command = [sys.executable, "-c", CLIENT, facts["port"]]
            client = Client(
                started(stack, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            )
            assert client.state() == "CONNECTED"
        web = http.client.HTTPConnection(facts["web"], timeout=PATIENCE_S)
        with contextlib.closing(web):
            for body, expected in (
                (b"\x00\x00\x00\x00\x03\xe2\x3e\x00", b"grpc-status:0\r\n"),  # get_status {}
                (b"\x00\x00\x00\x00\x00", b"grpc-status:12\r\n"),
                (b"\x00\x00", b"grpc-status:13\r\n"),
            ):
                web.request("POST", f"/{HANDLE}", body, {"Content-Type": "application/grpc-web+proto"})
                answer = web.getresponse()
                assert answer.status == 200
                assert expected in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"127.0.0.1:{taken.getsockname()[1]}"
        with stub("--port", port, "fixed") as (process, facts):
            assert facts == {}
            assert process.wait(PATIENCE_S) == 71
