"""Classes of traffic: each has a queue of its own. The first rule that fits a packet's headers decides.

All wire packets of a super-packet share the headers that rules look at, so one look serves them all. IPv6 extension
headers are walked; of a later fragment only the protocol is known, so that rules about ports do not fit it.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import (
    RULE_DSCP,
    RULE_LANE,
    RULE_PORT_FIRST,
    RULE_PORT_LAST,
    RULE_PROTOCOL,
    SUPER_L4,
    SUPER_LENGTH,
    SUPER_LINK,
    SUPER_OFFSET,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import VNET_BYTES
from emulator.link.wire import TCP, UDP, be16, byte

ANY = -1
SCTP, DCCP, UDP_LITE = 132, 33, 136  # IANA protocol numbers: they have their ports where TCP and UDP have them
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60  # IPv6 extension headers
MOST_EXTENSIONS = 8


@compiled
def lane_of(link: LinkState, entry: Ints) -> int:
    """The lane of a super-packet; the last one if no rule fits, or if it is not IP."""
    default = len(link.lanes) - 1
    ethernet = entry[SUPER_LINK]
    if len(link.rules) == 0 or entry[SUPER_L4] == ethernet:
        return default
    ip = entry[SUPER_OFFSET] + VNET_BYTES + ethernet
    return _first_fit(link.rules, link.ring, ip, entry[SUPER_LENGTH] - ethernet, default)


@compiled_apart
def _first_fit(rules: Ints, data: Bytes, ip: int, length: int, default: int) -> int:
    if byte(data, ip) >> 4 == 4:
        protocol = byte(data, ip + 9)
        dscp = byte(data, ip + 1) >> 2
        at = ip + (byte(data, ip) & 15) * 4
        has_ports = be16(data, ip + 6) & 0x1FFF == 0  # fragment offset
    else:
        protocol = byte(data, ip + 6)
        dscp = (be16(data, ip) >> 6) & 63
        at = ip + 40
        has_ports = True
        for _ in range(MOST_EXTENSIONS):
            if at + 8 > ip + length:
                break
            if protocol == FRAGMENT:
                has_ports = has_ports and be16(data, at + 2) >> 3 == 0
                size = 8
            elif protocol == AUTHENTICATION:
                size = (byte(data, at + 1) + 2) * 4
            elif protocol in (HOP_BY_HOP, ROUTING, DESTINATION):
                size = (byte(data, at + 1) + 1) * 8
            else:
                break
            protocol = byte(data, at)
            at += size
    source, destination = ANY, ANY
    if has_ports and protocol in (TCP, UDP, SCTP, DCCP, UDP_LITE) and at + 4 <= ip + length:
        source, destination = be16(data, at), be16(data, at + 2)
    for index in range(len(rules)):
        first, last = rules[index, RULE_PORT_FIRST], rules[index, RULE_PORT_LAST]
        if rules[index, RULE_PROTOCOL] not in (ANY, protocol) or rules[index, RULE_DSCP] not in (ANY, dscp):
            continue
        if first == ANY or first <= source <= last or first <= destination <= last:
            return rules[index, RULE_LANE]
    return default
