"""Classes of traffic: each has a queue of its own. The first rule that fits a packet's headers decides.

All wire packets of a super-packet share the headers that rules look at, so one look serves them all. IPv6 extension
headers are walked; of a later fragment only the protocol is known, so that rules about ports do not fit it.

A hundred rules cost little more than one: for each protocol, DSCP and range of ports there is a word of bits, one for
each rule that it fits; the lowest bit that all of them share is the rule (T. V. Lakshman, D. Stiliadis, ACM SIGCOMM
1998). Only the addresses are then looked at one rule after the other.
"""

from __future__ import annotations

from emulator.link.compiled import bit_length, compiled, compiled_apart
from emulator.link.draws import MASK32, finish, mix_word
from emulator.link.state import (
    FLOW,
    FQ_CODEL,
    LANE_DISCIPLINE,
    MATCH_DSCP,
    MATCH_NO_PORTS,
    MATCH_PORTS,
    RULE_ADDRESS,
    RULE_BITS,
    RULE_LANE,
    RULE_VERSION,
    RULES_PER_WORD,
    SEED,
    SUPER_L4,
    SUPER_LENGTH,
    SUPER_LINK,
    SUPER_OFFSET,
    Bytes,
    Ints,
    LinkState,
)
from emulator.link.store import VNET_BYTES
from emulator.link.wire import TCP, UDP, be16, be32, byte, ip_length, layer_4

SCTP, DCCP, UDP_LITE = 132, 33, 136  # IANA protocol numbers: they have their ports where TCP and UDP have them


@compiled
def lane_of(link: LinkState, entry: Ints) -> int:
    """The lane of a super-packet; the last one if no rule fits. Sets the register FLOW where that lane asks for it."""
    lane = len(link.lanes) - 1
    header = entry[SUPER_LINK]
    if entry[SUPER_L4] == header:  # not IP
        link.reg[FLOW] = 0
        return lane
    ip = entry[SUPER_OFFSET] + VNET_BYTES + header
    length = min(entry[SUPER_LENGTH] - header, ip_length(link.ring, ip))  # behind it there may be padding
    if len(link.rules) > 0:
        lane = _first_fit(link.rules, link.matches, link.bounds, link.ring, ip, length, lane)
    if link.lanes[lane, LANE_DISCIPLINE] == FQ_CODEL:
        link.reg[FLOW] = flow_hash(link.ring, ip, length, link.reg[SEED])
    return lane


@compiled
def transport(data: Bytes, ip: int, length: int) -> tuple[int, int]:
    """Protocol of the IP packet at `ip`, and where its ports are: −1 if it has none, or another fragment has them."""
    protocol, at, begins = layer_4(data, ip, length)
    if not begins or protocol not in (TCP, UDP, SCTP, DCCP, UDP_LITE) or at + 4 > ip + length:
        at = -1
    return protocol, at


@compiled_apart
def flow_hash(data: Bytes, ip: int, length: int, seed: int) -> int:
    """What packets of one flow have in common, hashed: addresses, protocol and ports (RFC 8290 section 4.1.1)."""
    protocol, at = transport(data, ip, length)
    state = mix_word(mix_word(protocol, seed & MASK32), (seed >> 32) & MASK32)
    first, words = (ip + 12, 2) if byte(data, ip) >> 4 == 4 else (ip + 8, 8)
    for word in range(words):
        state = mix_word(state, be32(data, first + 4 * word))
    if at >= 0:
        state = mix_word(state, be32(data, at))
    return finish(state ^ words)


@compiled
def _first_fit(rules: Ints, matches: Ints, bounds: Ints, data: Bytes, ip: int, length: int, default: int) -> int:
    protocol, at = transport(data, ip, length)
    version = byte(data, ip) >> 4
    dscp = MATCH_DSCP + (byte(data, ip + 1) >> 2 if version == 4 else (be16(data, ip) >> 6) & 63)
    source, destination = MATCH_NO_PORTS, MATCH_NO_PORTS
    if at >= 0:
        source = MATCH_PORTS + _interval(bounds, be16(data, at))
        destination = MATCH_PORTS + _interval(bounds, be16(data, at + 2))
    for word in range(matches.shape[1]):
        ports = matches[source, word] | matches[destination, word]
        bits = matches[protocol, word] & matches[dscp, word] & ports
        while bits != 0:
            index = word * RULES_PER_WORD + bit_length(bits & -bits) - 1
            if rules[index, RULE_VERSION] == 0 or _addresses_fit(rules, index, data, ip, version):
                return rules[index, RULE_LANE]
            bits &= bits - 1
    return default


@compiled
def _interval(bounds: Ints, port: int) -> int:
    """How many of the rising `bounds` are not above `port`."""
    low, high = 0, len(bounds)
    while low < high:
        middle = (low + high) // 2
        if bounds[middle] <= port:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _addresses_fit(rules: Ints, index: int, data: Bytes, ip: int, version: int) -> bool:
    """Whether the source or the destination is in the rule's network."""
    if rules[index, RULE_VERSION] != version:
        return False
    first, size = (ip + 12, 4) if version == 4 else (ip + 8, 16)
    return _address_fits(rules, index, data, first) or _address_fits(rules, index, data, first + size)


@compiled
def _address_fits(rules: Ints, index: int, data: Bytes, at: int) -> bool:
    """Whether the address at `at` begins as the rule says."""
    bits, word = rules[index, RULE_BITS], 0
    while bits > 0:
        unlike = be32(data, at + 4 * word) ^ rules[index, RULE_ADDRESS + word]
        if unlike >> max(0, 32 - bits) != 0:
            return False
        bits -= 32
        word += 1
    return True
