"""Instants as text and as integers."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.units import NS_PER_S, count_of, format_utc, parse_utc_ns

INSTANTS = st.integers(0, 8_867_491_199 * NS_PER_S)  # 1970 to the end of 2250


@given(INSTANTS)
def test_an_instant_written_to_the_nanosecond_reads_back(utc_ns: int) -> None:
    assert parse_utc_ns(format_utc(utc_ns, decimals=9)) == utc_ns


@given(INSTANTS, st.integers(0, 9))
def test_fewer_decimals_cut_and_never_round_up(utc_ns: int, decimals: int) -> None:
    step = 10 ** (9 - decimals)
    assert parse_utc_ns(format_utc(utc_ns, decimals)) == utc_ns // step * step


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 (hypothesis adds the zone itself)
def test_reads_what_datetime_writes(instant: datetime) -> None:
    utc = instant.replace(tzinfo=UTC)
    expected = round((utc - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) if not utc.microsecond else None
    read_ns = parse_utc_ns(utc.isoformat())
    assert read_ns % NS_PER_S == utc.microsecond * 1000
    assert expected is None or read_ns == expected * NS_PER_S


@pytest.mark.parametrize(
    "text", ["2025-05-29T23:21:27Z", "2025-05-29 23:21:27", "2025-05-29T23:21:27+00:00", " 2025-05-29T23:21:27,0Z "]
)
def test_the_same_instant_in_every_accepted_form(text: str) -> None:
    assert parse_utc_ns(text) == 1_748_560_887 * NS_PER_S  # date -u -d 2025-05-29T23:21:27Z +%s


@pytest.mark.parametrize(
    "text", ["", "now", "2025-05-29", "2025-13-01T00:00:00Z", "2025-02-30T00:00:00Z", "2025-05-29T23:21:27+02:00",
             "2025-05-29T24:00:00Z", "2025-05-29T23:21:60Z", "2025-05-29T23:21:27.1234567890Z", "٢٠٢٥-05-29T23:21:27Z",
             "1969-12-31T23:59:59Z", "2251-01-01T00:00:00Z", "9999-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_utc_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {text!r}")):
        parse_utc_ns(text)


@given(st.integers(0, 10**9))
def test_one_is_singular_and_nothing_else_is(count: int) -> None:
    number, word = count_of(count, "packet").split()
    assert (int(number), word) == (count, "packet" if count == 1 else "packets")
    assert count_of(count, "packet", ",") == f"{count:,} {word}"
