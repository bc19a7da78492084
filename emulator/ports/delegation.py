"""Prefix delegation by DHCPv6 (RFC 8415): how a client at the terminal is told its prefix, and of another one later.

`Delegation` answers messages, and reads no socket; `DelegationServer` does, at the router's end of the link.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from emulator.errors import InterfaceError
from emulator.ports.namespace import Namespace

SERVER_PORT = 547  # RFC 8415 section 7.2
SERVERS_AND_RELAYS = ipaddress.IPv6Address("ff02::1:2")  # section 7.1
SOLICIT, ADVERTISE, REQUEST, RENEW, REBIND, REPLY, RELEASE = 1, 2, 3, 5, 6, 7, 8  # section 7.3
CLIENT_ID, SERVER_ID, IA_NA, STATUS, RAPID_COMMIT, IA_PD, IA_PREFIX = 1, 2, 3, 13, 14, 25, 26  # section 21
SUCCESS, NO_ADDRESSES, NO_BINDING, NO_PREFIX = 0, 2, 3, 6  # section 21.13
DUID = struct.pack("!HH6s", 3, 1, bytes.fromhex("02bb00000001"))
"""The server's: of a link-layer address (section 11.4: type 3), Ethernet's (1), locally administered."""
LARGEST_MESSAGE = 65_535
PREFIX_AT = 25  # bytes of an IA Prefix before its own options

Prefix = ipaddress.IPv6Network
Option = tuple[int, bytes]


class Delegation:
    """What one router delegates: a prefix at a time, to the first that asks, until he gives it back or is silent.

    current: the prefix of the moment. lifetime_s: how long a client may use it without asking again. now_s: a clock.
    """

    def __init__(
        self, current: Callable[[], Prefix | None], lifetime_s: int, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._current, self._lifetime_s, self._now_s = current, lifetime_s, now_s
        self._holder: tuple[bytes, bytes] | None = None  # DUID and IAID
        self._until_s = 0.0

    def answer(self, message: bytes) -> bytes | None:
        """The reply to a client's message; None to what deserves none, as what is malformed or for somebody else."""
        try:
            kind, options = message[0], list(_options(message[4:]))
        except (IndexError, ValueError):
            return None
        named = dict(options)
        client, server = named.get(CLIENT_ID), named.get(SERVER_ID)
        addressed = kind in (REQUEST, RENEW, RELEASE)  # section 16: the others must not name a server
        if client is None or not (addressed or kind in (SOLICIT, REBIND)) or server != (DUID if addressed else None):
            return None
        at_once = kind == SOLICIT and RAPID_COMMIT in named
        parts = [_option(CLIENT_ID, client), _option(SERVER_ID, DUID)]
        parts += [_option(RAPID_COMMIT, b"")] if at_once else []
        try:
            parts += [part for code, data in options if (part := self._association(kind, client, code, data, at_once))]
        except ValueError:
            return None
        parts += [_status(SUCCESS)] if kind == RELEASE else []
        return bytes([ADVERTISE if kind == SOLICIT and not at_once else REPLY]) + message[1:4] + b"".join(parts)

    def _association(self, kind: int, client: bytes, code: int, data: bytes, at_once: bool) -> bytes:
        """The answer to one identity association; nothing to any other option. Raises ValueError: malformed."""
        if code == IA_NA and len(data) >= 12:  # the terminal's own address is not given in this way
            return _option(IA_NA, data[:4] + bytes(8) + _status(NO_ADDRESSES))
        if code != IA_PD:
            return b""
        if len(data) < 12:
            raise ValueError
        asked = [option for number, option in _options(data[12:]) if number == IA_PREFIX and len(option) >= PREFIX_AT]
        prefix, who, now_s = self._current(), (client, data[:4]), self._now_s()
        if now_s >= self._until_s:
            self._holder = None
        if kind == RELEASE:
            held = self._holder == who
            self._holder = None if held else self._holder
            return b"" if held else _option(IA_PD, data[:4] + bytes(8) + _status(NO_BINDING))
        if prefix is None or self._holder not in (None, who):
            return _option(IA_PD, data[:4] + bytes(8) + _status(NO_PREFIX))
        if kind != SOLICIT or at_once:
            self._holder, self._until_s = who, now_s + self._lifetime_s
        own = struct.pack("!B16s", prefix.prefixlen, prefix.network_address.packed)
        given = _option(IA_PREFIX, struct.pack("!II", self._lifetime_s, self._lifetime_s) + own)
        before = [] if kind == SOLICIT else [old[8:PREFIX_AT] for old in asked if any(old[9:PREFIX_AT])]  # ::/n: a wish
        gone = b"".join(_option(IA_PREFIX, bytes(8) + old) for old in before if old != own)
        times = struct.pack("!II", self._lifetime_s // 2, self._lifetime_s * 4 // 5)  # section 21.21: 0.5 and 0.8
        return _option(IA_PD, data[:4] + times + given + gone)


def _options(data: bytes) -> Iterator[Option]:
    """Raises ValueError if they are cut off."""
    while data:
        if len(data) < 4:
            raise ValueError
        code, size = struct.unpack("!HH", data[:4])
        if len(data) < 4 + size:
            raise ValueError
        yield code, data[4 : 4 + size]
        data = data[4 + size :]


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def _status(code: int) -> bytes:
    return _option(STATUS, struct.pack("!H", code))


class DelegationServer:
    """Answers at an interface of a namespace until `close`. Raises InterfaceError if the port is not to be had."""

    def __init__(self, namespace: Namespace, interface: str, delegation: Delegation) -> None:
        self._delegation = delegation
        try:
            self._socket = namespace.run(lambda: _open(interface))
        except OSError as error:
            raise InterfaceError(f"access.dhcpv6_lifetime_s: DHCPv6 at {interface}: {error.strerror}") from error
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve, name="dhcpv6", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        ends: list[Any] = [self._socket, self._wake]
        while self._wake not in select.select(ends, [], [])[0]:
            with contextlib.suppress(OSError):  # a client that is gone
                message, sender = self._socket.recvfrom(LARGEST_MESSAGE)
                if reply := self._delegation.answer(message):
                    self._socket.sendto(reply, sender)

    def close(self) -> None:
        """Ends it."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._socket.close()
        os.close(self._wake)


def _open(interface: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        index = socket.if_nametoindex(interface)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        opened.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, SERVERS_AND_RELAYS.packed + struct.pack("@I", index)
        )
        opened.bind(("::", SERVER_PORT))
    except BaseException:
        opened.close()
        raise
    return opened
