"""A bench in three parts on three machines: namespaces with cables between, each with a monotonic clock of its own."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import zmq

from emulator.control.client import ControlClient
from emulator.errors import BenchNotFoundError
from emulator.ports import wires
from emulator.ports.curve import allow, make_pair, secure_client
from emulator.ports.messages import Header, build
from emulator.ports.namespace import Namespace
from hil_tests.bench.living import PATIENCE_S, REPOSITORY, until

pytestmark = pytest.mark.needs("netns", "tun", "root", "compiled", "ip")
AHEAD_S = {"a": 4000, "b": 0, "c": 90}  # of the machines' monotonic clocks
LINK = "tcp://10.7.1.1:5600"
AT_C = "tcp://10.7.2.1:5600"
DELAY_MS = 20


@dataclass
class Part:
    """A `bentpipe` of a machine; what it says on stderr is kept."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def says(self, wanted: str) -> str:
        """The next line with that in it; fails if it never comes."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if wanted in line:
                return line
        raise AssertionError(f"never said {wanted!r}: {''.join(self.said)}")

    def end(self, number: int = signal.SIGINT) -> tuple[str, int]:
        """Its standard output and its status, after a signal to all of it."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        self.said.append(err)
        return out, self.process.returncode


class Lab:
    """Machines a, b and c; b is wired to both others. Their directories are apart; `keys` are the link's."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.machines = {name: stack.enter_context(Namespace.create()) for name in "abc"}
        for number, name in enumerate("ac", 1):
            near, far = wires.cable(self.machines["b"], f"to{name}", self.machines[name], "h0", mtu=1500)
            wires.add_address(self.machines["b"], near, ipaddress.IPv4Interface(f"10.7.{number}.1/24"))
            wires.add_address(self.machines[name], far, ipaddress.IPv4Interface(f"10.7.{number}.2/24"))
        self.keys = directory / "keys"
        make_pair(self.keys, "server")
        for name, role in (("terminal", "packets"), ("gateway", "packets"), ("watcher", "observe")):
            make_pair(self.keys, name)
            allow(self.keys, name, [role])  # type: ignore[list-item]
            self.take(name)
        self.parts: list[Part] = []

    def take(self, name: str) -> Path:
        """The directory of keys that a client takes to its machine."""
        own = self.directory / name
        own.mkdir(exist_ok=True)
        for file in (f"{name}.key_secret", "server.key"):
            shutil.copy(self.keys / file, own / file)
        return own

    def start(self, machine: str, *arguments: str, **options: Any) -> Part:
        runtime = self.directory / f"r{machine}"
        runtime.mkdir(mode=0o700, exist_ok=True)
        clock = ["unshare", "--time", "--monotonic", str(AHEAD_S[machine])]  # in force with the next program
        command = [*clock, sys.executable, "-B", "-m", "emulator.cli.main", *arguments]
        ours = {"BENTPIPE_RUNTIME_DIR": str(runtime), "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
        piped: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.machines[machine].run(
            lambda: subprocess.Popen(
                command, env={**os.environ, **ours}, start_new_session=True, text=True, **{**piped, **options}
            )
        )
        self.parts.append(Part(process))
        return self.parts[-1]

    def link(self, *options: str) -> Part:
        listen = ("--listen", LINK, "--listen", AT_C, "--keys", str(self.keys))
        fixed = ("fixed", "--set", f"link.delay_ms={DELAY_MS}", "--quiet", "--json")
        return self.start("b", "link", *fixed, *listen, *options)

    def terminal(self, *command: str, **options: Any) -> Part:
        behind = ("--", *command) if command else ()
        how = ("--link", LINK, "--keys", str(self.directory / "terminal"))
        return self.start("a", "terminal", "fixed", *how, *behind, **options)

    def gateway(self, *command: str) -> Part:
        how = ("--isolate", "--link", AT_C, "--keys", str(self.directory / "gateway"))
        return self.start("c", "gateway", "fixed", *how, *(("--", *command) if command else ()))

    def counters(self) -> dict[str, Any] | None:
        """What the link counts, by its control socket; None where none answers yet."""
        for place in (self.directory / "rb").glob("*/control.ipc"):
            with contextlib.suppress(BenchNotFoundError), ControlClient(place) as client:
                return dict(client.request("counters"))
        return None

    def close(self) -> None:
        for part in self.parts:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGKILL)
            part.process.communicate()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        made = Lab(tmp_path, stack)
        stack.callback(made.close)
        yield made


def adds_up(counted: dict[str, Any]) -> bool:
    ways = [counted[way] for way in ("uplink", "downlink")]
    return all(
        way["offered_packets"] == way["delivered_packets"] + sum(way["dropped_packets"].values()) + way["held_packets"]
        for way in ways
    )


def round_trips_ms(said: str) -> list[float]:
    return [float(one) for one in re.findall(r"time=([\d.]+) ms", said)]


@pytest.mark.needs("ping")
def test_packets_cross_three_machines_whose_clocks_differ(lab: Lab) -> None:
    link, gateway = lab.link(), lab.gateway()  # all three start at once, in whatever order they come up
    pinging = "read go; exec ping -c 8 -i 0.1 198.18.0.1"
    terminal = lab.terminal("sh", "-c", pinging, stdin=subprocess.PIPE)
    counted_well(lab, lambda counted: all(end["clock"]["exchanges"] > 16 for end in counted["relay"]["ends"]))
    out, _ = terminal.process.communicate("go\n", timeout=PATIENCE_S)
    assert terminal.process.returncode == 0, out
    trips = round_trips_ms(out)
    assert len(trips) == 8
    # what a clock is taken to be gets better as it is asked: the trip in which that happens may be shorter by as much
    assert median(trips) >= 2 * DELAY_MS - 1, "half a round trip between machines, at most, is how wrong clocks can be"
    link.says("waiting for the ends at")  # from here on it ends in order; its ends may have found it before
    told, status = link.end()
    assert status == 0
    counted = json.loads(told)
    assert adds_up(counted)
    assert counted["uplink"]["delivered_packets"] == counted["downlink"]["delivered_packets"] == 8
    for end, machine in zip(counted["ends"], "ac", strict=True):
        clock = end["clock"]
        assert not clock["shared"]
        assert abs(clock["offset_ns"] - AHEAD_S[machine] * 10**9) <= clock["error_ns"] + 1000, "the truth is within it"
    out, _ = gateway.end()
    assert "8 packets taken, 0 of them lost" in "".join(gateway.said)


def replies(terminal: Part, count: int) -> None:
    """Waits for that many more replies to its ping."""
    assert terminal.process.stdout is not None
    seen = 0
    for line in terminal.process.stdout:
        seen += "time=" in line
        if seen == count:
            return
    raise AssertionError("ping has ended")


def counted_well(lab: Lab, reached: Any) -> dict[str, Any]:
    """The link's counters as soon as they are as wanted; each look must add up."""

    def look() -> dict[str, Any] | None:
        if (counted := lab.counters()) is None:
            return None
        for way in ("uplink", "downlink"):
            one = counted[way]
            dropped = sum(one["dropped"].values())
            assert one["offered_packets"] == one["delivered_packets"] + dropped + one["held_packets"], one
        return counted if reached(counted) else None

    found: dict[str, Any] = until(look)
    return found


@pytest.mark.long
def test_an_end_that_finds_no_link_says_where_it_looks_for_one(lab: Lab) -> None:
    terminal = lab.terminal("true")
    terminal.says(f"waiting for the link at {LINK}, before CMD starts")
    assert terminal.process.poll() is None


@pytest.mark.needs("ping")
def test_each_part_may_be_killed_and_started_again(lab: Lab) -> None:
    """kill -9 in mid-flow: counters add up at every look, and traffic returns by itself."""
    link, gateway = lab.link(), lab.gateway()
    gateway.says("connected with the link")
    pinging = ("ping", "-i", "0.02", "198.18.0.1")
    terminal = lab.terminal(*pinging)
    replies(terminal, 20)

    gateway.end(signal.SIGKILL)
    link.says("the gateway's end has gone")
    counted_well(lab, lambda counted: counted["uplink"]["dropped"].get("TRANSPORT", 0) > 20)
    gateway = lab.gateway()
    link.says("the gateway's end is here again")
    replies(terminal, 20)

    link.end(signal.SIGKILL)
    terminal.says("what comes is dropped until the link is back")
    link = lab.link()
    terminal.says("connected with the link")
    gateway.says("connected with the link")
    replies(terminal, 20)
    fresh = counted_well(lab, lambda counted: counted["downlink"]["delivered_packets"] >= 20)
    assert fresh["relay"]["ends"][0]["connections"] == 1, "another link counts from 0"

    terminal.end(signal.SIGKILL)
    link.says("the terminal's end has gone")
    terminal = lab.terminal(*pinging)
    replies(terminal, 20)
    counted_well(lab, lambda counted: counted["downlink"]["delivered_packets"] >= 40)
    terminal.end()
    gateway.end()
    told, _ = link.end()
    counted = json.loads(told)
    assert adds_up(counted)
    assert [end["connections"] for end in counted["ends"]] == [2, 1]
    assert "drift" in "".join(link.said) or counted["ends"][0]["clock"]["exchanges"] > 20


@pytest.mark.long
@pytest.mark.needs("ping")
@pytest.mark.parametrize("shortly", [True, False])
def test_a_cable_that_is_pulled_and_plugged_again_costs_what_was_on_it(lab: Lab, shortly: bool) -> None:
    """For less than 3 s the conversation goes on; after that the end is gone, and comes back by itself."""
    link, gateway = lab.link(), lab.gateway()
    gateway.says("connected with the link")
    terminal = lab.terminal("ping", "-i", "0.02", "198.18.0.1")
    replies(terminal, 20)
    cable = lab.machines["b"]

    def plug(state: str) -> None:
        cable.run(lambda: subprocess.run(["ip", "link", "set", "toc", state], check=True))

    plug("down")
    if shortly:
        counted_well(lab, lambda counted: counted["uplink"]["held_packets"] > 20)
    else:
        link.says("the gateway's end has gone")
        counted_well(lab, lambda counted: counted["uplink"]["dropped"].get("TRANSPORT", 0) > 20)
    plug("up")
    if not shortly:
        link.says("the gateway's end is here again")
    replies(terminal, 50)
    terminal.end()
    gateway.end()
    told, _ = link.end()
    counted = json.loads(told)
    assert adds_up(counted)
    assert [end["connections"] for end in counted["ends"]] == [1, 1 if shortly else 2]
    assert counted["ends"][1]["clock"]["steps"] == 0


@pytest.mark.long
@pytest.mark.needs("ping")
def test_a_machine_that_was_started_again_has_another_clock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its monotonic clock begins anew: the next conversation has that time, and no packet is held by the difference."""
    link, gateway = lab.link(), lab.gateway()
    gateway.says("connected with the link")
    gateway.end(signal.SIGKILL)
    link.says("the gateway's end has gone")
    monkeypatch.setitem(AHEAD_S, "c", 7777)
    gateway = lab.gateway()
    gateway.says("connected with the link")
    terminal = lab.terminal("ping", "-c", "5", "-i", "0.1", "198.18.0.1")
    out, _ = terminal.process.communicate(timeout=PATIENCE_S)
    trips = round_trips_ms(out)
    assert len(trips) == 5
    assert 2 * DELAY_MS - 1 <= median(trips) < 1000
    told, _ = link.end()
    counted = json.loads(told)
    assert adds_up(counted)
    clock = counted["ends"][1]["clock"]
    assert abs(clock["offset_ns"] - 7777 * 10**9) <= clock["error_ns"] + 1000


@pytest.mark.long
@pytest.mark.needs("iperf3", "irtt")
def test_real_programs_cross_and_a_link_that_dies_in_mid_flow_costs_no_connection(lab: Lab) -> None:
    link, gateway = lab.link(), lab.gateway("sh", "-c", "irtt server -b 198.18.0.1 >&2 & iperf3 -s --forceflush >&2")
    gateway.says("connected with the link")
    gateway.says("Server listening on 5201")
    found = lab.directory / "irtt.json"
    measured = lab.terminal("irtt", "client", "-q", "-i", "10ms", "-d", "2s", "-o", str(found), "198.18.0.1")
    out, told = measured.process.communicate(timeout=PATIENCE_S)
    assert measured.process.returncode == 0, out + told
    trips = [one["delay"]["rtt"] for one in json.loads(found.read_text())["round_trips"] if one["lost"] == "false"]
    assert len(trips) > 150
    assert min(trips) >= (2 * DELAY_MS - 1) * 1_000_000
    flow = lab.terminal("iperf3", "-J", "-c", "198.18.0.1", "-t", "30")
    counted_well(lab, lambda counted: counted["uplink"]["delivered_packets"] > 2000)
    link.end(signal.SIGKILL)
    link = lab.link()
    counted_well(lab, lambda counted: counted["uplink"]["delivered_packets"] > 1000)
    out, _ = flow.process.communicate(timeout=PATIENCE_S)
    assert flow.process.returncode == 0, out
    assert json.loads(out)["end"]["sum_received"]["bytes"] > 5_000_000
    told, _ = link.end()
    assert adds_up(json.loads(told))


@pytest.mark.long
def test_who_has_no_business_here_is_told_so_and_costs_nobody_a_packet(lab: Lab) -> None:
    link, gateway = lab.link(), lab.gateway()
    gateway.says("connected with the link")
    how = ("a", "terminal", "fixed", "--link", LINK)
    stranger = lab.directory / "stranger"
    make_pair(stranger, "stranger")
    shutil.copy(lab.keys / "server.key", stranger / "server.key")
    misled = lab.directory / "misled"
    make_pair(misled, "server")
    shutil.copy(lab.keys / "terminal.key_secret", misled / "terminal.key_secret")
    (misled / "server.key_secret").unlink()
    for keys, options, expected in (
        ("watcher", (), "on no allow-list for the role packets"),
        ("stranger", (), "on no allow-list for the role packets"),
        ("misled", (), "is server.key that of the link"),
        ("terminal", ("--set", "ports.mtu=1400"), "MTU and networks must be the same"),
    ):
        refused = lab.start(*how, "--keys", str(lab.directory / keys), *options)
        _, told = refused.process.communicate(timeout=PATIENCE_S)
        assert refused.process.returncode == 71, told
        assert expected in told
        assert len([line for line in told.splitlines() if "refused" in line or LINK in line]) >= 1

    def garbage() -> None:
        with zmq.Context() as context:
            for _ in range(20):
                with socket.create_connection(("10.7.1.1", 5600)) as raw:
                    raw.send(os.urandom(5000))
            with context.socket(zmq.DEALER) as known:
                secure_client(known, lab.directory / "terminal", "terminal")
                known.connect(LINK)
                for size in (0, 1, 63, 64, 1000, 100_000):
                    known.send(os.urandom(size))
                for kind in range(12):
                    known.send(build(Header(kind, 0, session=5, records=3)) + os.urandom(64))
                known.setsockopt(zmq.LINGER, 2000)

    lab.machines["a"].run(garbage)
    counted_well(lab, lambda counted: counted["relay"]["broken_batches"] > 10)
    terminal = lab.terminal("ping", "-c", "3", "-i", "0.2", "198.18.0.1")
    out, _ = terminal.process.communicate(timeout=PATIENCE_S)
    assert terminal.process.returncode == 0, out
    second = lab.terminal()
    second.says("connected with the link")
    third = lab.terminal()
    third.says("connected with the link")
    _, told = second.process.communicate(timeout=PATIENCE_S)
    assert "another terminal has taken this one's place" in told
    assert second.process.returncode == 71
    assert link.process.poll() is None
