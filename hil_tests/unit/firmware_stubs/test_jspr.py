"""The 9704: messages pulled and pushed in segments, every end that they can have, and clients that behave badly."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.units import NS_PER_S
from firmware_stubs.gateway import Failure, MessageGateway, Service, always
from firmware_stubs.jspr import EXPIRES_NS, IMEI, MAX_LINE, MOST_IN_HAND, RAW_TOPIC, JsprModem
from firmware_stubs.registry import Stub
from hil_tests.unit.firmware_stubs.fuzzing import START_NS, exchange, survives

Line = tuple[int, str, dict[str, Any]]


def lines(said: bytes) -> list[Line]:
    found = []
    for line in said.split(b"\r")[:-1]:
        code, target, fields = line.decode("ascii").split(" ", 2)
        found.append((int(code), target, json.loads(fields)))
    return found


GOOD = Service(bars=3, latency_ns=2 * NS_PER_S)


@dataclass
class Bench:
    """A modem, its gateway, a service that a test may change, and its time."""

    service: Service = GOOD
    gateway: MessageGateway = field(default_factory=MessageGateway)
    now_ns: int = START_NS

    def __post_init__(self) -> None:
        self.modem = JsprModem(self.gateway, lambda utc_ns: self.service)

    def ask(self, request: str, fields: dict[str, Any] | None = None) -> list[Line]:
        return lines(exchange(self.modem, f"{request} {json.dumps(fields or {})}\r".encode(), self.now_ns))

    def hears(self, for_s: float) -> list[Line]:
        said = exchange(self.modem, b"", self.now_ns, for_s)
        self.now_ns += int(for_s * NS_PER_S)
        return lines(said)

    def originate(self, message: bytes, topic: int = RAW_TOPIC) -> list[Line]:
        """Sends a message as the vendor's library does, up to its last segment; what is said from there on."""
        data = message + binascii.crc_hqx(message, 0).to_bytes(2, "big")
        request = {"topic_id": topic, "message_length": len(data), "request_reference": 1}
        said = self.ask("PUT messageOriginate", request)
        while said and said[-1][1] == "messageOriginateSegment" and said[-1][0] == 299:
            pulled = said[-1][2]
            part = data[pulled["segment_start"] :][: pulled["segment_length"]]
            said = self.ask("PUT messageOriginateSegment", {**pulled, "data": base64.b64encode(part).decode()})
        return said


def active(service: Service = GOOD) -> Bench:
    bench = Bench(service)
    bench.ask("PUT simConfig", {"interface": "internal"})
    assert bench.ask("PUT operationalState", {"state": "active"}) == [
        (200, "operationalState", {"reason": 0, "state": "active"})
    ]
    return bench


def test_it_starts_as_the_interface_says() -> None:
    bench = Bench()
    ((code, _, fields),) = [line for line in bench.ask("GET apiVersion") if line[1] == "apiVersion"]
    assert (code, "active_version" in fields) == (200, False)
    wanted = fields["supported_versions"][-1]
    assert bench.ask("PUT apiVersion", {"active_version": wanted})[0][2]["active_version"] == wanted
    assert bench.ask("PUT operationalState", {"state": "active"})[0][0] == 418
    said = bench.ask("PUT simConfig", {"interface": "internal"})
    assert [line[:2] for line in said] == [(200, "simConfig"), (299, "simStatus")]
    assert bench.ask("PUT operationalState", {"state": "active"})[0][0] == 200
    assert bench.ask("GET messageProvisioning")[0][2]["provisioning"][0]["topic_id"] == RAW_TOPIC


@given(st.binary(min_size=1, max_size=5000))
def test_any_message_goes_out_whole(message: bytes) -> None:
    bench = active()
    bench.originate(message)
    assert bench.gateway.delivered() == []
    ends = [line for line in bench.hears(3) if line[1] == "messageOriginateStatus"]
    assert ends == [
        (299, "messageOriginateStatus", {"topic_id": 244, "message_id": 1, "final_mo_status": "mo_ack_received"})
    ]
    assert bench.gateway.delivered() == [(f"{IMEI}_000000.topic244", message)]


@given(st.binary(min_size=1, max_size=5000))
def test_any_message_comes_in_whole(message: bytes) -> None:
    bench = active()
    bench.gateway.send("1.topic315", message)
    said = [line for line in bench.hears(3) if line[1].startswith("messageTerminate")]
    assert said[0][2] == {"topic_id": 315, "message_id": 1, "message_length_max": len(message) + 2}
    assert said[-1][2]["final_mt_status"] == "complete"
    data = bytearray(len(message) + 2)
    for _, target, fields in said[1:-1]:
        assert target == "messageTerminateSegment"
        part = base64.b64decode(fields["data"])
        assert len(part) == fields["segment_length"]
        data[fields["segment_start"] : fields["segment_start"] + len(part)] = part
    assert data[:-2] == message
    assert binascii.crc_hqx(data, 0) == 0


def test_the_longest_message_goes_out_and_comes_in() -> None:
    bench, message = active(), bytes(number % 251 for number in range(100_000))
    bench.originate(message)
    bench.gateway.send("1", message)
    said = bench.hears(20)
    assert bench.gateway.delivered()[0][1] == message
    pushed = b"".join(base64.b64decode(line[2]["data"]) for line in said if line[1] == "messageTerminateSegment")
    assert pushed[:-2] == message


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure.RF_DROP, "network_error"),
        (Failure.GATEWAY_TIMEOUT, "message_transfer_timeout"),
        (Failure.QUEUE_FULL, "message_discarded_on_overflow"),
        (Failure.DENIED, "subscription_invalid"),
    ],
)
def test_a_failed_message_says_why(failure: Failure, status: str) -> None:
    bench = active(Service(failure=failure))
    bench.originate(b"hello")
    assert bench.hears(10)[-1][2]["final_mo_status"] == status
    assert bench.gateway.delivered() == []


def test_a_message_waits_for_a_signal_until_it_expires() -> None:
    bench = active(Service(bars=0))
    bench.originate(b"hello")
    bench.hears(60)
    bench.service = Service(bars=3)
    assert (299, "constellationState", {"constellation_visible": True, "signal_bars": 3, "signal_level": 60}) in (
        bench.hears(10)
    )
    assert [message for _, message in bench.gateway.delivered()] == [b"hello"]
    bench.service = Service(bars=0)
    bench.originate(b"late")
    bench.now_ns += EXPIRES_NS
    assert [line[2]["final_mo_status"] for line in bench.hears(2) if line[1] == "messageOriginateStatus"] == [
        "message_expired"
    ]


def test_a_segment_that_does_not_come_or_is_wrong_ends_the_message() -> None:
    bench = active()
    request = {"topic_id": 244, "message_length": 10, "request_reference": 1}
    bench.ask("PUT messageOriginate", request)
    assert bench.hears(11)[-1][2]["final_mo_status"] == "segment_not_supplied"
    pulled = bench.ask("PUT messageOriginate", request)[-1][2]
    said = bench.ask("PUT messageOriginateSegment", {**pulled, "data": "AAAA"})
    assert said[-1][2]["final_mo_status"] == "segment_incorrect"
    pulled = bench.ask("PUT messageOriginate", request)[-1][2]
    said = bench.ask("PUT messageOriginateSegment", {**pulled, "data": base64.b64encode(b"0123456789").decode()})
    assert said[-1][2]["final_mo_status"] == "user_supplied_crc_error"


def test_a_message_is_cancelled() -> None:
    bench = active()
    bench.originate(b"hello")
    said = bench.ask("PUT messageOriginateStatus", {"topic_id": 244, "message_id": 1, "action": "cancel"})
    assert said[-1][2]["final_mo_status"] == "message_cancelled_in_transit"
    assert bench.hears(10)[-1][1] != "messageOriginateStatus"


def test_too_many_messages_and_unknown_topics_are_told() -> None:
    bench = active()
    request = {"topic_id": 244, "message_length": 10, "request_reference": 1}
    said = [bench.ask("PUT messageOriginate", request)[0][2]["message_response"] for _ in range(MOST_IN_HAND + 1)]
    assert said == ["message_accepted"] * MOST_IN_HAND + ["message_discarded_on_overflow"]
    assert bench.ask("PUT messageOriginate", {**request, "topic_id": 99})[0][2]["message_response"] == (
        "subscription_invalid"
    )


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        (b"GET nothing {}", 404),
        (b"PUT hwInfo {}", 404),
        (b"GET apiVersion {", 407),
        (b"GET apiVersion {x}", 407),
        (b"DELETE apiVersion {}", 407),
        (b"hello", 407),
        (b'PUT apiVersion {"active_version": 3}', 407),
        (b'PUT simConfig {"interface": []}', 407),
        (b'PUT operationalState {"state": {}}', 407),
        (b'PUT messageOriginate {"topic_id": true, "message_length": 5, "request_reference": 1}', 407),
        (b'GET x {"a": ' + b"[" * 3000 + b"}", 407),
        (b"GET init {}", 404),
        (b"\xff\xfe", 500),
        (b"x" * (MAX_LINE + 1), 500),
    ],
)
def test_what_is_no_request_has_its_code(request_line: bytes, code: int) -> None:
    said = lines(exchange(Bench().modem, request_line + b"\r", START_NS))
    assert said[0][0] == code


def line_ended(stub: Stub, now_ns: int) -> int:
    for _ in range(400):  # whatever is still pushed or pulled
        exchange(stub, b"\r", now_ns, 60)
        now_ns += 60 * NS_PER_S
        if (stub.next_event_ns() or 0) > now_ns:
            break
    return now_ns


TestJsprSurvives = survives(
    lambda now_ns: active().modem,
    [
        b"GET apiVersion {}",
        b"GET constellationState {}",
        b"GET messageProvisioning {}",
        b'PUT operationalState {"state": "inactive"}',
        b'PUT operationalState {"state": "active"}',
        b'PUT messageOriginate {"topic_id":244, "message_length":7, "request_reference":1}',
        b'PUT messageOriginate {"topic_id":244, "message_length":100002, "request_reference":1}',
        b'PUT messageOriginateSegment {"message_id":1, "topic_id":244, "segment_length":7, "data":"aGVsbG/DYg=="}',
        b'PUT messageOriginateStatus {"topic_id":244, "message_id":1, "action":"cancel"}',
        b'GET firmware {"slot": "primary"}',
        b'GET firmware {"slot": ["primary"]}',
    ],
    settled=line_ended,
    probe=b"GET hwInfo {}\r",
    answered=lambda said: b"200 hwInfo {" in said,
)


def test_a_service_that_never_changes_is_enough() -> None:
    modem = JsprModem(MessageGateway(), always(Service()))
    assert b"200 constellationState" in exchange(modem, b"GET constellationState {}\r", START_NS)
