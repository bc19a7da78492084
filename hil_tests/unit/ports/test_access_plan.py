"""Addresses around the access network's router: none is given twice, and what cannot be is named."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import InterfaceError, ScenarioError
from emulator.ports.access import AccessPlan, plan_access
from emulator.scenario import load_scenario
from emulator.scenario.access import POOL, PREFIXES, Access
from emulator.scenario.model import Ports

NUMBERS = st.integers(0, 15)  # so many fit into the default delegated_network


def planned(number: int, *, access: Access | None = None, ports: Ports | None = None) -> AccessPlan:
    return plan_access(access or Access(), ports or Ports(), number, ipv6=True)


@given(NUMBERS, NUMBERS)
def test_benches_side_by_side_share_no_address(one: int, other: int) -> None:
    plans = [planned(number) for number in {one, other}]
    for number, plan in enumerate(plans):
        for another in plans[number + 1 :]:
            assert not plan.public.overlaps(another.public)
            assert plan.delegated is not None
            assert another.delegated is not None
            assert not plan.delegated.overlaps(another.delegated)
            assert not plan.router4.network.overlaps(another.router4.network)


@given(NUMBERS)
def test_every_point_of_presence_has_an_address_and_a_prefix_of_its_own(number: int) -> None:
    plan = planned(number)
    assert len({plan.public4(place) for place in range(POOL)}) == POOL
    prefixes = {plan.prefix6(place) for place in range(PREFIXES)}
    assert len(prefixes) == PREFIXES
    assert all(prefix is not None and prefix.subnet_of(plan.delegated or prefix) for prefix in prefixes)
    assert plan.public4(POOL) == plan.public4(0), "after the last comes the first"


def test_networks_that_are_used_up_are_named() -> None:
    small = Access(public_network=ipaddress.IPv4Network("198.19.0.0/28"))
    planned(0, access=small)
    with pytest.raises(InterfaceError, match=r"access.public_network 198.19.0.0/28.*number 1"):
        planned(1, access=small)
    with pytest.raises(InterfaceError, match=r"access.delegated_network 2001:2:0:8000::/49: .* eight /56 number 16"):
        planned(16)


@pytest.mark.parametrize(
    ("key", "network"), [("terminal_network", "198.18.0.0/24"), ("public_network", "198.18.0.0/16")]
)
def test_networks_that_overlap_are_named(key: str, network: str) -> None:
    with pytest.raises(InterfaceError, match=f"access.{key}: .* overlaps 198.18.0.0/30"):
        planned(0, access=Access(**{key: ipaddress.IPv4Network(network)}))  # type: ignore[arg-type]


@pytest.mark.parametrize("group", ["10.0.0.1", "224.0.0.5", "2001:db8::1", "ff12::5"])
def test_a_group_that_is_never_routed_is_named(group: str) -> None:
    with pytest.raises(ScenarioError, match=f"expected a group that is routed, such as 239.1.2.3, got {group}"):
        load_scenario("fixed", [f"access.multicast_groups=['{group}']"])


@pytest.mark.parametrize("name", ["starlink_2025", "starlink_2023_in_motion", "starlink_polar_isl"])
def test_one_setting_gives_a_starlink_terminal_the_operator_s_addresses(name: str) -> None:
    """IPv4 CGNAT 100.64.0.0/10, gateway 100.64.0.1, no inbound; IPv6 /56, as the operator's support pages say."""
    assert load_scenario(name).access is None
    scenario = load_scenario(name, ["access.nat44=true"])
    assert scenario.access is not None
    assert not scenario.access.inbound
    plan = plan_access(scenario.access, scenario.ports, 0, ipv6=True)
    assert str(plan.gateway4) == "100.64.0.1/10"
    assert str(plan.terminal4) == "100.64.0.2/10"
    prefix = plan.prefix6(0)
    assert prefix is not None
    assert prefix.prefixlen == 56
