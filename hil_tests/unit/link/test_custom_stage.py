"""A user's stage: the page's example does what the page says; what cannot work is refused in one line."""

from __future__ import annotations

import itertools
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.link import custom
from emulator.link.link import CustomStage, LaneOptions, LinkOptions
from emulator.ports.assembly import link_options
from emulator.scenario import load_scenario
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.docs.pages import CHECKOUT, blocks
from hil_tests.unit.link import stages
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import Super
from hil_tests.unit.link.strategies import MS, supers
from hil_tests.unit.link.test_classes_and_disciplines import ICMP, UDP, ipv4, number_of

PAGE = CHECKOUT / "docs" / "custom_stage.md"
OPTIONS = LinkOptions(memory_bytes=1 << 20, flight_packets=1 << 9)
OPEN = Channel.constant(0, delay_ns=20 * MS)
Write = Callable[[str], CustomStage]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a module with a stage called `stage` and says where it is."""
    names: list[str] = []

    def written(source: str) -> CustomStage:
        names.append(f"stage_{tmp_path.name}_{len(names)}".replace("-", "_"))
        (tmp_path / f"{names[-1]}.py").write_text(source)
        return CustomStage(f"{names[-1]}:stage", str(tmp_path))

    yield written
    for name in names:
        sys.modules.pop(name, None)


def test_the_example_of_the_page_does_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "my_stages", raising=False)
    (tmp_path / "my_stages.py").write_text(blocks(PAGE, "python")[0].text)
    (tmp_path / "lab.toml").write_text(blocks(PAGE, "toml")[0].text)
    options = link_options(load_scenario(tmp_path / "lab.toml"), "uplink", 20 * MS)
    offers = [Offer(at * MS, ipv4(ICMP if at % 2 else UDP, 100, at)) for at in range(100)]
    link = new_link(OPEN, replace(options, memory_bytes=1 << 20, flight_packets=1 << 9))
    outcome = drive(link, offers)
    assert outcome.counters.dropped == {}, "every tenth one is a ping here"
    stays = {number_of(packet): due - number_of(packet) * MS for due, packet in outcome.deliveries}
    assert all(stay == 25 * MS for number, stay in stays.items() if number % 2)
    others = drive(new_link(OPEN, options), [Offer(at * MS, ipv4(UDP, 100, at)) for at in range(100)])
    assert others.counters.dropped == {Cause.STAGE: 10}
    assert {number_of(packet) for _, packet in others.deliveries} == {at for at in range(100) if at % 10 != 9}


def test_it_sees_each_packet_and_keeps_its_memory(write: Write) -> None:
    stage = write(
        "def stage(packet, data, memory):\n"
        "    memory[0] += packet[2]\n"
        "    memory[1] = packet[0]\n"
        "    memory[2] += len(data)\n"
        "    return packet[5] + memory[3]\n"
    )
    options = replace(OPTIONS, stage=replace(stage, values=(0, 0, 0, MS)))
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=8_000_000), options)
    outcome = drive(link, [Offer(0, ipv4(UDP, 1000, number)) for number in range(5)])
    assert link.state.words[8:12].tolist() == [5000, 5, 5000, MS]
    # number n waits n ms, leaves at n + 1 ms, and is kept for what it waited and 1 ms more
    assert [due for due, _ in outcome.deliveries] == [(2 * number + 2) * MS for number in range(5)]


def looking(at: int, by: int, dropped: int) -> LinkOptions:
    return replace(OPTIONS, stage=CustomStage("hil_tests.unit.link.stages:look", values=(at, by, dropped)))


@given(
    st.lists(supers(most_packets=6), min_size=1, max_size=5),
    st.sampled_from([stages.SIZE, 2, 3, 4, 5, 8, 9, 10, 11, 26, 27, 33, 36, 46, 47, 53]) | st.integers(0, 1500),
    st.integers(2, 7),
    st.integers(0, 7),
    st.booleans(),
)
def test_segments_fare_as_if_they_had_come_one_by_one(
    bursts: list[Super], at: int, by: int, dropped: int, ethernet: bool
) -> None:
    """Size, number, TTL, flags and every other byte: the stage sees the packet that leaves, whatever it came in."""
    options = replace(looking(at, by, dropped), ethernet=ethernet)
    wholes = [in_ethernet(burst.frame(), burst.version) if ethernet else burst.frame() for burst in bursts]
    singles = [
        (number, bytes(10) + packet)
        for number, whole in enumerate(wholes)
        for _, packet in drive(new_link(OPEN, replace(OPTIONS, ethernet=ethernet)), [Offer(0, whole)]).deliveries
    ]
    together, apart = new_link(OPEN, options), new_link(OPEN, options)
    outcome = drive(together, [Offer(number * MS, whole) for number, whole in enumerate(wholes)])
    assert outcome == drive(apart, [Offer(number * MS, single) for number, single in singles])
    assert together.state.words[: custom.DATA_WORD].tolist() == apart.state.words[: custom.DATA_WORD].tolist()
    offered = Counter(single[10:] for _, single in singles)
    assert not Counter(packet for _, packet in outcome.deliveries) - offered, "what it writes goes nowhere"


def in_ethernet(frame: bytes, version: int) -> bytes:
    """A super-packet's frame with an Ethernet header, of which its virtio_net_hdr knows."""
    flags, kind, headers, segment, start, offset = struct.unpack("<BBHHHH", frame[:10])
    behind = struct.pack("<BBHHHH", flags, kind, headers + 14, segment, start + 14, offset)
    return behind + bytes(12) + (b"\x08\x00" if version == 4 else b"\x86\xdd") + frame[10:]


def test_a_mark_of_congestion_is_seen(write: Write) -> None:
    stage = write("def stage(packet, data, memory):\n    memory[data[1] & 3] += 1\n    return 0\n")
    lanes = (LaneOptions(discipline="codel", ecn=True, target_ns=1, interval_ns=MS),)
    link = new_link(Channel.constant(0, delay_ns=0, rate_bps=10**6), replace(OPTIONS, lanes=lanes, stage=stage))
    packets = [bytearray(ipv4(UDP, 1000, number)) for number in range(20)]
    for packet in packets:
        packet[11] |= 2
    outcome = drive(link, [Offer(0, bytes(packet)) for packet in packets])
    assert link.state.words[10:12].tolist() == [20 - outcome.counters.marked_packets, outcome.counters.marked_packets]
    assert outcome.counters.marked_packets > 0


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2).map(lambda more: custom.LONGEST_NS + more))
def test_no_packet_is_later_than_the_longest_delay(added: int) -> None:
    stage = CustomStage("hil_tests.unit.link.stages:add", values=(added,))
    link = new_link(OPEN, replace(OPTIONS, stage=stage))
    outcome = drive(link, [Offer(at * MS, ipv4(UDP, 100, at)) for at in range(3)])
    if 0 <= added <= custom.LONGEST_NS:
        at = 21 * MS + added
        assert [due for due, _ in outcome.deliveries] == [20 * MS, at, max(22 * MS, at)]
    else:
        assert [due for due, _ in outcome.deliveries] == [20 * MS, 22 * MS]
        assert outcome.counters.dropped == {Cause.STAGE: 1}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("if packet[0] == 2:\n        raise ValueError('no')\n    return 0", ValueError),
        ("return int(data[data.size - (packet[0] != 2)]) * 0", IndexError),
        ("return int(memory[63 + (packet[0] == 2)])", IndexError),
    ],
)
def test_an_exception_lets_the_packet_pass_and_is_told(
    write: Write, monkeypatch: pytest.MonkeyPatch, body: str, kind: type[Exception]
) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: told.append(one.exc_type))
    stage = write(f"def stage(packet, data, memory):\n    {body}\n")
    outcome = drive(new_link(OPEN, replace(OPTIONS, stage=stage)), [Offer(0, ipv4(UDP, 60, at)) for at in range(4)])
    assert [due for due, _ in outcome.deliveries] == [20 * MS] * 4
    assert told == [kind]


def test_the_example_of_the_page_takes_a_frame_with_nothing_in_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    stage = write(blocks(PAGE, "python")[0].text + "\n\nstage = slow_ping\n")
    link = new_link(OPEN, replace(OPTIONS, stage=stage, ethernet=True))
    outcome = drive(link, [Offer(0, bytes(10 + 12) + b"\x08\x06")])
    assert (len(outcome.deliveries), told) == (1, [])


def test_two_links_may_have_two_stages(write: Write) -> None:
    slow, lossy = (
        write(f"def stage(packet, data, memory):\n    return {value}\n")
        for value in ("7", "-1 if packet[0] == 2 else 0")
    )
    offers = [Offer(0, ipv4(UDP, 100, number)) for number in range(3)]
    first, second = (new_link(OPEN, replace(OPTIONS, stage=stage)) for stage in (slow, lossy))
    assert [due for due, _ in drive(first, offers).deliveries] == [20 * MS + 7] * 3
    assert drive(second, offers).counters.dropped == {Cause.STAGE: 1}


def test_order_is_kept_whatever_it_returns(write: Write) -> None:
    stage = write("def stage(packet, data, memory):\n    return (7 - packet[0] % 7) * 1_000_000\n")
    outcome = drive(
        new_link(OPEN, replace(OPTIONS, stage=stage)), [Offer(at * 1000, ipv4(UDP, 60, at)) for at in range(50)]
    )
    assert [number_of(packet) for _, packet in outcome.deliveries] == list(range(50))
    assert all(one <= other for one, other in itertools.pairwise(due for due, _ in outcome.deliveries))


REFUSED = {
    "not_there.at_all:stage": "expected a module that can be imported: ModuleNotFoundError",
    "json:no_such_name": "expected a function of that name in json",
    "json:decoder": "expected a function of that name in json",
    "json:loads": "expected a function of packet, data and memory",
    "no_colon": "expected package.module:function, got 'no_colon'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_stage_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        new_link(OPEN, replace(OPTIONS, stage=CustomStage(name)))
    assert str(caught.value).startswith("link.stage: ")
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_with_a_fault_is_refused_with_the_fault(write: Write) -> None:
    with pytest.raises(ScenarioError, match=r"imported: ZeroDivisionError: division by zero"):
        new_link(OPEN, replace(OPTIONS, stage=write("1 / 0\n")))


@pytest.mark.needs("compiled")
@pytest.mark.parametrize(
    "body", ["return undefined_name", "return open('/etc/passwd').read()", "return 'a' + 1", "return 'text'"]
)
def test_what_does_not_compile_is_refused_in_one_line(write: Write, body: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        new_link(OPEN, replace(OPTIONS, stage=write(f"def stage(packet, data, memory):\n    {body}\n")))
    assert "expected a function that Numba compiles: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scenario_with_a_stage_that_is_not_there_says_so_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('[link]\nprofile = "fixed"\nstage = "nowhere:stage"\n')
    scenario = load_scenario(tmp_path / "lab.toml")
    with pytest.raises(ScenarioError, match=r"link\.stage: nowhere:stage: expected a module"):
        link_options(scenario, "downlink", 0)
