"""An interface of ours on somebody's network card, beside what the card does already: on its wire, or on one VLAN."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from emulator.bench import vlan_end
from emulator.errors import InterfaceError
from emulator.ports import wires
from emulator.ports.frames import SOL_PACKET
from emulator.ports.namespace import Namespace
from emulator.ports.nic import (
    ETH_P_ALL,
    PACKET_ADD_MEMBERSHIP,
    PACKET_IGNORE_OUTGOING,
    PACKET_MR_PROMISC,
    PACKET_VNET_HDR,
)
from emulator.ports.tun import IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, TUNSETIFF

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
VLAN_TAG, VLAN_PRESENT = 0xFFFFF000 + 44, 0xFFFFF000 + 48  # linux/filter.h: SKF_AD_OFF + SKF_AD_VLAN_TAG, …_PRESENT
LOAD, JUMP_IF_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, ALU|AND|K, RET|K
VLAN_BITS, EVERY_BYTE = 0x0FFF, 0xFFFFFFFF
LARGEST_VLAN = 4094  # IEEE 802.1Q: 4095 is reserved
Start = Callable[..., subprocess.Popen[Any]]


def ride_on(side: Namespace, near: str, place: Namespace, device: int, name: str, vlan: int, start: Start) -> None:
    """Puts an interface called `near` into `side` that is on the card `device` (its index, and its name) of `place`.

    vlan: 0 for the wire itself, by a second MAC address. A VLAN is the kernel's where it has them; else `start` (as
    Station.popen) begins a process that tags and untags. Raises InterfaceError.
    """
    where: dict[str, Any] = {"ifname": near, "link": device, "net_ns_fd": side.descriptor}
    kind = {"kind": "vlan", "vlan_id": vlan} if vlan else {"kind": "macvlan", "macvlan_mode": "bridge"}
    try:
        wires.with_netlink(place, f"interface {name}", lambda netlink: netlink.link("add", **where, **kind))
    except InterfaceError:
        if not vlan:
            raise
        _tag_ourselves(side, near, place, name, vlan, start)
    wires.with_netlink(
        side,
        f"interface {near}",
        lambda netlink: netlink.link("set", index=netlink.link_lookup(ifname=near)[0], state="up"),
    )


def _tag_ourselves(side: Namespace, near: str, place: Namespace, name: str, vlan: int, start: Start) -> None:
    try:
        tap = side.run(lambda: _open_tap(near))
        try:
            with place.run(lambda: _open_card(name, vlan)) as card:
                command = [sys.executable, "-I", "-S", vlan_end.__file__, str(vlan), str(tap), str(card.fileno())]
                start(command, pass_fds=(tap, card.fileno()), stdin=subprocess.DEVNULL)
        finally:
            os.close(tap)
    except OSError as error:
        raise InterfaceError(f"interface {name}: VLAN {vlan}: {error.strerror}") from error


def _open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    except BaseException:
        os.close(tap)
        raise
    return tap


def _open_card(name: str, vlan: int) -> socket.socket:
    """Hears the VLAN's frames, whoever they are for."""
    card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        lines = (
            (LOAD, 0, 0, VLAN_PRESENT),
            (JUMP_IF_EQUAL, 3, 0, 0),  # no tag: not ours
            (LOAD, 0, 0, VLAN_TAG),
            (AND, 0, 0, VLAN_BITS),
            (JUMP_IF_EQUAL, 1, 0, vlan),
            (RETURN, 0, 0, 0),
            (RETURN, 0, 0, EVERY_BYTE),
        )
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
        wanted = struct.pack("@HP", len(lines), ctypes.addressof(program))  # struct sock_fprog
        card.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, wanted)
        card.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        card.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        membership = struct.pack("iHH8x", socket.if_nametoindex(name), PACKET_MR_PROMISC, 0)
        card.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        card.bind((name, ETH_P_ALL))
    except BaseException:
        card.close()
        raise
    return card
