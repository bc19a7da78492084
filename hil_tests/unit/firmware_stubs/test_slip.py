"""Laws of RFC 1055: there and back, in any pieces, and after any noise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.slip import LONGEST, Framing, SlipStub, frame

packets = st.lists(st.binary(min_size=1, max_size=200), max_size=8)


@given(packets, st.integers(1, 50))
def test_there_and_back_in_any_pieces(sent: list[bytes], piece: int) -> None:
    line = b"".join(map(frame, sent))
    framing = Framing()
    assert [one for at in range(0, len(line), piece) for one in framing.feed(line[at : at + piece])] == sent


@given(st.binary(max_size=300), packets)
def test_after_noise_the_next_packet_is_whole(noise: bytes, sent: list[bytes]) -> None:
    framing = Framing()
    list(framing.feed(noise))
    heard = list(framing.feed(b"".join(map(frame, sent))))
    assert heard[len(heard) - len(sent) :] == sent


def test_what_is_too_long_is_thrown_away_and_counted() -> None:
    framing = Framing()
    assert list(framing.feed(frame(bytes(LONGEST + 1)) + frame(b"short"))) == [b"short"]
    assert framing.refused == 1


class Port:
    """Packets that a test gives and takes."""

    fd = -1

    def __init__(self) -> None:
        self.given: list[bytes] = []
        self.taken: list[bytes] = []

    def read(self) -> bytes:
        return self.given.pop(0) if self.given else b""

    def write(self, packet: bytes) -> None:
        self.taken.append(packet)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_only_ip_packets_reach_the_kernel(frames: list[bytes]) -> None:
    port = Port()
    stub = SlipStub(port)
    stub.receive(b"".join(map(frame, frames)), 0)
    assert port.taken == [one for one in frames if len(one) >= 20 and one[0] >> 4 in (4, 6)]
    port.given = [b"\x45" + bytes(30)] * 3
    assert stub.poll(0) == frame(b"\x45" + bytes(30)) * 3
