"""The commands of a running bench: validated requests, applied to it. Sans-I/O: bytes in, bytes out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from emulator.control.messages import (
    MAX_PACKET_BYTES,
    MAX_PACKETS,
    VERSION,
    MessageError,
    decode,
    encode,
    plain,
)
from emulator.errors import BentpipeError, EmulationError, ScenarioError
from emulator.scenario.model import OverlayEvent

Direction = Literal["uplink", "downlink"]
log = logging.getLogger("bentpipe.control")

# Verbs for what stands around the link: the keys that each takes, and those that it needs.
AROUND: dict[str, tuple[dict[str, type], tuple[str, ...]]] = {
    "access": ({}, ()),
    "new_address": ({}, ()),
    "attach": (
        {"at": str, "kind": str, "where": str, "target": str}
        | {"device": str, "network": str, "interface": str, "default_route": bool},
        ("at", "kind", "where", "target"),
    ),
    "detach": ({"name": str}, ("name",)),
    "attachments": ({}, ()),
}
CHOICES = {"at": ("terminal", "datacenter"), "kind": ("namespace", "bridge", "nic")}


class Side(Protocol):
    """One end of the link, as much of it as control needs."""

    @property
    def ipv4(self) -> str: ...

    @property
    def ipv6(self) -> str: ...


class ControlledBench(Protocol):
    """What control needs of a bench; called from the control thread."""

    @property
    def terminal(self) -> Side: ...

    @property
    def datacenter(self) -> Side: ...

    def utc_ns(self) -> int: ...

    def utc_of_monotonic_ns(self, monotonic_ns: int, /) -> int: ...

    def state(self) -> Any: ...

    def counters(self) -> Any: ...

    def apply(self, event: OverlayEvent, /) -> int: ...

    def inject(self, direction: Direction, packet: bytes, /) -> None: ...

    @property
    def network(self) -> Any: ...


class Commands:
    """Answers requests for one bench. `on_stop` is called when somebody asks the bench to end."""

    def __init__(self, bench: ControlledBench, on_stop: Callable[[], None] | None = None) -> None:
        self._bench, self._on_stop = bench, on_stop
        self._verbs: dict[str, Callable[[dict[str, Any]], Any]] = {
            "addresses": self._addresses,
            "state": self._state,
            "counters": self._counters,
            "inject": self._inject,
            "overlay": self._overlay,
            **{verb: functools.partial(self._around, verb) for verb in AROUND},
            "stop": self._stop,
        }

    def answer(self, data: bytes) -> bytes:
        """The reply to a request. Never raises: whatever is wrong is told in the reply."""
        try:
            request = decode(data)
            verb = request.pop("verb", None)
            del request["version"]
            if not isinstance(verb, str) or verb not in self._verbs:
                raise MessageError(f"verb: expected one of {', '.join(self._verbs)}, got {str(verb)[:60]!r}")
            return encode({"version": VERSION, "ok": True, "result": self._verbs[verb](request)})
        except MessageError as error:
            return _refusal("MessageError", str(error))
        except BentpipeError as error:
            return _refusal(type(error).__name__, str(error))
        except Exception as error:
            log.exception("a control request failed")
            return _refusal(EmulationError.__name__, f"{type(error).__name__}: {error}")

    def _addresses(self, request: dict[str, Any]) -> Any:
        _take(request)
        terminal, datacenter = self._bench.terminal, self._bench.datacenter
        return {
            "terminal": terminal.ipv4,
            "terminal6": terminal.ipv6,
            "datacenter": datacenter.ipv4,
            "datacenter6": datacenter.ipv6,
        }

    def _state(self, request: dict[str, Any]) -> Any:
        _take(request)
        return plain(self._bench.state())

    def _counters(self, request: dict[str, Any]) -> Any:
        _take(request)
        return plain(self._bench.counters())

    def _inject(self, request: dict[str, Any]) -> Any:
        direction, packets = _take(request, "direction", "packets")
        if direction not in ("uplink", "downlink"):
            raise MessageError(f"direction: expected 'uplink' or 'downlink', got {str(direction)[:60]!r}")
        if not isinstance(packets, list) or not 1 <= len(packets) <= MAX_PACKETS:
            raise MessageError(f"packets: expected a list of 1 to {MAX_PACKETS} packets")
        for number, packet in enumerate(packets):
            if not _is_packet(packet):
                raise MessageError(f"packets[{number}]: expected the 20 to {MAX_PACKET_BYTES} bytes of an IP packet")
        utc_ns = self._bench.utc_ns()
        for packet in packets:
            self._bench.inject(direction, packet)
        return {"packets": len(packets), "bytes": sum(map(len, packets)), "utc_ns": utc_ns}

    def _overlay(self, request: dict[str, Any]) -> Any:
        (event,) = _take(request, "event")
        if not isinstance(event, dict):
            raise MessageError("event: expected a map")
        try:
            overlay = OverlayEvent.model_validate(event)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
            raise ScenarioError([_fault_line(fault) for fault in faults]) from error
        monotonic_ns = self._bench.apply(overlay)
        return {"monotonic_ns": monotonic_ns, "utc_ns": self._bench.utc_of_monotonic_ns(monotonic_ns)}

    def _around(self, verb: str, request: dict[str, Any]) -> Any:
        allowed, needed = AROUND[verb]
        for key, value in request.items():
            if key not in allowed:
                raise MessageError(f"{key[:60]}: expected no such key here")
            if not isinstance(value, allowed[key]) or (key in CHOICES and value not in CHOICES[key]):
                wanted = " or ".join(map(repr, CHOICES.get(key, ()))) or allowed[key].__name__
                raise MessageError(f"{key}: expected {wanted}, got {str(value)[:60]!r}")
        if missing := [key for key in needed if key not in request]:
            raise MessageError(f"{missing[0]}: expected a value, the key is missing")
        return self._bench.network.do(verb, **request)

    def _stop(self, request: dict[str, Any]) -> Any:
        _take(request)
        if self._on_stop is None:
            raise EmulationError("this bench ends with its command, and cannot be stopped from outside")
        self._on_stop()
        return {}


def _is_packet(packet: Any) -> bool:
    return isinstance(packet, bytes) and 20 <= len(packet) <= MAX_PACKET_BYTES and packet[0] >> 4 in (4, 6)


def _fault_line(fault: Mapping[str, Any]) -> str:
    key = ".".join(map(str, fault["loc"])) or "event"
    return f"overlay: {key}: {fault['msg']}, got {fault['input']!r:.60}"


def _take(request: dict[str, Any], *names: str) -> list[Any]:
    """The values of exactly these keys."""
    unknown = sorted(set(request) - set(names))
    if unknown:
        raise MessageError(f"{unknown[0][:60]}: expected no such key here")
    missing = [name for name in names if name not in request]
    if missing:
        raise MessageError(f"{missing[0]}: expected a value, the key is missing")
    return [request[name] for name in names]


def _refusal(kind: str, text: str) -> bytes:
    sendable = text[:2000].encode("utf-8", "replace").decode("utf-8")  # a file name may be no UTF-8
    return encode({"version": VERSION, "ok": False, "kind": kind, "error": sendable})
