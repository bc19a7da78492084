"""A TLE that was cut or changed on its way is refused, by file and line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ElementsError
from emulator.orbit.tle import LINE_LENGTH, read_tle
from hil_tests.unit.orbit.samples import record, tle

TEXT = tle(("STARLINK-1008", record()), ("STARLINK-1010", record(44716, anomaly_deg=12.0)))
LINES = TEXT.splitlines()


def refusal(text: str) -> str:
    with pytest.raises(ElementsError) as caught:
        list(read_tle(text, "sky.tle"))
    message = str(caught.value)
    assert message.startswith("sky.tle: line ")
    assert "\n" not in message
    return message


def test_names_are_stripped_and_numbers_are_read() -> None:
    assert [(one.name, one.number) for one in read_tle(TEXT, "sky.tle")] == [
        ("STARLINK-1008", 44714),
        ("STARLINK-1010", 44716),
    ]


def test_two_line_sets_are_named_by_their_number() -> None:
    assert [one.name for one in read_tle(tle(("", record(44714)), ("", record(7))), "f")] == ["44714", "7"]


def test_space_track_name_lines_lose_their_zero() -> None:
    assert next(iter(read_tle("0 " + TEXT, "f"))).name == "STARLINK-1008"


def test_numbers_beyond_five_digits_are_alpha_5() -> None:
    assert next(iter(read_tle(tle(("", record(270_001))), "f"))).number == 270_001


@pytest.mark.parametrize("end", ["\r\n", "  \n", "\n\n\n"])
def test_line_ends_and_blank_lines_do_not_matter(end: str) -> None:
    assert len(list(read_tle(TEXT.replace("\n", end), "f"))) == 2


@given(line=st.sampled_from([1, 2, 4, 5]), column=st.integers(0, LINE_LENGTH - 1), step=st.integers(1, 9))
def test_a_changed_digit_is_refused(line: int, column: int, step: int) -> None:
    char = LINES[line][column]
    if not char.isdigit():
        return
    changed = LINES[line][:column] + str((int(char) + step) % 10) + LINES[line][column + 1 :]
    refusal("\n".join([*LINES[:line], changed, *LINES[line + 1 :]]))


@given(line=st.sampled_from([1, 2, 4, 5]), length=st.integers(0, LINE_LENGTH - 1))
def test_a_cut_line_is_refused(line: int, length: int) -> None:
    refusal("\n".join([*LINES[:line], LINES[line][:length], *LINES[line + 1 :]]))


@given(lines=st.integers(1, 5).filter(lambda lines: lines != 3))
def test_a_file_that_ends_within_a_set_is_refused(lines: int) -> None:
    assert "the file ends" in refusal("\n".join(LINES[:lines]))


@given(line=st.integers(0, 5))
def test_a_line_that_stands_twice_is_refused_with_its_number(line: int) -> None:
    message = refusal("\n".join([*LINES[: line + 1], *LINES[line:]]))
    assert f"line {line + 2}:" in message or (line == 2 and "line 4" in message)


def test_a_missing_line_is_refused() -> None:
    for missing in (1, 2, 4, 5):
        refusal("\n".join(LINES[:missing] + LINES[missing + 1 :]))


def test_lines_of_two_objects_do_not_make_a_set() -> None:
    assert "expected catalogue number 44714" in refusal("\n".join([LINES[0], LINES[1], LINES[5]]))


def test_a_line_that_no_format_has_is_not_a_name() -> None:
    odd = "3 44713U 19074A   25276.00000000  .00000000  00000+0  00000+0 0  9992"
    told = refusal("\n".join([odd, *LINES[1:]]))
    assert told.startswith("sky.tle: line 1: expected a name, or line 1 of an element set: '3 44713U")


def test_elements_of_another_theory_are_refused() -> None:
    body = LINES[1][:62] + "4" + LINES[1][63:68]
    checksum = sum(int(char) if char.isdigit() else char == "-" for char in body) % 10
    told = refusal("\n".join([LINES[0], f"{body}{checksum}", LINES[2]]))
    assert told.startswith("sky.tle: line 2: expected elements for SGP4 (ephemeris type 0), got type 4")


def test_text_that_is_no_tle_is_refused() -> None:
    refusal("<!DOCTYPE html>\n<html>\n")
    refusal("just a name\n")


@given(st.text(max_size=400))
def test_any_text_gives_sets_or_a_refusal(text: str) -> None:
    try:
        sets = list(read_tle(text, "f"))
    except ElementsError as error:
        message = str(error)
    else:
        assert not sets
        message = ""
    assert "\n" not in message
