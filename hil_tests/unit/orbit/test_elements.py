"""What of a file is used, and that nothing is left out in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ElementsError
from emulator.orbit.elements import Elements, load_elements, read_elements
from emulator.orbit.propagate import Propagator
from emulator.orbit.satellites import NS_PER_DAY, Satellites
from hil_tests.unit.orbit.samples import EPOCH_UTC_NS, omm_csv, omm_fields, omm_json, omm_xml, record, tle

SETS = [("STARLINK-1008", record()), ("STARLINK-1010", record(44716, anomaly_deg=12.0))]
MESSAGES = [omm_fields(name, one) for name, one in SETS]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Elements]:
    """Loads a text as a file named sky.tle, for a run that starts at the sample's epoch."""

    def load(text: str, *, start_ns: int = EPOCH_UTC_NS, names: str = "*") -> Elements:
        path = tmp_path / "sky.tle"
        path.write_text(text)
        return load_elements(path, epoch_utc_ns=start_ns, max_age_days=14, names=names)

    return load


def refusal(load: Callable[..., Elements], text: str, start_ns: int = EPOCH_UTC_NS) -> str:
    with pytest.raises(ElementsError) as caught:
        load(text, start_ns=start_ns)
    message = str(caught.value)
    assert "sky.tle" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("write", [omm_json, omm_csv, omm_xml])
def test_every_format_gives_the_orbits_of_the_tle(tmp_path: Path, write: Callable[..., str]) -> None:
    (tmp_path / "sky.tle").write_text(tle(*SETS))
    (tmp_path / "sky.omm").write_text(write(MESSAGES))
    times = EPOCH_UTC_NS + np.arange(0, 6000, 600, dtype=np.int64) * 10**9
    positions = []
    for name in ("sky.tle", "sky.omm"):
        sets = read_elements(tmp_path / name)
        assert [one.name for one in sets] == ["STARLINK-1008", "STARLINK-1010"]
        assert [one.number for one in sets] == [44714, 44716]
        satellites = Satellites.of([one.name for one in sets], [one.record for one in sets])
        positions.append(Propagator(satellites).positions_m(times))
    # Columns of a TLE: 1e-4 degrees of anomaly are 12 m, 1e-8 revolutions a day 0.4 m per orbit.
    assert np.abs(positions[0] - positions[1]).max() < 30


@pytest.mark.parametrize("write", [omm_json, omm_csv, omm_xml])
def test_catalogue_numbers_have_up_to_nine_digits(load: Callable[..., Elements], write: Callable[..., str]) -> None:
    """Each object stays itself, whatever of its number SGP4's own record can hold."""
    numbers = [44_714, 100_000, 44_714 + 340_000, 799_500_000, 999_999_999]
    messages = [{**MESSAGES[0], "NORAD_CAT_ID": number, "OBJECT_NAME": f"SAT-{number}"} for number in numbers]
    loaded = load(write(messages))
    assert loaded.satellites.names == tuple(f"SAT-{number}" for number in numbers)
    assert not any("second set" in note for note in loaded.notes)


@pytest.mark.parametrize("text", ["", "   \n \n", "[]", "<ndm/>"])
def test_a_file_without_elements_is_refused(load: Callable[..., Elements], text: str) -> None:
    assert "expected TLE or OMM" in refusal(load, text)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    for name, expected in (("missing", "No such file"), ("binary", "text file"), (".", "directory")):
        with pytest.raises(ElementsError, match=expected):
            read_elements(tmp_path / name)


@given(
    key=st.sampled_from(sorted({"EPOCH", "MEAN_MOTION", "ECCENTRICITY", "INCLINATION", "BSTAR", "NORAD_CAT_ID"})),
    value=st.sampled_from([None, "", "abc", -1e9, "nan", [], "2025-13-01T00:00:00"]),
)
def test_a_damaged_field_is_refused_by_name(tmp_path_factory: pytest.TempPathFactory, key: str, value: object) -> None:
    path = tmp_path_factory.mktemp("omm") / "sky.json"
    path.write_text(json.dumps([MESSAGES[0], {**MESSAGES[1], key: value}]))
    with pytest.raises(ElementsError, match=f"sky.json: message 2: {key}: expected"):
        read_elements(path)


def test_a_missing_field_or_column_is_refused(load: Callable[..., Elements]) -> None:
    without = [{key: value for key, value in MESSAGES[0].items() if key != "MEAN_MOTION_DOT"}]
    assert "message 1: expected a field MEAN_MOTION_DOT" in refusal(load, omm_json(without))
    assert "line 1: expected a column MEAN_MOTION_DOT" in refusal(load, omm_csv(without))


@pytest.mark.parametrize(
    "text", [omm_json(MESSAGES)[:-40], omm_xml(MESSAGES)[:-40], "CCSDS_OMM_VERS = 2.0\n", "[1, 2]"]
)
def test_a_cut_or_foreign_message_is_refused(load: Callable[..., Elements], text: str) -> None:
    refusal(load, text)


def test_elements_all_too_old_say_when_they_hold(load: Callable[..., Elements]) -> None:
    message = refusal(load, tle(*SETS), EPOCH_UTC_NS + 40 * NS_PER_DAY)
    assert "epochs 2025-05-29T08:00:00Z to 2025-05-29T08:00:00Z are 40.0 days or more" in message
    assert "max_age_days = 14" in message
    assert "--start 2025-05-29T08:00:00Z" in message


def test_elements_from_the_future_are_as_stale(load: Callable[..., Elements]) -> None:
    assert "days" in refusal(load, tle(*SETS), EPOCH_UTC_NS - 40 * NS_PER_DAY)


def test_single_stale_sets_are_left_out_and_counted(load: Callable[..., Elements]) -> None:
    loaded = load(tle(*SETS, ("OLD", record(9, day=2.0))))
    assert loaded.satellites.names == ("STARLINK-1008", "STARLINK-1010")
    assert [note for note in loaded.notes if "1 of 3 element sets left out: more than 14 days" in note]


def test_of_two_sets_of_an_object_the_nearest_stays(load: Callable[..., Elements]) -> None:
    later = record(day=30.0)
    loaded = load(tle(*SETS, ("STARLINK-1008", later)), start_ns=EPOCH_UTC_NS + NS_PER_DAY)
    assert loaded.satellites.names == ("STARLINK-1008", "STARLINK-1010")
    assert loaded.satellites.records[0].jdsatepochF == pytest.approx(later.jdsatepochF)
    assert [note for note in loaded.notes if "1 of 3 element sets left out: a second set" in note]


@pytest.mark.parametrize(
    "other",
    [
        record(9, altitude_km=250),
        record(9, altitude_km=1200),
        record(9, altitude_km=35_786),
        record(9, eccentricity=0.02),
    ],
)
def test_objects_not_in_service_are_left_out_and_counted(load: Callable[..., Elements], other: object) -> None:
    loaded = load(tle(*SETS, ("OTHER", other)))
    assert "OTHER" not in loaded.satellites.names
    assert [note for note in loaded.notes if "1 of 3 element sets left out: not in service" in note]


@pytest.mark.parametrize(
    ("falling", "days"),
    [(record(9, altitude_km=310, drag=0.005), 9), (record(9, altitude_km=400, drag=0.3), 0)],
    ids=["has left the orbit that its elements tell of", "will be down before a day is over"],
)
def test_who_comes_down_is_left_out_and_counted(load: Callable[..., Elements], falling: object, days: int) -> None:
    start_ns = EPOCH_UTC_NS + days * NS_PER_DAY
    loaded = load(tle(*SETS, ("FALLING", falling)), start_ns=start_ns)
    assert loaded.satellites.names == ("STARLINK-1008", "STARLINK-1010")
    assert [note for note in loaded.notes if "1 of 3 element sets left out: not in service (decayed or" in note]


@pytest.mark.parametrize(
    ("key", "value"),
    [("MEAN_ELEMENT_THEORY", "SGP4-XP"), ("EPHEMERIS_TYPE", 4), ("REF_FRAME", "ICRF"), ("TIME_SYSTEM", "TAI"),
     ("CENTER_NAME", "MARS BARYCENTER"), ("INCLINATION", True)],
)  # fmt: skip
def test_messages_of_another_theory_frame_or_kind_are_refused(
    load: Callable[..., Elements], key: str, value: object
) -> None:
    messages = json.loads(omm_json(MESSAGES))
    messages[1][key] = value
    assert f"message 2: {key}: expected " in refusal(load, json.dumps(messages))


def test_a_row_longer_than_the_header_is_refused(load: Callable[..., Elements]) -> None:
    rows = omm_csv(MESSAGES).splitlines()
    assert "line 3: expected as many fields as in the header" in refusal(load, "\n".join([*rows[:2], rows[2] + ",7"]))


def test_what_is_left_out_is_told_with_its_place(load: Callable[..., Elements]) -> None:
    """Stale, decayed and unwanted objects: each reason names the file, a count, the first object and its line."""
    text = tle(("OLD", record(9, day=2.0)), *SETS, ("LOW", record(10, altitude_km=120)))
    notes = load(text).notes
    assert [note.rpartition("; ")[2] for note in notes] == ["the first is OLD, line 2", "the first is LOW, line 11"]


def test_lines_of_another_format_in_a_file_of_elements_are_refused_by_line(load: Callable[..., Elements]) -> None:
    mixed = tle(*SETS) + '[{"OBJECT_NAME": "X"}]\n'
    assert "line 7" in refusal(load, mixed)
    unknown = tle(*SETS) + "3 00005U 58002B   00179.78495062  .00000023  00000-0  28098-4 0  4753\n"
    assert "line 7" in refusal(load, unknown)


def test_a_file_without_any_in_service_is_refused_with_the_count(load: Callable[..., Elements]) -> None:
    assert "1 of 1 element sets left out: not in service" in refusal(load, tle(("GEO", record(altitude_km=35_786))))


def test_names_choose_and_nameless_sets_stay(load: Callable[..., Elements]) -> None:
    text = tle(*SETS, ("WEATHER 1", record(9)), ("", record(10)))
    loaded = load(text, names="STARLINK*")
    assert loaded.satellites.names == ("STARLINK-1008", "STARLINK-1010", "10")
    assert [note for note in loaded.notes if "1 of 4 element sets left out: not named STARLINK*" in note]
    with pytest.raises(ElementsError, match=r"none of its 3 objects is named X\*"):
        load(tle(*SETS, ("WEATHER 1", record(9))), names="X*")
