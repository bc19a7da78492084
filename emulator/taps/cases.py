"""Ready-made packets that a test of network software wants: each a scapy expression with parameters.

An expression may use `terminal` and `datacenter` (and …6), `near` and `far`: where the packet seems to come from and
where it goes, and the parameters, whose defaults stand here and which `bentpipe inject --with NAME=VALUE` sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from emulator.errors import ExpressionError

Value = int | str


@dataclass(frozen=True)
class Case:
    """summary: for the list. expression: of scapy. parameters: with their defaults."""

    summary: str
    expression: str
    parameters: Mapping[str, Value] = field(default_factory=dict)


FLOW: dict[str, Value] = {"sport": 40000, "dport": 80}
QUOTED = "IP(src=far, dst=near)/UDP(sport=dport, dport=sport)/b'12345678'"  # RFC 792: header and 8 bytes of what failed

CASES: dict[str, Case] = {
    "icmp-unreachable": Case(
        "ICMP port unreachable, quoting a UDP packet (RFC 792)",
        f"IP(src=near, dst=far)/ICMP(type=3, code=code)/{QUOTED}",
        {**FLOW, "code": 3},
    ),
    "fragmentation-needed": Case(
        "ICMP fragmentation needed with a next-hop MTU (RFC 1191)",
        "IP(src=near, dst=far)/ICMP(type=3, code=4, nexthopmtu=mtu)"
        "/IP(src=far, dst=near, flags='DF', len=1500)/TCP(sport=dport, dport=sport, seq=seq)",
        {**FLOW, "mtu": 1280, "seq": 1},
    ),
    "packet-too-big": Case(
        "ICMPv6 packet too big with an MTU (RFC 4443)",
        "IPv6(src=near6, dst=far6)/ICMPv6PacketTooBig(mtu=mtu)"
        "/IPv6(src=far6, dst=near6)/TCP(sport=dport, dport=sport, seq=seq)",
        {**FLOW, "mtu": 1280, "seq": 1},
    ),
    "tcp-reset": Case(
        "a TCP RST of a flow; give its next sequence number (RFC 9293)",
        "IP(src=near, dst=far)/TCP(sport=sport, dport=dport, flags='R', seq=seq)",
        {**FLOW, "seq": 1},
    ),
    "duplicate-acks": Case(
        "duplicate acknowledgements, as after a loss (RFC 5681)",
        "[IP(src=near, dst=far)/TCP(sport=sport, dport=dport, flags='A', seq=seq, ack=ack, window=window)] * copies",
        {**FLOW, "seq": 1, "ack": 1, "window": 8192, "copies": 3},
    ),
    "syn-flood": Case(
        "TCP SYNs from many ports of one address (RFC 4987)",
        "[IP(src=near, dst=far)/TCP(sport=1024 + n, dport=dport, flags='S', seq=1000 * n) for n in range(flows)]",
        {"dport": 80, "flows": 500},
    ),
    "malformed-header": Case(
        "an IPv4 header that says it is longer than the packet",
        "IP(src=near, dst=far, ihl=15)/UDP(sport=sport, dport=dport)/b'short'",
        FLOW,
    ),
    "lying-length": Case(
        "a total length beyond the end of the packet",
        "IP(src=near, dst=far, len=length)/UDP(sport=sport, dport=dport)/b'short'",
        {**FLOW, "length": 1400},
    ),
    "tiny-fragments": Case(
        "a datagram in fragments of 8 bytes (RFC 1858)",
        "fragment(IP(src=near, dst=far, id=77)/UDP(sport=sport, dport=dport)/(b'x' * size), fragsize=8)",
        {**FLOW, "size": 64},
    ),
    "overlapping-fragments": Case(
        "two fragments that disagree about the same bytes (RFC 5722)",
        "[IP(src=near, dst=far, id=78, flags='MF', proto=17)/(bytes(UDP(sport=sport, dport=dport, len=40))+b'a'*24), "
        "IP(src=near, dst=far, id=78, frag=1, proto=17)/(b'b' * 32)]",
        FLOW,
    ),
    "wrong-checksum": Case(
        "a UDP datagram whose checksum is wrong",
        "IP(src=near, dst=far)/UDP(sport=sport, dport=dport, chksum=0xBEEF)/b'broken'",
        FLOW,
    ),
    "wrong-ip-checksum": Case(
        "an IPv4 header whose checksum is wrong",
        "IP(src=near, dst=far, chksum=0xBEEF)/UDP(sport=sport, dport=dport)/b'broken'",
        FLOW,
    ),
    "spoofed-source": Case(
        "a datagram from an address that is not there (RFC 2827)",
        "IP(src=source, dst=far)/UDP(sport=sport, dport=dport)/b'who am I'",
        {**FLOW, "source": "203.0.113.66"},
    ),
    "land": Case(
        "a SYN whose source is its destination",
        "IP(src=far, dst=far)/TCP(sport=dport, dport=dport, flags='S')",
        {"dport": 80},
    ),
    "oversized": Case(
        "a datagram of `total` bytes, longer than the usual MTU",
        "IP(src=near, dst=far)/UDP(sport=sport, dport=dport)/(b'x' * (total - 28))",
        {**FLOW, "total": 9000},
    ),
    "dns-lie": Case(
        "an answer to a DNS question that names another address; give the question's id and port",
        "IP(src=near, dst=far)/UDP(sport=53, dport=dport)/DNS(id=id, qr=1, aa=1, qd=DNSQR(qname=name), "
        "an=DNSRR(rrname=name, rdata=address, ttl=60))",
        {"dport": 40000, "id": 1, "name": "example.com", "address": "203.0.113.66"},
    ),
    "ttl-expired": Case(
        "ICMP time exceeded, quoting a UDP packet (RFC 792)",
        f"IP(src=near, dst=far)/ICMP(type=11, code=0)/{QUOTED}",
        FLOW,
    ),
    "ip-options": Case(
        "a datagram with a record-route option, which slow paths handle",
        "IP(src=near, dst=far, options=[IPOption_RR()])/UDP(sport=sport, dport=dport)/b'options'",
        FLOW,
    ),
}


def case_parameters(name: str, settings: Sequence[str]) -> tuple[str, dict[str, Value]]:
    """The expression of a case, and its parameters as `NAME=VALUE` settings change them.

    Raises ExpressionError for a case, a name or a value that it does not know.
    """
    if name not in CASES:
        raise ExpressionError(f"--case {name}: expected one of {', '.join(CASES)}")
    case = CASES[name]
    values = dict(case.parameters)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in values:
            raise ExpressionError(f"--with {setting}: expected NAME=VALUE with one of {', '.join(values)}")
        if isinstance(values[key], str):
            values[key] = text
        else:
            try:
                values[key] = int(text, 0)
            except ValueError as error:
                raise ExpressionError(f"--with {setting}: expected a number") from error
    return case.expression, values
