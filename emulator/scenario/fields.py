"""What all tables of a scenario are made of: quantities with their bounds, and no keys that nobody knows."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyAddress

NOT_OF_HOSTS = tuple(
    ipaddress.ip_network(text)  # "this network", loopback, multicast, reserved: RFC 6890; RFC 4291 section 2.4
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/127", "fe80::/10", "ff00::/8")
)
AnyNetwork = TypeVar("AnyNetwork", ipaddress.IPv4Network, ipaddress.IPv6Network)


def of_hosts(network: AnyNetwork) -> AnyNetwork:
    """The network, if it is of unicast: hosts can have its addresses. Raises ValueError if not."""
    for other in NOT_OF_HOSTS:
        if network.version == other.version and network.overlaps(other):
            raise ValueError(f"expected a network of unicast, got {network}, which overlaps {other}")
    return network


def no_number(said: object) -> object:
    """What may be an address. Raises ValueError if it is a number: `ipaddress` takes 1, and true, for 0.0.0.1."""
    if isinstance(said, int | float):
        raise ValueError(f"expected an address, got {said!r}")
    return said


Latitude = Annotated[float, Field(ge=-90, le=90, description="degrees north, WGS 84")]
Longitude = Annotated[float, Field(ge=-180, le=180, description="degrees east, WGS 84")]
Altitude = Annotated[float, Field(ge=-500, le=100_000, description="metres above the WGS 84 ellipsoid")]
Elevation = Annotated[float, Field(ge=0, lt=90, description="degrees above the horizon")]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
QueuePackets = Annotated[int, Field(ge=1, le=1_000_000, description="wire packets that may wait; one more is dropped")]
OverheadBytes = Annotated[
    int, Field(ge=0, le=1000, description="added to each packet when its time on the air is counted")
]
Megabits = Annotated[float, Field(ge=0, le=100_000, description="counting IP bytes; 0 for no limit")]
QueueDiscipline = Annotated[
    Literal["drop_tail", "drop_front", "codel", "pie", "fq_codel"],
    Field(
        description="which packet goes when the queue is full, the new one or the oldest; "
        "or CoDel (RFC 8289), PIE (RFC 8033), FQ-CoDel (RFC 8290)"
    ),
]
PortRange = Annotated[str, Field(pattern=r"^\d{1,5}(-\d{1,5})?$", description="a port, or the first and the last")]
Address = Annotated[IPvAnyAddress, BeforeValidator(no_number)]
IPv4Hosts = Annotated[ipaddress.IPv4Network, AfterValidator(of_hosts)]
IPv6Hosts = Annotated[ipaddress.IPv6Network, AfterValidator(of_hosts)]
Cycle = Annotated[float, Field(ge=0, le=10_000)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """A TOML table: frozen, unknown keys refused."""

    # Built with the scenario that it is a part of, once, not each for itself when its module is imported.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


def ports_in_order(ranges: tuple[str, ...], key: str = "ports") -> None:
    """Raises ValueError if one of these ranges of ports is none."""
    for text in ranges:
        first, _, last = text.partition("-")
        if not int(first) <= int(last or first) <= 65_535:
            raise ValueError(f"{key}: expected a port up to 65535, or first-last, got {text!r}")
