"""An Iridium 9704: requests and replies of JSON in lines (JSPR), messages of up to 100,000 bytes, a topic for each.

Sans-I/O: `receive` takes requests, `poll` gives replies and what nobody asked for (code 299). The modem pulls a message
from its client in segments, checks its sum, and reports its end when it is in the gateway's mailbox; a message from the
mailbox is pushed in segments, no faster than the line carries them. A name that ends in `.topicN` tells the topic of a
message in the mailbox; without it, the raw one. See shared/INTERFACES.md for the formats.

Made up: the identity, the topics, how long it waits for a segment and for a signal, that a line which is no request is
answered with 407, and one which is too long or not ASCII with 500.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.gateway import Failure, MessageGateway, ServiceAt
from firmware_stubs.text import Answers, Lines, Timer

OK, UNSOLICITED, UNKNOWN_TARGET, BAD_JSON, NOT_PROVISIONED, SERIAL_ERROR = 200, 299, 404, 407, 418, 500
MAX_LINE = 3600  # JSON of 3500 bytes and what is before it
LONGEST_SEGMENT = 1446
LONGEST_PUSHED = 1083  # the vendor's library has room for 1446 characters of base64, which are as many bytes
LONGEST_MESSAGE = 100_000
SUM_BYTES = 2
RAW_TOPIC = 244
TOPICS = {RAW_TOPIC: "RAW", 313: "PURPLE", 314: "PINK", 315: "RED", 316: "ORANGE", 317: "YELLOW"}
MOST_IN_HAND = 4  # messages from the client, from the first request to the final status
SEGMENT_WITHIN_NS = 10 * NS_PER_S
EXPIRES_NS = 3600 * NS_PER_S
LOOK_PERIOD_NS = NS_PER_S
SEGMENT_TAKES_NS = 70 * NS_PER_MS  # some 1600 characters at 230,400 baud
IMEI = "300258069999994"  # made up
VERSIONS = [{"major": 1, "minor": 0, "patch": 0}, {"major": 1, "minor": 6, "patch": 1}]

STATUS_OF = {
    Failure.RF_DROP: "network_error",
    Failure.LINK_FAILURE: "network_error",
    Failure.BUSY: "network_error",
    Failure.GATEWAY_TIMEOUT: "message_transfer_timeout",
    Failure.QUEUE_FULL: "message_discarded_on_overflow",
    Failure.DENIED: "subscription_invalid",
}
STATES = {"inactive", "active", "cal_test", "hw_self_test", "rf_scan", "loopback"}

_REQUEST = re.compile(r"(GET|PUT) ([A-Za-z]{1,32}) (\{.*\})\s*", re.ASCII | re.DOTALL)
_TOPIC = re.compile(r".*\.topic(\d{2,5})", re.ASCII | re.DOTALL)

Fields = dict[str, Any]


@dataclass(slots=True)
class _Originated:
    """A message from the client, while the modem holds it."""

    topic: int
    number: int
    length: int
    timer: Timer  # until the next segment must be here; then until it is tried to be sent
    expires: Timer
    data: bytearray = field(default_factory=bytearray)

    @property
    def complete(self) -> bool:
        return len(self.data) >= self.length

    def identity(self) -> Fields:
        return {"topic_id": self.topic, "message_id": self.number}


class JsprModem:
    """The modem."""

    def __init__(self, gateway: MessageGateway, service_at: ServiceAt) -> None:
        self._gateway, self._service_at = gateway, service_at
        self._lines, self._answers = Lines(b"\r", MAX_LINE), Answers()
        self._version: Fields | None = None
        self._sim, self._state, self._activity = "none", "inactive", False
        self._held: list[_Originated] = []
        self._numbers = self._delivered = self._terminated = 0
        self._pushing: deque[tuple[str, Fields]] = deque()
        self._pushed: Timer | None = None
        self._looked: Timer | None = None
        self._told_bars: int | None = None

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it."""
        for line in self._lines.feed(data):
            if line is None or not line.isascii():
                self._say(SERIAL_ERROR, "serialPort", {})
            elif text := line.decode("ascii").strip("\n\x11\x13 "):
                self._request(text, now_ns)

    def poll(self, now_ns: int) -> bytes:
        """Replies first, then what is due by itself."""
        for message in [one for one in self._held if one.timer.over(now_ns)]:
            self._proceed(message, now_ns)
        if self._pushing and (self._pushed is None or self._pushed.over(now_ns)):
            self._say(UNSOLICITED, *self._pushing.popleft())
            self._pushed = Timer(now_ns, SEGMENT_TAKES_NS)
        if self._looked is None or self._looked.over(now_ns):
            self._looked = Timer(now_ns, LOOK_PERIOD_NS)
            self._look(now_ns)
        return self._answers.take()

    def next_event_ns(self) -> int | None:
        """With an answer waiting: an instant that has passed."""
        if self._answers:
            return 0
        timers = [message.timer for message in self._held]
        timers += [self._looked] if self._looked is not None else []
        timers += [self._pushed] if self._pushing and self._pushed is not None else []
        return min((timer.end_ns() for timer in timers), default=0)

    def _say(self, code: int, target: str, fields: Fields) -> None:
        self._answers.add(f"{code} {target} {json.dumps(fields)}\r".encode("ascii"))

    def _request(self, text: str, now_ns: int) -> None:
        match = _REQUEST.fullmatch(text)
        if match is None:
            self._say(BAD_JSON, "unknown", {})
            return
        method, target = match[1], match[2]
        try:
            fields = json.loads(match[3])
        except (ValueError, RecursionError):
            self._say(BAD_JSON, target, {})
            return
        name = f"_{method.lower()}_{target}"
        handler = getattr(self, name, None) if name in HANDLERS else None
        if handler is None:
            self._say(UNKNOWN_TARGET, target, {})
        else:
            handler(fields, now_ns)

    # What a client asks for: one method for each method and target, by their names.

    def _get_apiVersion(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        active = {} if self._version is None else {"active_version": self._version}
        self._say(OK, "apiVersion", {"supported_versions": VERSIONS, **active})

    def _put_apiVersion(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        if fields.get("active_version") not in VERSIONS:
            self._say(BAD_JSON, "apiVersion", {})
            return
        self._version = fields["active_version"]
        self._get_apiVersion(fields, now_ns)

    def _get_simConfig(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._say(OK, "simConfig", {"interface": self._sim})

    def _put_simConfig(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        if fields.get("interface") not in ("none", "local", "remote", "internal"):
            self._say(BAD_JSON, "simConfig", {})
            return
        self._sim = fields["interface"]
        self._get_simConfig(fields, now_ns)
        self._say(UNSOLICITED, "simStatus", self._sim_status())

    def _get_simStatus(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._say(OK, "simStatus", self._sim_status())

    def _get_operationalState(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._say(OK, "operationalState", {"reason": 0, "state": self._state})

    def _put_operationalState(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        state = fields.get("state")
        if not isinstance(state, str) or state not in STATES:
            self._say(BAD_JSON, "operationalState", {})
        elif state == "active" and self._sim != "internal":
            self._say(NOT_PROVISIONED, "operationalState", {})
        else:
            self._state = state
            self._get_operationalState(fields, now_ns)

    def _get_constellationState(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._say(OK, "constellationState", self._signal(self._bars(now_ns)))

    def _get_messageProvisioning(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        if self._state != "active":
            self._say(NOT_PROVISIONED, "messageProvisioning", {})
            return
        topic = {"priority": "Medium", "discard_time_seconds": EXPIRES_NS // NS_PER_S, "max_queue_depth": MOST_IN_HAND}
        topics = [{"topic_id": number, "topic_name": name, **topic} for number, name in TOPICS.items()]
        self._say(OK, "messageProvisioning", {"provisioning": topics})

    def _get_hwInfo(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        about = {"hw_version": "EMULATED", "serial_number": "000001", "imei": IMEI, "board_temp": 25}
        self._say(OK, "hwInfo", about)

    def _get_firmware(self, fields: Fields, now_ns: int) -> None:
        slot = fields.get("slot")
        if slot not in ("primary", "fallback"):
            self._say(BAD_JSON, "firmware", {})
            return
        version = {"major": 1, "minor": 0, "patch": 0, "build_info": "bentpipe"}
        self._say(OK, "firmware", {"slot": slot, "validity": True, "version": version, "hash": "0" * 64})

    def _put_serviceConfig(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._say(OK, "serviceConfig", {"resync": fields.get("resync") is True})

    def _get_messageActivityStatus(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._say(OK, "messageActivityStatus", {"enabled": self._activity})

    def _put_messageActivityStatus(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        self._activity = fields.get("enabled") is True
        self._get_messageActivityStatus(fields, now_ns)

    def _put_messageOriginate(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        topic, length = (
            _number(fields, "topic_id", 65_535),
            _number(fields, "message_length", LONGEST_MESSAGE + SUM_BYTES),
        )
        reference = _number(fields, "request_reference", 100)
        if topic is None or length is None or length <= SUM_BYTES or not reference:
            self._say(BAD_JSON, "messageOriginate", {})
            return
        if self._state != "active":
            self._say(NOT_PROVISIONED, "messageOriginate", {})
            return
        reply: Fields = {"topic_id": topic, "request_reference": reference}
        if topic not in TOPICS:
            self._say(OK, "messageOriginate", {**reply, "message_response": "subscription_invalid"})
        elif len(self._held) >= MOST_IN_HAND:
            self._say(OK, "messageOriginate", {**reply, "message_response": "message_discarded_on_overflow"})
        else:
            self._numbers = (self._numbers + 1) % 256
            expires = Timer(now_ns, EXPIRES_NS)
            message = _Originated(topic, self._numbers, length, Timer(now_ns, SEGMENT_WITHIN_NS), expires)
            self._held.append(message)
            accepted = {"message_response": "message_accepted", "message_id": message.number}
            self._say(OK, "messageOriginate", {**reply, **accepted})
            self._pull(message, now_ns)

    def _put_messageOriginateSegment(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        message = self._find(fields)
        if message is None or message.complete:
            self._say(BAD_JSON, "messageOriginateSegment", {})
            return
        try:
            data = base64.b64decode(fields.get("data", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            data = b""
        start, length = len(message.data), min(LONGEST_SEGMENT, message.length - len(message.data))
        told = {**message.identity(), "segment_length": length, "segment_start": start}
        self._say(OK, "messageOriginateSegment", told)
        if len(data) != length or fields.get("segment_length") != length or fields.get("segment_start") != start:
            self._end(message, "segment_incorrect")
            return
        message.data += data
        if len(message.data) < message.length:
            self._pull(message, now_ns)
        elif binascii.crc_hqx(message.data, 0):  # of a message with its sum after it: 0
            self._end(message, "user_supplied_crc_error")
        else:
            message.timer = Timer(now_ns, self._service_at(now_ns).latency_ns)

    def _put_messageOriginateStatus(self, fields: Fields, now_ns: int) -> None:  # noqa: N802
        message = self._find(fields)
        if message is None or fields.get("action") != "cancel":
            self._say(BAD_JSON, "messageOriginateStatus", {})
            return
        self._say(OK, "messageOriginateStatus", message.identity())
        self._end(message, "message_cancelled_in_transit" if message.complete else "message_cancelled_pre_transit")

    def _find(self, fields: Fields) -> _Originated | None:
        identity = {name: fields.get(name) for name in ("topic_id", "message_id")}
        return next((message for message in self._held if message.identity() == identity), None)

    def _pull(self, message: _Originated, now_ns: int) -> None:
        start = len(message.data)
        segment = {"segment_length": min(LONGEST_SEGMENT, message.length - start), "segment_start": start}
        self._say(UNSOLICITED, "messageOriginateSegment", {**message.identity(), **segment})
        message.timer = Timer(now_ns, SEGMENT_WITHIN_NS)

    def _proceed(self, message: _Originated, now_ns: int) -> None:
        """What becomes of a message whose time is over."""
        service = self._service_at(now_ns)
        if not message.complete:
            self._end(message, "segment_not_supplied")
        elif message.expires.over(now_ns):
            self._end(message, "message_expired")
        elif not self._bars(now_ns):
            message.timer = Timer(now_ns, LOOK_PERIOD_NS)  # it is kept until there is a signal again
        elif service.failure is not None:
            self._end(message, STATUS_OF[service.failure])
        else:
            try:
                name = f"{IMEI}_{self._delivered:06d}.topic{message.topic}"
                self._gateway.deliver(name, bytes(message.data[:-SUM_BYTES]))
            except OSError:
                self._end(message, "network_error")
                return
            self._delivered += 1
            self._end(message, "mo_ack_received")

    def _end(self, message: _Originated, status: str) -> None:
        self._held.remove(message)
        self._say(UNSOLICITED, "messageOriginateStatus", {**message.identity(), "final_mo_status": status})

    def _look(self, now_ns: int) -> None:
        """Tells a signal that changed, and takes the next message from the gateway."""
        bars = self._bars(now_ns)
        if self._told_bars is not None and bars != self._told_bars:
            self._say(UNSOLICITED, "constellationState", self._signal(bars))
        self._told_bars = bars
        if not bars or self._pushing or self._service_at(now_ns).failure is not None:
            return
        try:
            taken = self._gateway.take(LONGEST_MESSAGE)
        except OSError:
            return
        if taken is not None:
            self._push(*taken)

    def _push(self, name: str, message: bytes) -> None:
        match = _TOPIC.fullmatch(name)
        topic = int(match[1]) if match and int(match[1]) in TOPICS else RAW_TOPIC
        self._terminated = (self._terminated + 1) % 256
        identity = {"topic_id": topic, "message_id": self._terminated}
        data = message + binascii.crc_hqx(message, 0).to_bytes(SUM_BYTES, "big")
        self._pushing.append(("messageTerminate", {**identity, "message_length_max": len(data)}))
        for start in range(0, len(data), LONGEST_PUSHED):
            part = data[start : start + LONGEST_PUSHED]
            segment = {"segment_length": len(part), "segment_start": start, "data": base64.b64encode(part).decode()}
            self._pushing.append(("messageTerminateSegment", {**identity, **segment}))
        self._pushing.append(("messageTerminateStatus", {**identity, "final_mt_status": "complete"}))

    def _bars(self, now_ns: int) -> int:
        return self._service_at(now_ns).bars if self._state == "active" else 0

    def _signal(self, bars: int) -> Fields:
        level = {"signal_level": 20 * bars} if bars else {}  # its scale is made up
        return {"constellation_visible": bars > 0, "signal_bars": bars, **level}

    def _sim_status(self) -> Fields:
        present = self._sim == "internal"
        return {"card_present": present, "sim_connected": present, "iccid": "8988169999999999995" if present else ""}


HANDLERS = {name for name in vars(JsprModem) if name.startswith(("_get_", "_put_"))}


def _number(fields: Fields, name: str, most: int) -> int | None:
    """A whole number from 0 to `most`; JSON's true is none."""
    value = fields.get(name)
    return value if type(value) is int and 0 <= value <= most else None
