"""`--set KEY=VALUE`: the same as writing it in the file, and refused by its own words."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.scenario import load_scenario
from emulator.scenario.keys import Key, dotted
from emulator.scenario.overrides import apply_overrides, parse_key, parse_value
from hil_tests.unit.scenario.strategies import PROFILES, Tables, at, inline, replaced, scalars_in, scenarios, to_toml

NAMES = st.from_regex(r"[A-Za-z_-][A-Za-z0-9_-]{0,8}", fullmatch=True)
KEYS = st.tuples(NAMES, st.lists(NAMES | st.integers(0, 10**6), max_size=4)).map(lambda parts: (parts[0], *parts[1]))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overrides") / "lab.toml"


@given(KEYS)
def test_a_key_as_errors_write_it_reads_back(key: tuple[str | int, ...]) -> None:
    assert parse_key(dotted(key)) == key
    assert parse_key(".".join(map(str, key))) == key


def bound_to_others(key: Key) -> bool:
    """Quantiles rise together, and without elements there must be shells: one alone cannot be exchanged."""
    return str(key[-1]) in {"p0", "p5", "p50", "p75", "p90", "p95", "p100", "elements"}


@given(scenarios(), st.data())
def test_an_override_is_the_same_as_writing_it_in_the_file(file: Path, tables: Tables, data: st.DataObject) -> None:
    donor = data.draw(scenarios(profile=tables["link"]["profile"]))
    shared = [key for key in scalars_in(tables) if key in set(scalars_in(donor)) and not bound_to_others(key)]
    keys = data.draw(st.lists(st.sampled_from(shared), unique=True)) if shared else []
    written = tables
    for key in keys:
        written = replaced(written, key, at(donor, key))
    file.write_text(to_toml(tables))
    overridden = load_scenario(file, [f"{dotted(key)}={inline(at(donor, key))}" for key in keys])
    file.write_text(to_toml(written))
    assert overridden == load_scenario(file)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_what_is_no_toml_value_is_text(text: str) -> None:
    assert parse_value(inline(text)) == text
    value = parse_value(text)
    assert not isinstance(value, str) or value == text or text.strip()[0] in "'\""


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("5.0", 5.0), ("true", True), ("fixed", "fixed"), ("'5'", "5"), ("", ""), ("[1, 2]", [1, 2]),
     ("{a = 1}", {"a": 1}), ("{a = ", "{a = "), ("1\nb = 2", "1\nb = 2"), ("198.18.0.0/15", "198.18.0.0/15")],
)  # fmt: skip
def test_a_value_is_toml_or_else_text(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_later_overrides_win() -> None:
    scenario = load_scenario("fixed", ["link.delay_ms=1", "link.delay_ms=2"])
    assert scenario.link.model_dump()["delay_ms"] == 2


def test_an_index_one_past_the_end_adds_an_entry() -> None:
    overrides = ["overlay.0.kind=outage", "overlay[0].at_s=10", "overlay[0].duration_s=2",
                 "overlay[1]={kind='hold', at_s=1, duration_s=1}"]  # fmt: skip
    assert [event.kind for event in load_scenario("fixed", overrides).overlay] == ["outage", "hold"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("link.delay_ms=x", "expected a number from 0 to 60000, got 'x'"),
        ("link.delay_ms=true", "expected a number from 0 to 60000, got true"),
        ("link.delay_ms=-1", "expected a number from 0 to 60000, got -1"),
        ("link.dealy_ms=1", "unknown key: did you mean link.delay_ms?"),
        ("dealy_ms=1", "unknown key: did you mean link.delay_ms?"),
        ("terminal.latitude_deg=5", "terminal.longitude_deg: expected a number from -180 to 180, got nothing"),
        ("link={}", f"link.profile: expected one of {str(PROFILES)[1:-1]}, got nothing"),
        ("link.delay_ms.x=1", "expected link.delay_ms to be a table or an array, got 20.0"),
        ("link.0=1", "expected a key of the table link, got the index 0"),
        ("overlay.3.kind=hold", "expected an index of overlay from 0 to 0, got 3"),
        ("overlay.first.kind=hold", "overlay: expected an array of at most 256, got a table"),
        ("link.delay_ms", "expected KEY=VALUE, got no '='"),
        ("=5", "expected a dotted key such as link.delay_ms or gateways[0].name, got ''"),
        ("link..delay_ms=5", "expected a dotted key such as link.delay_ms or gateways[0].name, got 'link..delay_ms'"),
        ("name=\udc80", "expected UTF-8"),
    ],
)  # fmt: skip
def test_a_faulty_override_is_told_by_its_own_words(override: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("fixed", [override])
    assert caught.value.problems == (f"--set {override}: {problem}",)


def test_faults_of_file_and_overrides_come_together(file: Path) -> None:
    file.write_text("seed = -1\nlink = {profile = 'fixed'}")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file, ["nonsense", "link.loss=2"])
    said_by = [line.partition(":")[0] for line in caught.value.problems]
    assert said_by == ["--set nonsense", str(file), "--set link.loss=2"]


@given(st.lists(st.text(max_size=30), max_size=3))
def test_whatever_is_set_there_is_no_other_error(texts: list[str]) -> None:
    with contextlib.suppress(ScenarioError):
        load_scenario("fixed", texts)


@given(KEYS, st.integers())
def test_an_override_changes_its_key_and_nothing_else(key: tuple[str | int, ...], value: int) -> None:
    raw: dict[str, Any] = {"untouched": {"deep": [1]}}
    applied, problems = apply_overrides(raw, [f"{dotted(key)}={value}"])
    if applied:
        assert at(raw, key) == value
    assert bool(applied) != bool(problems)
    if key[0] != "untouched":
        assert raw["untouched"] == {"deep": [1]}
