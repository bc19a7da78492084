"""Where packets may overtake each other, they do so at the far end of the ZeroMQ fabric, too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.link.link import Jitter, LinkOptions
from emulator.ports import messages
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import drain, new_link
from hil_tests.unit.link.packets import frame, packet
from hil_tests.unit.ports.batch_cases import Ends, arrivals, header, record

MS = 1_000_000


def departures(dues: list[int], first: int) -> bytes:
    """A batch from the link: one packet for each due time, numbered from `first`."""
    body = b"".join(record(1, 110, due, data=frame(100, first + place)) for place, due in enumerate(dues))
    return header(messages.DEPARTURES, len(dues)) + body


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=6))
def test_what_is_due_earlier_leaves_earlier_whatever_the_batch_in_which_it_came(batches: list[list[int]]) -> None:
    ends, dues = Ends.new(), [due for batch in batches for due in batch]
    first = 0
    for batch in batches:
        assert ends.board(departures(batch, first))
        first += len(batch)
    left = [(delivery.due_ns, delivery.packet) for delivery in ends.line.poll(1 << 60)]
    order = sorted(range(len(dues)), key=lambda number: dues[number])
    assert left == [(dues[number], packet(100, number)) for number in order]


@given(st.lists(st.integers(0, 5 * MS), min_size=1, max_size=30), st.integers(0, 2**31), st.integers(1, 8))
def test_the_two_ends_of_the_fabric_deliver_what_one_process_does(gaps: list[int], seed: int, split: int) -> None:
    """Late packets and jitter that overtakes: packed after every `split` packets, boarded, and delivered."""
    options = LinkOptions(
        late=0.3, late_ns=7 * MS, jitter=Jitter("uniform", 0.5, overtakes=True), jitter_bin_ns=MS,
        memory_bytes=1 << 18, flight_packets=1 << 8,
    )  # fmt: skip
    channel = Channel.constant(0, delay_ns=10 * MS, jitter_ns=6 * MS)
    whole = new_link(channel, options, seed=seed)
    ends = Ends.new()
    ends.link = new_link(channel, options, seed=seed)
    at = 0
    for number, gap in enumerate(gaps):
        at += gap
        whole.offer_super(frame(100, number), at)
        assert ends.offer(arrivals([frame(100, number)], at))
        if number % split == 0:
            assert ends.board(ends.pack(at))
    assert ends.board(ends.pack(1 << 60))
    assert drain(ends.line) == drain(whole)
