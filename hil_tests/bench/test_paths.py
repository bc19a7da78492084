"""Several paths between the same two sides: addresses, the path in use, failures that stay where they are, daemons."""

from __future__ import annotations

import functools
import json
import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.errors import InterfaceError, ScenarioError
from emulator.scenario.model import OverlayEvent
from hil_tests.bench.field import PATIENCE_S, run, running
from hil_tests.bench.living import REPOSITORY, until

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled"), pytest.mark.usefixtures("nothing_left")]
FIXED = "link.delay_ms=1"
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


@pytest.mark.long
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

        until(established)
        assert by() == "fibre"
        quiet_until = time.monotonic() + 31  # two slot boundaries of Starlink at least
        until(lambda: time.monotonic() > quiet_until)
        assert by() == "fibre"
        cut = bench.apply(OverlayEvent(kind="outage", at_s=0, duration_s=8))
        until(lambda: by() == "leo")
        until(lambda: by() == "fibre")
    log = (tmp_path / "terminal.log").read_text()
    downs = re.findall(r"(\S+ \S+) <TRACE> (\w+): State changed to stop", log.partition("Shutting down")[0])
    named = [name for _, name in downs if name]
    assert named[0] == "fibre"
    assert named.count("leo") <= 1, "at the end, when the far daemon shuts down"
    noticed = datetime.strptime(downs[0][0], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    after_ms = (noticed.timestamp() * 1e9 - bench.utc_of_monotonic_ns(cut)) / 1e6
    print(f"BFD noticed the cut after {after_ms:.0f} ms")
    assert after_ms > 190, "three intervals of 100 ms, the first of which may be nearly over"
