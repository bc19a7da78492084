"""The dish's interface without a network: what it answers, in bytes, to requests good and bad."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from emulator.scenario import load_scenario
from emulator.scenario.model import Dish
from emulator.terminal import Terminal
from emulator.terminal.dish import DishTerminal, Sky
from emulator.terminal.pings import Ping
from emulator.units import NS_PER_MS, NS_PER_S, format_utc
from firmware_stubs.dish import NO_LOCATION, Answer, Code, DishStub
from firmware_stubs.dish_messages import DEVICE_FILE, message, pool
from firmware_stubs.dish_web import request_of, response_of

START_NS = 1_748_560_887 * NS_PER_S
SITE = Terminal(48.4634, -123.3117, 20.0)
REQUEST, RESPONSE = message("Request"), message("Response")
VERBS = [field.name for field in REQUEST.DESCRIPTOR.oneofs_by_name["request"].fields]


def new_stub(site: Terminal | None = SITE, **settings: Any) -> DishStub:
    return DishStub(DishTerminal(Dish(**settings), site, START_NS))


def ask(stub: DishStub, verb: str, content: dict[str, Any] | None = None, at_ns: int = START_NS) -> Any:
    """The part of the response that belongs to the request."""
    answer = stub.answer(REQUEST(id=5, **{verb: content or {}}).SerializeToString(), at_ns)
    assert (answer.code, answer.text) == (Code.OK, "")
    response = RESPONSE.FromString(answer.data)
    assert (response.id, response.api_version) == (5, 42)
    part = response.WhichOneof("response")
    return getattr(response, part) if part else None


def code(stub: DishStub, verb: str, content: dict[str, Any] | None = None, at_ns: int = START_NS) -> Code:
    return stub.answer(REQUEST(**{verb: content or {}}).SerializeToString(), at_ns).code


# the messages


def test_every_field_has_its_json_name_in_what_reflection_serves() -> None:
    served = descriptor_pb2.FileDescriptorProto.FromString(pool().FindFileByName(DEVICE_FILE).serialized_pb)
    fields = [field for made in served.message_type for field in made.field]
    assert len(fields) > 150
    assert [field.name for field in fields if not field.HasField("json_name") or "_" in field.json_name] == []


@pytest.mark.parametrize(
    ("name", "field", "number"),
    [  # shared/INTERFACES.md
        ("Request", "reboot", 1001),
        ("Request", "get_status", 1004),
        ("Request", "dish_clear_obstruction_map", 2017),
        ("Request", "get_diagnostics", 6000),
        ("Response", "dish_get_status", 2004),
        ("Response", "dish_get_history", 2006),
        ("Response", "dish_inhibit_gps", 2013),
        ("Response", "dish_get_diagnostics", 6001),
        ("DishGetStatusResponse", "outage", 1014),
        ("DishGetStatusResponse", "swupdate_reboot_ready", 1030),
        ("DishGetHistoryResponse", "power_in", 1010),
        ("DeviceInfo", "is_hitl", 10),
        ("DishOutage", "did_switch", 4),
    ],
)
def test_fields_have_the_device_s_numbers(name: str, field: str, number: int) -> None:
    assert message(name).DESCRIPTOR.fields_by_name[field].number == number


# good requests


def test_every_request_that_is_described_is_carried_out_or_refused() -> None:
    for verb in VERBS:
        assert code(new_stub(), verb) in (Code.OK, Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT)


def test_the_status_of_a_connected_dish() -> None:
    stub = new_stub()
    sky = Sky("S1", "G1", 200.0, 60.0, START_NS + 7 * NS_PER_S)
    stub.dish.observe([Ping(START_NS, 30 * NS_PER_MS)], 1250, 12500, sky, START_NS + NS_PER_S)
    status = ask(stub, "get_status", at_ns=START_NS + NS_PER_S)
    assert not status.HasField("outage")
    assert status.device_info.is_hitl
    assert (status.device_state.uptime_s, status.pop_ping_drop_rate, status.pop_ping_latency_ms) == (1, 0.0, 30.0)
    assert (status.uplink_throughput_bps, status.downlink_throughput_bps) == (1e4, 1e5)
    assert (status.boresight_azimuth_deg, status.boresight_elevation_deg) == (-160.0, 60.0)
    assert status.gps_stats.gps_valid
    assert status.gps_stats.gps_sats >= 4
    assert math.isnan(status.obstruction_stats.avg_prolonged_obstruction_interval_s)
    context = ask(stub, "dish_get_context", at_ns=START_NS + NS_PER_S)
    assert context.seconds_to_slot_end == 6.0
    assert context.pop_ping_latency_ms_15s_mean == 30.0


def test_the_history_is_always_of_full_length() -> None:
    stub = new_stub()
    for second in range(3):
        sent_ns = START_NS + second * NS_PER_S
        stub.dish.observe([Ping(sent_ns, 30 * NS_PER_MS)], 0, 0, Sky(), sent_ns + NS_PER_S)
    history = ask(stub, "get_history", at_ns=START_NS + 3 * NS_PER_S)
    assert history.current == 3
    arrays = (
        "pop_ping_drop_rate",
        "pop_ping_latency_ms",
        "downlink_throughput_bps",
        "uplink_throughput_bps",
        "power_in",
    )
    assert {len(getattr(history, name)) for name in arrays} == {900}
    assert list(history.pop_ping_latency_ms[:4]) == [30.0, 30.0, 30.0, 0.0]


def test_the_location_follows_the_track(tmp_path: Path) -> None:
    """A ship that sails north by a minute of latitude in ten minutes."""
    rows = [
        f"{format_utc(START_NS + minute * 60 * NS_PER_S)},{48 + minute / 600:.6f},-123.0,{minute}"
        for minute in range(31)
    ]
    (tmp_path / "ship.csv").write_text("\n".join(["utc,latitude_deg,longitude_deg,altitude_m", *rows]) + "\n")
    track = f"terminal.track={tmp_path / 'ship.csv'}"
    ship = new_stub(Terminal.from_scenario(load_scenario("starlink_2025", [track])), location_consent=True)
    for minute in (0, 10, 25):
        at_ns = START_NS + minute * 60 * NS_PER_S
        lla = ask(ship, "get_location", at_ns=at_ns).lla
        assert (lla.lat, lla.lon) == pytest.approx((48 + minute / 600, -123.0), abs=1e-5)
        assert lla.alt == pytest.approx(minute, abs=0.1)
        told = ask(ship, "get_diagnostics", at_ns=at_ns).location
        assert told.latitude == pytest.approx(lla.lat)


def test_the_location_needs_consent() -> None:
    refused = new_stub().answer(REQUEST(get_location={}).SerializeToString(), START_NS)
    assert (refused.code, refused.text) == (Code.PERMISSION_DENIED, NO_LOCATION)
    lla = ask(new_stub(location_consent=True), "get_location").lla
    assert (lla.lat, lla.lon, lla.alt) == (48.4634, -123.3117, 20.0)
    nowhere = ask(new_stub(site=None, location_consent=True), "get_location")
    assert nowhere.HasField("lla")
    assert nowhere.lla.lat == 0


def test_stow_and_unstow_are_told_to_whoever_moves_the_link() -> None:
    moved: list[int | None] = []
    dish = DishTerminal(Dish(search_s=3), SITE, START_NS)
    stub = DishStub(dish, lambda: moved.append(dish.down_until_ns))
    ask(stub, "dish_stow")
    assert ask(stub, "get_status").outage.cause == 2
    assert ask(stub, "get_status").stow_requested
    ask(stub, "dish_stow", {"unstow": True})
    assert ask(stub, "get_status").outage.cause == 4
    assert moved == [1 << 62, START_NS + 3 * NS_PER_S]


def test_a_reboot_makes_it_unreachable_and_then_resets_the_counter() -> None:
    stub = new_stub(boot_s=10, unreachable_s=5)
    stub.dish.observe([], 0, 0, Sky(), START_NS + 60 * NS_PER_S)
    assert ask(stub, "get_history", at_ns=START_NS + 60 * NS_PER_S).current == 60
    rebooted = START_NS + 60 * NS_PER_S
    ask(stub, "reboot", at_ns=rebooted)
    assert code(stub, "get_status", at_ns=rebooted + NS_PER_S) is Code.UNAVAILABLE
    later = rebooted + 6 * NS_PER_S
    assert ask(stub, "get_status", at_ns=later).outage.cause == 1
    assert ask(stub, "get_history", at_ns=later).current == 0
    assert ask(stub, "get_device_info", at_ns=later).device_info.bootcount == 2


def test_a_configuration_takes_what_is_applied_and_outlives_a_reboot() -> None:
    stub = new_stub(boot_s=0, unreachable_s=0)
    wanted = {"snow_melt_mode": 2, "apply_snow_melt_mode": True, "level_dish_mode": 1}
    assert ask(stub, "dish_set_config", {"dish_config": wanted}).updated_dish_config.snow_melt_mode == 2
    ask(stub, "reboot")
    config = ask(stub, "dish_get_config").dish_config
    assert (config.snow_melt_mode, config.level_dish_mode) == (2, 0)
    asked = {"dish_config": {"apply_location_request_mode": True, "location_request_mode": 1}}
    assert code(stub, "dish_set_config", asked) is Code.PERMISSION_DENIED


@pytest.mark.parametrize(("start", "duration"), [(1440, 1), (0, 0), (0, 1441)])
def test_a_sleep_that_is_no_time_of_day_is_refused(start: int, duration: int) -> None:
    schedule = {
        "power_save_start_minutes": start,
        "power_save_duration_minutes": duration,
        "enable_power_save": True,
    }
    assert code(new_stub(), "dish_power_save", schedule) is Code.INVALID_ARGUMENT


def test_a_dish_that_sleeps_says_so() -> None:
    stub = new_stub()
    ask(stub, "dish_power_save", {"power_save_duration_minutes": 1440, "enable_power_save": True})
    status = ask(stub, "get_status")
    assert (status.outage.cause, status.alerts.is_power_save_idle) == (11, True)
    ask(stub, "dish_power_save", {"power_save_duration_minutes": 1, "enable_power_save": False})
    assert not ask(stub, "dish_get_config").dish_config.power_save_mode


def test_gps_that_is_inhibited_is_not_valid_and_its_satellites_are_heard() -> None:
    stub = new_stub()
    assert ask(stub, "dish_inhibit_gps", {"inhibit_gps": True}).inhibit_gps
    stats = ask(stub, "get_status").gps_stats
    assert (stats.gps_valid, stats.inhibit_gps, stats.gps_sats >= 4) == (False, True, True)


def test_the_map_fills_where_satellites_are_heard_and_is_cleared() -> None:
    stub = new_stub()
    stub.dish.observe([Ping(START_NS, 1)], 0, 0, Sky("S1", "G1", 0.0, 90.0), START_NS + NS_PER_S)
    shown = ask(stub, "dish_get_obstruction_map", at_ns=START_NS + NS_PER_S)
    assert (shown.num_rows, shown.num_cols, len(shown.snr)) == (123, 123, 123 * 123)
    assert [place for place, value in enumerate(shown.snr) if value != -1] == [61 * 123 + 61]
    ask(stub, "dish_clear_obstruction_map", at_ns=START_NS + NS_PER_S)
    assert set(ask(stub, "dish_get_obstruction_map", at_ns=START_NS + NS_PER_S).snr) == {-1.0}


def test_json_clients_find_camel_case() -> None:
    answer = new_stub().answer(REQUEST(get_status={}).SerializeToString(), START_NS)
    shown = MessageToDict(RESPONSE.FromString(answer.data), descriptor_pool=pool())
    assert shown["dishGetStatus"]["deviceInfo"]["isHitl"] is True
    assert shown["dishGetStatus"]["ethSpeedMbps"] == 1000


# bad requests


@given(st.binary(max_size=300), st.integers(0, 10**12))
def test_no_bytes_make_it_raise(data: bytes, later_ns: int) -> None:
    answer = new_stub(boot_s=1).answer(data, START_NS + later_ns)
    assert isinstance(answer, Answer)
    if answer.code is Code.OK:
        RESPONSE.FromString(answer.data)
    else:
        assert answer.text
        assert answer.data == b""


@given(st.data())
def test_known_requests_with_unknown_content_do_not_make_it_raise(data: st.DataObject) -> None:
    stub, now = new_stub(boot_s=1), START_NS
    for _ in range(data.draw(st.integers(1, 6))):
        verb = data.draw(st.sampled_from(VERBS))
        number = REQUEST.DESCRIPTOR.fields_by_name[verb].number
        inner = data.draw(st.binary(max_size=40))
        frame = _tag(number) + bytes([len(inner)]) + inner + data.draw(st.sampled_from([b"", b"\xf8\x7f\x01", b"\x0b"]))
        now += data.draw(st.integers(0, 100 * NS_PER_S))
        assert stub.answer(frame, now).code in Code


@pytest.mark.parametrize("data", [b"", REQUEST(id=3).SerializeToString(), b"\xca\xbb\x01\x00", b"\xf2\xbb\x01\x00"])
def test_what_is_no_known_request_is_unimplemented(data: bytes) -> None:
    assert new_stub().answer(data, START_NS).code is Code.UNIMPLEMENTED


def test_bytes_that_are_no_message_are_an_internal_error() -> None:
    assert new_stub().answer(b"\xff\xff\xff", START_NS).code is Code.INTERNAL


def _tag(number: int) -> bytes:
    """The tag of a length-delimited field, as a varint."""
    value, encoded = number << 3 | 2, bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


# gRPC-Web's framing


@given(st.binary(max_size=200), st.booleans())
def test_a_web_frame_comes_back_whole(data: bytes, text: bool) -> None:
    body = response_of(Answer(Code.OK, "", data), text=text)
    plain = base64.b64decode(body) if text else body
    length = int.from_bytes(plain[1:5], "big")
    assert plain[5 : 5 + length] == data
    assert plain[5 + length] == 0x80
    assert plain[10 + length :] == b"grpc-status:0\r\n"
    frame = plain[: 5 + length]
    assert request_of(base64.b64encode(frame) if text else frame, text=text) == data


@given(st.binary(max_size=100), st.booleans())
def test_a_web_body_of_any_bytes_is_a_frame_or_none(body: bytes, text: bool) -> None:
    found = request_of(body, text=text)
    assert found is None or len(found) < len(body)


def test_a_web_refusal_is_in_the_trailers() -> None:
    body = response_of(Answer(Code.PERMISSION_DENIED, NO_LOCATION + " ü%\n", b""), text=False)
    assert body[0] == 0x80
    assert body[5:] == b"grpc-status:7\r\ngrpc-message:" + NO_LOCATION.encode() + b" %C3%BC%25%0A\r\n"
