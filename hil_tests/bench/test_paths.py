"""Several paths between the same two sides: addresses, the path in use, failures that stay where they are, daemons."""

from __future__ import annotations

import functools
import json
import os
import re
import select
import signal
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.errors import CommandNotFoundError, InterfaceError, ScenarioError
from emulator.ports import wires
from emulator.ports.namespace import Namespace
from emulator.scenario.model import OverlayEvent
from hil_tests.bench.field import PATIENCE_S, receive, run, running, within
from hil_tests.bench.living import REPOSITORY, until

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled"), pytest.mark.usefixtures("nothing_left")]
FIXED = "link.delay_ms=1"
IPPROTO_MPTCP = 262  # linux/in.h
SEVERAL = (
    FIXED,
    'paths=[{name="slow", scenario="fixed", set=["link.delay_ms=30"]}, {name="cable", preference=500}]',
)


def packets(bench: Bench, name: str) -> int:
    return bench.network.paths.benches[name].counters().uplink.delivered_packets


def ping(side: Side, variable: str) -> int:
    return run(side, "sh", "-c", f"ping -c 1 -W 5 ${variable}").returncode


def test_each_path_carries_its_own_and_the_sites_addresses_follow_the_path_in_use() -> None:
    with running("fixed", *SEVERAL) as bench:
        listed = {path["name"]: path for path in bench.network.do("paths")}
        assert {name: path["in_use"] for name, path in listed.items()} == {"ut0": True, "slow": False, "cable": False}
        assert [path["delay_ms"] for path in listed.values()] == [1, 30, 0]
        for variable in ("BENTPIPE_UT0_DATACENTER", "BENTPIPE_SLOW_DATACENTER", "BENTPIPE_CABLE_DATACENTER"):
            assert ping(bench.terminal, variable) == 0
        assert (packets(bench, "ut0"), packets(bench, "slow")) == (1, 1)
        for name, counts in {"slow": (1, 3), "cable": (1, 3), "ut0": (3, 3)}.items():
            assert bench.network.do("use_path", name=name)["in_use"]
            assert ping(bench.terminal, "BENTPIPE_SITE_DATACENTER") == 0
            assert ping(bench.datacenter, "BENTPIPE_SITE_TERMINAL") == 0
            assert (packets(bench, "ut0"), packets(bench, "slow")) == counts, name
        with pytest.raises(InterfaceError, match="expected a path of this bench: ut0, slow, cable"):
            bench.network.do("use_path", name="fast")


def test_a_connection_stays_on_its_path_and_an_outage_of_one_path_leaves_the_others() -> None:
    with running("fixed", *SEVERAL) as bench:
        server = bench.datacenter.namespace.run(functools.partial(socket.socket))
        server.bind(("", 5000))
        server.listen()
        client = bench.terminal.namespace.run(functools.partial(socket.socket))
        client.settimeout(PATIENCE_S)
        client.connect(("198.18.0.1", 5000))
        accepted, _ = server.accept()
        accepted.settimeout(PATIENCE_S)
        with server, client, accepted:
            bench.network.do("use_path", name="slow")
            before = packets(bench, "slow")
            client.sendall(b"still here")
            assert accepted.recv(100) == b"still here"
            assert packets(bench, "slow") == before
        bench.network.paths.benches["slow"].apply(OverlayEvent(kind="outage", at_s=0, duration_s=1000))
        until(lambda: bench.network.do("paths")[1]["gate"] == "DROP")
        assert bench.network.do("paths")[0]["gate"] == "PASS"
        assert ping(bench.terminal, "BENTPIPE_UT0_DATACENTER") == 0


def test_a_path_that_fails_says_so_and_the_others_go_on() -> None:
    with running("fixed", *SEVERAL) as bench:
        assert run(bench.terminal, "ip", "link", "delete", "slow").returncode == 0
        failure = until(lambda: bench.network.do("paths")[1]["failure"])
        assert "terminal's interface" in failure
        assert ping(bench.terminal, "BENTPIPE_UT0_DATACENTER") == 0
        assert ping(bench.terminal, "BENTPIPE_CABLE_DATACENTER") == 0


@pytest.mark.parametrize(
    ("paths", "said"),
    {
        '[{name="a"}, {name="a"}]': "paths[1].name: expected a name of its own, got 'a'",
        '[{name="a", scenario="no-such"}]': "paths[0] a: ",
        '[{name="a", scenario="fixed", set=["link.delay_ms=-1"]}]': "paths[0] a: --set link.delay_ms=-1: expected",
        '[{name="a", scenario="modular_datacenter"}]': "paths[0] a: expected a scenario of one path",
    }.items(),
)
def test_paths_that_cannot_be_are_named(paths: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught, running("fixed", f"paths={paths}"):
        pass
    assert said in str(caught.value)


def test_carriers_of_two_paths_have_networks_of_their_own() -> None:
    two = 'paths=[{name="b", scenario="fixed", set=["access.nat44=true", "link.delay_ms=1"]}]'
    with running("fixed", FIXED, "access.nat44=true", two) as bench:
        addresses = [path["terminal"] for path in bench.network.do("paths")]
        assert addresses == ["100.64.0.2", "100.65.0.2"]
        for variable in ("BENTPIPE_UT0_DATACENTER", "BENTPIPE_B_DATACENTER"):
            assert ping(bench.terminal, variable) == 0
        assert (packets(bench, "ut0"), packets(bench, "b")) == (1, 1)


@pytest.mark.needs("bird")
def test_a_routing_daemon_that_dies_is_named_and_its_routes_go(tmp_path: Path) -> None:
    """It prefers the slow path; without it the static route leads over the path in use, and none else changes."""
    (tmp_path / "bird.conf").write_text(
        "router id 198.18.62.2; protocol device { }\n"
        "protocol kernel { ipv4 { export all; }; }\n"
        "protocol static { ipv4; route 198.18.62.1/32 via 198.18.0.5; }\n"
    )
    command = ["bird", "-f", "-c", str(tmp_path / "bird.conf"), "-s", str(tmp_path / "ctl")]
    words = [f'{{name="bird", at="terminal", routes=12, command={json.dumps(command)}}}']
    words.append('{name="other", at="datacenter", command=["sleep", "1000"]}')
    two = 'paths=[{name="slow", scenario="fixed", set=["link.delay_ms=5"]}]'
    with running("fixed", FIXED, two, f"daemons=[{', '.join(words)}]") as bench:

        def by() -> str:
            (route,) = json.loads(run(bench.terminal, "ip", "-json", "route", "get", "198.18.62.1").stdout)
            return str(route["dev"])

        until(lambda: by() == "slow")
        terminal, datacenter = bench.network.do("daemons")
        assert (terminal["alive"], datacenter["alive"]) == (True, True)
        (pid,) = (int(found) for found in run(bench.terminal, "pgrep", "-f", f"^bird.*{tmp_path}/ctl").stdout.split())
        os.kill(pid, signal.SIGKILL)
        until(lambda: not bench.network.do("daemons")[0]["alive"])
        terminal, datacenter = bench.network.do("daemons")
        assert (terminal["ended"], terminal["routes_removed"], datacenter["alive"]) == ("SIGKILL", 1, True)
        said = "daemon bird at the terminal's side has ended (SIGKILL); 1 routes of its taken away"
        assert bench.warnings == [said]
        assert by() == "ut0"
        for variable in ("BENTPIPE_UT0_DATACENTER", "BENTPIPE_SLOW_DATACENTER"):
            assert ping(bench.terminal, variable) == 0
    assert bench.warnings == [said], "an orderly end is none to speak of"


def test_a_daemon_that_there_is_not_is_named() -> None:
    wanted = 'daemons=[{name="x", at="terminal", command=["no-such-daemon"]}]'
    with pytest.raises(CommandNotFoundError, match="no-such-daemon"), running("fixed", wanted):
        pass


def mptcp_socket(space: Namespace) -> socket.socket:
    made = space.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP))
    made.settimeout(PATIENCE_S)
    return made


@pytest.mark.needs("mptcp")
def test_one_connection_uses_both_paths_and_lives_on_with_one() -> None:
    """The kernel's MPTCP: the subflow of the second path begins at its address, and so stays on it."""
    size = 600_000
    two = 'paths=[{name="second", scenario="fixed", set=["link.delay_ms=5", "link.rate_mbps=20"]}]'
    with running("fixed", "link.delay_ms=5", "link.rate_mbps=20", two) as bench:
        second = bench.network.paths.told["BENTPIPE_SECOND_TERMINAL"]
        for side in (bench.terminal, bench.datacenter):
            assert run(side, "ip", "mptcp", "limits", "set", "subflow", "2").returncode == 0
        endpoint = ["ip", "mptcp", "endpoint", "add", second, "dev", "second", "subflow"]
        assert run(bench.terminal, *endpoint).returncode == 0
        links = bench.network.paths.benches.values()
        with mptcp_socket(bench.datacenter.namespace) as server, mptcp_socket(bench.terminal.namespace) as client:
            server.bind((bench.datacenter.ipv4, 5000))
            server.listen()
            client.connect(server.getsockname())
            accepted, _ = server.accept()
            accepted.settimeout(PATIENCE_S)
            with accepted:

                def carried() -> list[int]:
                    before = [link.counters().uplink.delivered_bytes for link in links]
                    sending = threading.Thread(target=client.sendall, args=(bytes(size),))
                    sending.start()
                    assert len(receive(accepted, size)) == size
                    sending.join()
                    after = [link.counters().uplink.delivered_bytes for link in links]
                    return [there - here for here, there in zip(before, after, strict=True)]

                until(lambda: min(carried()) > size / 10)
                bench.apply(OverlayEvent(kind="outage", at_s=0, duration_s=1000))
                until(lambda: bench.network.do("paths")[0]["gate"] == "DROP")
                first, other = carried()
                assert first == 0
                assert other > size


@pytest.mark.long
def test_four_paths_of_a_gigabit_share_the_machine() -> None:
    """A TCP connection over each, all at once: none is starved by the others."""
    names = ["a", "b", "c", "d"]
    keys = ["link.delay_ms=5", "link.rate_mbps=1000", "link.queue_packets=4000"]
    more = ", ".join(f'{{name="{name}", scenario="fixed", set={json.dumps(keys)}}}' for name in names[1:])
    with running("fixed", *keys, "ports.terminal_interface=a", f"paths=[{more}]") as bench:
        told, came, stop = bench.network.paths.told, dict.fromkeys(names, 0), threading.Event()
        for side in (bench.terminal, bench.datacenter):
            buffers = {"ipv4.tcp_wmem": "4096 65536 33554432", "ipv4.tcp_rmem": "4096 65536 33554432"}
            wires.set_kernel(side.namespace, buffers)

        def carry(name: str) -> None:
            server, client = (side.namespace.run(socket.socket) for side in (bench.datacenter, bench.terminal))
            server.bind((told[f"BENTPIPE_{name.upper()}_DATACENTER"], 0))
            server.listen()
            client.bind((told[f"BENTPIPE_{name.upper()}_TERMINAL"], 0))
            client.connect(server.getsockname())
            accepted, _ = server.accept()
            with server, client, accepted:
                client.setblocking(False)
                accepted.setblocking(False)
                room, data = bytearray(1 << 20), bytes(1 << 20)
                while not stop.is_set():
                    readable, writable, _ = select.select([accepted], [client], [], 0.1)
                    if writable:
                        client.send(data)
                    if readable:
                        came[name] += accepted.recv_into(room)

        threads = [threading.Thread(target=carry, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        began = until(lambda: min(came.values()) > 10_000_000 and time.monotonic())
        before = dict(came)
        within(60, lambda: time.monotonic() > began + 4, every_s=0.1)
        seconds, after = time.monotonic() - began, dict(came)
        stop.set()
        for thread in threads:
            thread.join()
    rates = [(after[name] - before[name]) * 8 / seconds / 1e6 for name in names]
    fairness = sum(rates) ** 2 / (len(rates) * sum(rate**2 for rate in rates))  # Jain, Chiu and Hawe 1984
    print(f"{' '.join(f'{rate:.0f}' for rate in rates)} Mbit/s, Jain's fairness {fairness:.3f}")
    assert fairness > 0.8, "0.75, if one of the four is starved"


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.needs("bird", "birdc")
def test_fibre_is_cut_satellites_take_over_nothing_flaps_and_fibre_returns(tmp_path: Path) -> None:
    """BFD and BGP by bird, over the embedded scenario; what happened is read from bird's own log."""
    with running("modular_datacenter") as bench:
        for side in (bench.terminal, bench.datacenter):
            configuration = REPOSITORY / "configs" / "bird" / f"{side.name}.conf"
            files = ["-D", str(tmp_path / f"{side.name}.log"), "-s", str(tmp_path / f"{side.name}.ctl")]
            side.popen(["bird", "-f", "-c", str(configuration), *files])

        def by() -> str:
            routes = json.loads(run(bench.terminal, "ip", "-json", "route", "get", "198.18.62.1").stdout)
            return str(routes[0]["dev"]) if "gateway" in routes[0] else "static"

        def established() -> bool:
            told = run(bench.terminal, "birdc", "-s", str(tmp_path / "terminal.ctl"), "show", "protocols").stdout
            return len(re.findall("Established", told)) == 4

        def watched() -> bool:
            """BFD is up on every path: before that it notices nothing."""
            told = run(bench.terminal, "birdc", "-s", str(tmp_path / "terminal.ctl"), "show", "bfd", "sessions").stdout
            return len(re.findall(r"\bUp\b", told)) == 4

        until(established)
        assert by() == "fibre"
        quiet_until = time.monotonic() + 31  # two slot boundaries of Starlink at least
        until(lambda: time.monotonic() > quiet_until)
        assert by() == "fibre"
        cuts = []
        for lasts_s in (8, 4, 4):
            until(watched)
            cuts.append(bench.apply(OverlayEvent(kind="outage", at_s=0, duration_s=lasts_s)))
            until(lambda: by() == "leo")
            until(lambda: by() == "fibre")
        ended_ns = bench.utc_ns()
    log = (tmp_path / "terminal.log").read_text()
    stops = re.findall(r"(\S+ \S+) <TRACE> (\w+): State changed to stop", log)
    downs = [(at_ns, name) for at, name in stops if (at_ns := as_utc_ns(at)) < ended_ns]
    assert [name for _, name in downs] == ["fibre"] * len(cuts), "nothing else flaps"
    noticed = [at_ns for at_ns, _ in downs]
    took_ms = [(at - bench.utc_of_monotonic_ns(cut)) / 1e6 for at, cut in zip(noticed, cuts, strict=True)]
    print(f"BFD noticed the cuts after {', '.join(f'{ms:.0f}' for ms in took_ms)} ms")
    assert min(took_ms) > 190, "three intervals of 100 ms, the first of which may be nearly over"
    assert min(took_ms) <= 400, "the quickest of three: whoever has the cores for a while delays the others"


def as_utc_ns(logged: str) -> float:
    """A time of bird's log."""
    return datetime.strptime(logged, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp() * 1e9
