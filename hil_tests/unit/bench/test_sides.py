"""Addresses that collide with nobody's, and commands that are checked before anything starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import IPRoute

from emulator.bench.commands import check_command
from emulator.bench.runtime import ADDRESSES
from emulator.bench.sides import give_addresses, numbers_in_use, plan_addresses, side_environment
from emulator.errors import CommandNotExecutableError, CommandNotFoundError, InterfaceError
from emulator.ports.namespace import Namespace
from emulator.ports.tun import TunPort
from emulator.scenario.model import Ports


@given(st.lists(st.integers(0, 1023), min_size=2, max_size=5, unique=True))
def test_benches_side_by_side_share_no_address_and_no_network(numbers: list[int]) -> None:
    plans = [plan_addresses(Ports(), number, ipv6=True) for number in numbers]
    networks = [plan.terminal4.network for plan in plans]
    assert len(set(networks)) == len(plans)
    for plan in plans:
        assert plan.terminal4.network == plan.datacenter4.network
        assert plan.terminal4.network.subnet_of(Ports().ipv4_network)
        assert plan.terminal4.ip != plan.datacenter4.ip
        assert {plan.terminal4.ip, plan.datacenter4.ip} == set(plan.terminal4.network.hosts())
        assert plan.terminal6 is not None
        assert plan.datacenter6 is not None
        assert plan.terminal6.network == plan.datacenter6.network
        assert plan.terminal6.network.subnet_of(Ports().ipv6_network)
    assert len({plan.terminal6 for plan in plans}) == len(plans)


@pytest.mark.parametrize(
    ("ports", "number"),
    [
        (Ports(ipv4_network=ipaddress.IPv4Network("10.0.0.0/30")), 1),
        (Ports(ipv4_network=ipaddress.IPv4Network("10.0.0.0/31")), 0),
        (Ports(ipv6_network=ipaddress.IPv6Network("2001:2::/64")), 1),
        (Ports(ipv6_network=ipaddress.IPv6Network("2001:2::/96")), 0),
        (Ports(ipv4_network=ipaddress.IPv4Network("223.255.255.252/30")), 1000),
    ],
)
def test_a_network_that_is_too_small_is_told_with_its_key(ports: Ports, number: int) -> None:
    with pytest.raises(InterfaceError, match=r"ports\.ipv4_network .*ports\.ipv6_network .*number"):
        plan_addresses(ports, number, ipv6=True)


def test_a_kernel_without_ipv6_gets_no_ipv6() -> None:
    plan = plan_addresses(Ports(), 0, ipv6=False)
    assert (plan.terminal6, plan.datacenter6) == (None, None)
    assert not [name for name in side_environment(plan, "t") if name.endswith("6")]


def test_the_environment_tells_each_process_where_it_is() -> None:
    assert side_environment(plan_addresses(Ports(), 2, ipv6=True), "1-ab") == {
        "BENTPIPE_BENCH": "1-ab",
        "BENTPIPE_TERMINAL": "198.18.0.10",
        "BENTPIPE_DATACENTER": "198.18.0.9",
        "BENTPIPE_TERMINAL6": "2001:2:0:2::2",
        "BENTPIPE_DATACENTER6": "2001:2:0:2::1",
    }


@pytest.mark.needs("netns", "tun", "root")
def test_an_address_that_could_not_be_had_is_not_told() -> None:
    warnings: list[str] = []
    with Namespace.create() as near, Namespace.create() as far:
        far.run(lambda: Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
        far.run(lambda: Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1"))
        ports = [TunPort(space, "ut0", mtu=1500, queue_packets=10) for space in (near, far)]
        given = give_addresses(plan_addresses(Ports(), 2, ipv6=True), ports[0], ports[1], warnings.append)
        for port in ports:
            port.close()
    told = side_environment(given, "1-ab")
    assert [name for name in told if name.endswith("6")] == ["BENTPIPE_TERMINAL6"]
    assert len(warnings) == 1


@pytest.mark.needs("netns", "tun", "root")
class TestNumbersInUse:
    @pytest.fixture
    def space(self) -> Iterator[Namespace]:
        with Namespace.create() as new:
            yield new

    @pytest.mark.parametrize(
        ("addresses", "used"),
        [
            ([], set()),
            (["10.0.0.1/8"], set()),
            (["198.18.0.1/30"], {0}),
            (["198.18.0.9/30", "198.18.0.21/32"], {2, 5}),
            (["198.18.0.1/29"], {0, 1}),
            (["198.18.1.1/24"], set(range(64, 128))),
            (["2001:2:0:7::1/64", "2001:db8::1/64"], {7}),
            (["2001:2:0:4::1/63"], {4, 5}),
        ],
    )
    def test_whoever_has_an_address_there_keeps_it(
        self, space: Namespace, addresses: list[str], used: set[int]
    ) -> None:
        port = TunPort(space, "ut0", mtu=1500, queue_packets=10)
        for address in addresses:
            port.add_address(ipaddress.ip_interface(address))
        assert numbers_in_use(space, Ports()) == used
        port.close()

    @pytest.mark.parametrize(
        ("routes", "used"),
        [
            (["198.18.0.8/30"], {2}),
            (["198.18.0.20/32", "2001:2:0:9::/64"], {5, 9}),
            (["198.18.1.0/24"], set(range(64, 128))),
            (["198.18.0.0/15"], set(range(ADDRESSES))),
            (["0.0.0.0/0", "128.0.0.0/1", "::/0"], set()),
        ],
    )
    def test_whoever_has_a_route_there_keeps_it(self, space: Namespace, routes: list[str], used: set[int]) -> None:
        def add() -> None:
            with IPRoute() as netlink:
                index = netlink.link_lookup(ifname="ut0")[0]
                for route in routes:
                    netlink.route("add", dst=route, oif=index)

        port = TunPort(space, "ut0", mtu=1500, queue_packets=10)
        space.run(add)
        assert numbers_in_use(space, Ports()) == used
        port.close()


class TestCommands:
    def test_what_can_be_started_is_fine(self) -> None:
        check_command(["sh"])
        check_command(["/bin/sh", "-c", "exit"])

    @pytest.mark.parametrize("command", ["no-such-command", "/no/such/command", "./no-such-command", ""])
    def test_what_is_not_there_is_127(self, command: str) -> None:
        with pytest.raises(CommandNotFoundError) as caught:
            check_command([command])
        assert caught.value.exit_status == 127

    def test_what_is_there_and_is_no_program_is_126(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("")
        for path in (tmp_path / "text", tmp_path):
            with pytest.raises(CommandNotExecutableError) as caught:
                check_command([str(path)])
            assert caught.value.exit_status == 126
