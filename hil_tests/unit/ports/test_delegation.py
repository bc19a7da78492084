"""Prefix delegation: messages made, and answers read, by another implementation of DHCPv6."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp6 import (
    DUID_LL,
    DUID_UUID,
    DHCP6_Advertise,
    DHCP6_Rebind,
    DHCP6_Release,
    DHCP6_Renew,
    DHCP6_Reply,
    DHCP6_Request,
    DHCP6_Solicit,
    DHCP6OptClientId,
    DHCP6OptIA_NA,
    DHCP6OptIA_PD,
    DHCP6OptIAPrefix,
    DHCP6OptRapidCommit,
    DHCP6OptServerId,
    DHCP6OptStatusCode,
)

from emulator.ports.delegation import DUID, Delegation

LIFETIME_S = 600
FIRST, SECOND = (ipaddress.IPv6Network(f"2001:2:0:8{number}00::/56") for number in (0, 1))
NO_BINDING, NO_PREFIX, NO_ADDRESSES = 3, 6, 2
OURS = DHCP6OptServerId(duid=DUID_LL(DUID))


class Lab:
    def __init__(self) -> None:
        self.prefix: ipaddress.IPv6Network | None = FIRST
        self.now_s = 0.0
        self.router = Delegation(lambda: self.prefix, LIFETIME_S, lambda: self.now_s)

    def ask(self, message: Any, client: int = 1, *options: Any, had: str = "") -> Any:
        """The parsed answer to a message about IA_PD 7, None if there is none."""
        prefixes = [DHCP6OptIAPrefix(prefix=had, plen=56)] if had else []
        options = (who(client), *options, DHCP6OptIA_PD(iaid=7, iapdopt=prefixes))
        for option in options:
            message /= option
        answer = self.router.answer(bytes(message))
        return None if answer is None else (DHCP6_Advertise if answer[0] == 2 else DHCP6_Reply)(answer)

    def hold(self, client: int = 1) -> Any:
        return self.ask(DHCP6_Request(trid=5), client, OURS)


def who(client: int) -> Any:
    return DHCP6OptClientId(duid=DUID_UUID(uuid=f"00000000-0000-0000-0000-{client:012}"))


def given_in(answer: Any) -> list[tuple[str, int]]:
    """Each prefix of its IA_PD, with its lifetime."""
    prefixes = [one for one in answer[DHCP6OptIA_PD].iapdopt if isinstance(one, DHCP6OptIAPrefix)]
    assert all(one.validlft == one.preflft for one in prefixes)
    return [(f"{one.prefix}/{one.plen}", one.validlft) for one in prefixes]


def status(answer: Any, layer: Any = DHCP6OptIA_PD, field: str = "iapdopt") -> int:
    (one,) = getattr(answer[layer], field)
    assert isinstance(one, DHCP6OptStatusCode)
    return int(one.statuscode)


def test_it_is_offered_and_then_given() -> None:
    lab = Lab()
    offered = lab.ask(DHCP6_Solicit(trid=0xABCDEF))
    assert (offered.msgtype, offered.trid, bytes(offered[DHCP6OptServerId].duid)) == (2, 0xABCDEF, DUID)
    assert bytes(offered[DHCP6OptClientId].duid) == bytes(who(1).duid)
    got = lab.hold()
    assert (got.msgtype, got[DHCP6OptIA_PD].iaid, got[DHCP6OptIA_PD].T1, got[DHCP6OptIA_PD].T2) == (7, 7, 300, 480)
    assert given_in(offered) == given_in(got) == [(str(FIRST), LIFETIME_S)]


def test_at_once_where_the_client_wants_it() -> None:
    answer = Lab().ask(DHCP6_Solicit(trid=1), 1, DHCP6OptRapidCommit())
    assert (answer.msgtype, DHCP6OptRapidCommit in answer) == (7, True)


def test_another_prefix_takes_the_place_of_the_one_before() -> None:
    lab = Lab()
    lab.hold()
    lab.prefix = SECOND
    for message in (
        lab.ask(DHCP6_Renew(trid=1), 1, OURS, had="2001:2:0:8000::"),
        lab.ask(DHCP6_Rebind(trid=2), had="2001:2:0:8000::"),
    ):
        assert given_in(message) == [(str(SECOND), LIFETIME_S), (str(FIRST), 0)]
    assert given_in(lab.ask(DHCP6_Solicit(trid=3), had="2001:db8::")) == [(str(SECOND), LIFETIME_S)], "a wish"


def test_there_is_one_until_it_is_given_back_or_has_expired() -> None:
    lab = Lab()
    lab.hold(1)
    assert status(lab.hold(2)) == NO_PREFIX
    assert status(lab.ask(DHCP6_Release(trid=1), 2, OURS)) == NO_BINDING
    assert lab.ask(DHCP6_Release(trid=1), 1, OURS)[DHCP6OptStatusCode].statuscode == 0
    assert given_in(lab.hold(2))
    lab.now_s += LIFETIME_S - 1
    assert status(lab.hold(1)) == NO_PREFIX
    lab.now_s += 1
    assert given_in(lab.hold(1))
    lab.prefix = None
    assert status(lab.hold(1)) == NO_PREFIX


def test_addresses_are_not_given() -> None:
    answer = Lab().ask(DHCP6_Solicit(trid=1), 1, DHCP6OptIA_NA(iaid=3))
    assert status(answer, DHCP6OptIA_NA, "ianaopts") == NO_ADDRESSES
    assert given_in(answer)


def test_what_is_for_another_server_or_for_none_is_let_be() -> None:
    lab, other = Lab(), DHCP6OptServerId(duid=DUID_LL(lladdr="02:00:00:00:00:09"))
    assert lab.ask(DHCP6_Request(trid=1), 1, other) is None
    assert lab.ask(DHCP6_Request(trid=1)) is None
    assert lab.ask(DHCP6_Solicit(trid=1), 1, OURS) is None
    assert lab.ask(DHCP6_Reply(trid=1)) is None
    assert lab.router.answer(bytes(DHCP6_Solicit(trid=1) / DHCP6OptIA_PD(iaid=7))) is None, "from nobody"


@given(st.binary(max_size=80), st.integers(0, 80), st.integers(0, 80))
def test_whatever_comes_is_answered_or_let_be(noise: bytes, cut: int, at: int) -> None:
    whole = bytes(
        DHCP6_Renew(trid=9) / who(1) / OURS / DHCP6OptIA_PD(iaid=7, iapdopt=[DHCP6OptIAPrefix(prefix="::", plen=56)])
    )
    for message in (noise, whole[:cut], whole[:at] + noise + whole[at + len(noise) :]):
        answer = Lab().router.answer(message)
        assert answer is None or (answer[0] in (2, 7) and answer[1:4] == message[1:4])
