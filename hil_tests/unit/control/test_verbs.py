"""One model, and all that is made from it: methods, subcommands, times, and what an operator's commands do."""

from __future__ import annotations

import inspect
import time
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench.operator import MOST_PENDING
from emulator.cli.ctl import BYTES, ELSEWHERE, ctl
from emulator.control.commands import Commands
from emulator.control.model import COMMANDS, Command, Lasting, Timed, parse
from emulator.control.verbs import Verbs, values_of
from emulator.errors import EmulationError, ScenarioError
from emulator.timeline.causes import Gate
from emulator.units import NS_PER_MS, NS_PER_S, format_utc
from hil_tests.unit.control.small_bench import SmallBench

S = NS_PER_S
TIMED = {verb: one for verb, one in COMMANDS.items() if issubclass(one, Timed)}


class Noted(Verbs[Command]):
    def do(self, command: Command) -> Command:
        return command


class Local(Verbs[dict[str, Any]]):
    """The verbs of a small bench."""

    def __init__(self, bench: SmallBench | None = None) -> None:
        self.bench = bench or SmallBench()
        self._commands = Commands(self.bench)

    def do(self, command: Command) -> dict[str, Any]:
        done: dict[str, Any] = self._commands.do(command, "me")
        return done

    def delays_ms(self, *at_ns: int) -> list[int]:
        link = self.bench.machinery.links["downlink"]
        return [link.channel_at(at).delay_ns // NS_PER_MS for at in at_ns]


def test_every_verb_that_has_a_model_can_be_given() -> None:
    waiting, found = [Command], set()
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        if "verb" in vars(one):
            found.add(one)
    assert found == set(COMMANDS.values())


@pytest.mark.parametrize("verb", TIMED)
def test_every_timed_verb_is_a_method_with_its_fields_and_defaults(verb: str) -> None:
    parameters = dict(inspect.signature(getattr(Verbs, verb)).parameters)
    del parameters["self"]
    fields = COMMANDS[verb].model_fields
    assert set(parameters) == set(fields)
    for name, parameter in parameters.items():
        given_default = parameter.default
        if given_default is not inspect.Parameter.empty and given_default is not None:
            assert given_default == fields[name].default


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS if verb not in ELSEWHERE | BYTES])
def test_every_verb_is_a_subcommand_with_its_fields(verb: str) -> None:
    found = ctl.get_command(click.Context(ctl), verb)
    assert found is not None
    assert {one.name for one in found.params} - {"as_json"} == set(COMMANDS[verb].model_fields)
    assert found.help


@given(st.floats(0.001, 1e6), st.sampled_from(["both", "uplink"]), st.sampled_from(["now", "+3", "next-slot"]))
def test_what_goes_over_the_wire_comes_out_the_same(duration_s: float, direction: Any, at: str) -> None:
    for command in (
        Noted().outage(duration_s, direction=direction, at=at),
        Noted().fade(3.0, duration_s, at=at),
        Noted().overlay({"kind": "hold", "at_s": 0.0, "duration_s": duration_s}, at=at),
        Noted().jump("+5", at=at),
    ):
        assert parse(command.verb, values_of(command)) == command


@pytest.mark.parametrize("kind", [one for one in COMMANDS.values() if issubclass(one, Lasting)])
def test_what_lasts_begins_and_ends_at_the_stated_times_and_without_an_end_with_clear(kind: type[Lasting]) -> None:
    local = Local()
    needed = {name: 0.5 for name, field in kind.model_fields.items() if field.is_required()}
    link = local.bench.machinery.links["uplink"]
    calm = link.channel_at(time.monotonic_ns())
    done = local.do(parse(kind.verb, {**needed, "at": "+1", "duration_s": 2.0, "direction": "uplink"}))
    assert done["scheduled"]
    assert done["late_ns"] == 0
    begins, ends = done["monotonic_ns"], done["monotonic_ns"] + 2 * S
    looks = [link.channel_at(at, jitter=True) for at in (begins - 1, begins, ends - 1, ends)]
    assert looks[0] == looks[3] == calm
    assert kind.verb == "fade" or looks[1] != calm
    assert local.bench.machinery.links["downlink"].channel_at(begins) == calm
    endless = local.do(parse(kind.verb, needed))
    assert [one["number"] for one in local.bench.operator.standing()] == [1, 2]
    cleared = local.clear(endless["number"])
    assert link.channel_at(cleared["monotonic_ns"], jitter=True) == calm
    assert local.clear()["cleared"] == [1]
    assert link.channel_at(begins, jitter=True) == calm


def test_what_comes_too_late_takes_effect_at_once_and_says_so() -> None:
    local = Local()
    early = format_utc(local.bench.machinery.clock.utc_ns() - 2 * S, 9)
    done = local.delay(30.0, 1.0, at=early)
    assert 2 * S <= done["late_ns"] < 60 * S
    assert not done["scheduled"]
    assert local.delays_ms(done["monotonic_ns"]) == [50]
    assert [event.data["late_ns"] for event in local.bench.machinery.commands()] == [done["late_ns"]]


def test_a_jump_for_later_is_noted_twice_and_may_be_cancelled() -> None:
    local = Local()
    machinery = local.bench.machinery
    cancelled = local.jump("+3600", at="+3000")
    assert local.clear(cancelled["number"])["cleared"] == [cancelled["number"]]
    done = local.jump("+3600", at="+0.05")
    while len(machinery.commands()) < 4:  # the test's own time limit ends it
        time.sleep(0.001)
    phases = [(event.data["number"], event.data["phase"]) for event in machinery.commands()]
    assert phases == [(1, "accepted"), (2, "done"), (3, "accepted"), (3, "done")]
    at_ns = machinery.commands()[-1].monotonic_ns
    assert at_ns == done["monotonic_ns"] + machinery.commands()[-1].data["late_ns"]
    clock = machinery.clock
    assert clock.utc_of_monotonic_ns(at_ns) - clock.utc_of_monotonic_ns(at_ns - 1) == 3600 * S + 1


def test_a_mark_says_what_was_marked_and_limits_reach_the_queue() -> None:
    local = Local()
    assert local.mark("here")["text"] == "here"
    assert local.limit(packets=7)["packets"] == 7
    for link in local.bench.machinery.links.values():
        assert link.state.lanes[0].tolist()[2] == 7
    with pytest.raises(EmulationError, match="for which the queue was made, got 1000"):
        local.limit(packets=1000)
    with pytest.raises(EmulationError, match="no class 'voice'; the scenario has none"):
        local.limit("voice", packets=7)


@pytest.mark.parametrize(
    ("at", "error", "fault"),
    [
        ("soon", ScenarioError, "mark: expected a UTC time such as"),
        ("+", ScenarioError, "mark: expected seconds"),
        ("+-1", ScenarioError, "mark: at: expected a time within a year"),
        ("+1e200", ScenarioError, "mark: at: expected a time within a year"),
        ("+inf", ScenarioError, "mark: expected seconds"),
        ("next-week", ScenarioError, "mark: expected next-slot"),
        ("next-slot", EmulationError, "next-slot: this link has no slots"),
        ("next-handover", EmulationError, "next-handover: this link never changes"),
        ("2199-01-01T00:00:00Z", ScenarioError, "mark: at: expected a time within a year"),
        ("", ScenarioError, "mark: at: String should have at least 1"),
    ],
)
def test_a_time_that_is_none_is_refused(at: str, error: type[Exception], fault: str) -> None:
    with pytest.raises(error, match="^" + fault.replace("+", r"\+")):
        Local().mark("x", at=at)


def test_a_standing_world_has_no_other_times_than_its_own() -> None:
    local = Local()
    local.freeze()
    with pytest.raises(EmulationError, match="the Timeline stands still"):
        local.outage(at="2026-01-01T00:00:00Z")
    assert local.outage(1.0, at="+1")["scheduled"]
    with pytest.raises(EmulationError, match="the Timeline stands still already"):
        local.freeze()
    local.resume()


@pytest.mark.parametrize("to", ["-1e12", "+1e12"])
def test_a_jump_out_of_time_is_refused_and_changes_nothing(to: str) -> None:
    local = Local()
    before = local.bench.machinery.clock.utc_ns()
    with pytest.raises(EmulationError, match="jump: expected a UTC from 1970 to 2250"):
        local.jump(to)
    assert local.bench.machinery.clock.utc_ns() - before < 60 * S


def test_there_is_an_end_to_what_may_be_in_force() -> None:
    local = Local()
    for _ in range(MOST_PENDING):
        local.hold(at="+1000")
    with pytest.raises(EmulationError, match="at most 256"):
        local.hold(at="+1000")
    assert len(local.bench.operator.standing()) == MOST_PENDING
    local.clear()
    assert local.bench.operator.standing() == []
    for link in local.bench.machinery.links.values():
        assert link.channel_at(time.monotonic_ns() + 2000 * S).gate is Gate.PASS


def test_an_overlay_keeps_the_scenarios_own_times() -> None:
    local = Local()
    done = local.overlay({"kind": "extra_delay", "at_s": 5, "duration_s": 1, "extra_delay_ms": 7})
    begins = done["monotonic_ns"] + 5 * S
    assert local.delays_ms(begins - 1, begins, begins + S) == [20, 27, 20]
