"""Durations, instants and scenarios on the command line."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from emulator.cli.options import duration_option, parse_duration_ns, scenario_options, start_option
from emulator.scenario import Scenario
from emulator.units import NS_PER_S, parse_utc_ns


@click.command()
@scenario_options(default="fixed")
@start_option
@duration_option("10m")
def show(scenario: Scenario, start_utc_ns: int | None, duration_ns: int) -> None:
    click.echo(
        json.dumps([scenario.name, scenario.seed, scenario.link.model_dump()["delay_ms"], start_utc_ns, duration_ns])
    )


@click.command()
@scenario_options()
def strict(scenario: Scenario) -> None:
    click.echo(scenario.name)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(show, list(arguments))


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.integers(0, 10**9))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int, fraction: int) -> None:
    total_ns = ((hours * 60 + minutes) * 60 + seconds) * NS_PER_S + fraction % NS_PER_S
    text = f"{hours}h{minutes}m{seconds}.{fraction % NS_PER_S:09d}s"
    if total_ns:
        assert parse_duration_ns(text) == total_ns
    else:
        with pytest.raises(ValueError):
            parse_duration_ns(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("10m", 600), ("45s", 45), ("1h30m", 5400), ("90", 90), ("0.1", 0.1), ("1.5h", 5400), ("2d", 172_800)),
        *(("1M", 60), ("200ms", 0.2), ("1m30ms", 60.03), ("2s0.5ms", 2.0005)),
    ],
)
def test_a_duration_as_a_person_types_it(text: str, seconds: float) -> None:
    assert parse_duration_ns(text) == round(seconds * NS_PER_S)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5", "s", "m", "5x", "1e3", "nan", "5 m", "1m1h", "٥", "0ms", "1ms1s", "12ms3"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration_ns(text)


def test_a_command_gets_its_scenario_loaded_and_its_times_in_ns() -> None:
    start = "2025-05-29T23:21:27Z"
    result = invoke("fixed", "--set", "link.delay_ms=7", "--seed", "5", "--start", start, "--duration", "1m")
    assert json.loads(result.output) == ["fixed", 5, 7.0, parse_utc_ns(start), 60 * NS_PER_S]


def test_defaults_stand_in_for_what_is_left_out() -> None:
    name, seed, _, start_utc_ns, duration_ns = json.loads(invoke().output)
    assert (name, seed, start_utc_ns, duration_ns) == ("fixed", 1, None, 600 * NS_PER_S)


def test_the_seed_is_said_by_set_too_and_seed_wins() -> None:
    assert json.loads(invoke("fixed", "--set", "seed=3").output)[1] == 3
    assert json.loads(invoke("fixed", "--seed", "4", "--set", "seed=3").output)[1] == 4


def test_without_a_default_the_scenario_must_be_named() -> None:
    assert CliRunner().invoke(strict, []).exit_code == 2
    assert CliRunner().invoke(strict, ["fixed"]).output == "fixed\n"
