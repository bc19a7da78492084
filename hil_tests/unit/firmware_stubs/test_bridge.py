"""What is told of hardware behind a port of ours, by the bytes that pass and by the time that goes by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.units import NS_PER_S
from firmware_stubs.bridge import Watch


def checked(sentence: bytes) -> bytes:
    total = 0
    for byte in sentence:
        total ^= byte
    return b"$" + sentence + b"*%02X\r\n" % total


GOOD = checked(b"GPGGA,120000.00,4830.0,N")


def watch(kind: str) -> Watch:
    return Watch(kind, 3 * NS_PER_S, 0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (GOOD, []),
        (GOOD[:20] + b"\r\n", ["half a line"]),
        (GOOD.replace(b"4830", b"4831"), ["garbage"]),
        (b"\x80\xfe\x00" + GOOD, ["garbage"]),
        (b"x" * 10_000 + b"\n", ["garbage"]),
    ],
)
def test_a_receivers_sentences_are_looked_at(said: bytes, told: list[str]) -> None:
    seen = watch("nmea")
    assert list(seen.device(GOOD[5:], 0)) == []  # it was joined in the middle of one
    assert [kind for kind, _ in seen.device(said, 0)] == told
    assert list(seen.device(GOOD, 0)) == []


def test_silence_is_told_once_until_there_is_a_word_again() -> None:
    seen = watch("nmea")
    for _ in range(2):
        assert [kind for at_s in range(10) for kind, _ in seen.tick(at_s * NS_PER_S)] == ["silence"]
        list(seen.device(GOOD, 0))


def test_a_device_that_answers_is_silent_only_when_it_was_asked() -> None:
    seen = watch("jspr")
    assert list(seen.tick(100 * NS_PER_S)) == []
    seen.client(b"GET apiVersion {}\r", 100 * NS_PER_S)
    assert [kind for kind, _ in seen.tick(103 * NS_PER_S)] == ["silence"]


def test_an_echo_is_told_of_devices_that_should_not_and_half_a_line_by_the_clock() -> None:
    seen = watch("jspr")
    seen.client(b"GET apiVersion {}\r", 0)
    echoed = b"GET apiVersion {}\r200 api"
    assert list(seen.device(echoed, 0)) == [("echo", echoed)]
    assert list(seen.tick(NS_PER_S)) == [("half a line", b"200 api")]
    assert list(seen.tick(2 * NS_PER_S)) == []
    at = watch("sbd")
    at.client(b"AT+CSQ\r", 0)
    assert list(at.device(b"AT+CSQ\r\r\n+CSQ:4\r\n", 0)) == []


@given(st.sampled_from(["nmea", "ubx", "sbd", "ntn", "jspr", "slip"]), st.lists(st.binary(max_size=300), max_size=20))
def test_nothing_makes_it_raise(kind: str, pieces: list[bytes]) -> None:
    seen = watch(kind)
    for number, piece in enumerate(pieces):
        seen.client(piece[:10], number)
        assert len(list(seen.device(piece, number))) <= len(piece) + 1
        list(seen.tick(number * NS_PER_S))
