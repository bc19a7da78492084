"""A user's stage: the page's example does what the page says; what cannot work is refused in one line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.errors import ScenarioError
from emulator.link.link import CustomStage, LinkOptions
from emulator.ports.assembly import link_options
from emulator.scenario import load_scenario
from emulator.timeline.causes import Cause
from emulator.timeline.model import Channel
from hil_tests.unit.docs.pages import CHECKOUT, blocks
from hil_tests.unit.link.driver import Offer, drive, new_link
from hil_tests.unit.link.packets import Super
from hil_tests.unit.link.strategies import MS
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


def test_segments_show_the_headers_that_they_share(write: Write) -> None:
    stage = write("def stage(packet, data, memory):\n    memory[packet[0]] = len(data)\n    return 0\n")
    link = new_link(OPEN, replace(OPTIONS, stage=stage))
    drive(link, [Offer(0, Super("tcp", 6, payload=5000, segment=1000).frame())])
    assert link.state.words[9:14].tolist() == [60] * 5


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
