"""What a scenario file may say, and what it hears when it says something else."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.ports.assembly import events_of
from emulator.scenario import Scenario, embedded_scenarios, load_scenario
from emulator.scenario.keys import Keys, dotted, expectation
from emulator.scenario.model import OverlayEvent
from emulator.scenario.schema import scenario_schema
from emulator.scenario.script import AMOUNTS
from hil_tests.unit.scenario.strategies import (
    PROFILES,
    Tables,
    at,
    inline,
    replaced,
    scalars_in,
    scenarios,
    tables_in,
    to_toml,
)

DATA = st.data()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)  # TOML has no surrogates
ANYTHING = st.recursive(
    st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
UNKNOWN = "no_such_key_at_all"
SCHEMA = jsonschema.Draft202012Validator(scenario_schema())
ADDRESSES = [  # keys that take an address or a network, and whether in an array
    (f"{table}.{name}", "items" in node)
    for table in ("ports", "access")
    for name in Keys("fixed").node((table,))["properties"]
    for node in [Keys("fixed").node((table, name))]
    if node.get("items", node).get("format", "").startswith("ip")
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenario") / "lab.toml"


def load(file: Path, tables: Tables, *overrides: str) -> Scenario:
    file.write_text(to_toml(tables))
    return load_scenario(file, overrides)


def problems(file: Path, tables: Tables, *overrides: str) -> list[str]:
    """What is wrong with the tables, without the file's name, which each line that is not of `--set` begins with."""
    with pytest.raises(ScenarioError) as caught:
        load(file, tables, *overrides)
    lines = caught.value.problems
    assert all("\n" not in line and line.startswith((f"{file}: ", "--set ")) for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


def without_source(scenario: Scenario) -> Scenario:
    return scenario.model_copy(update={"source": None})


@given(scenarios())
def test_a_scenario_dumped_and_loaded_is_itself(file: Path, tables: Tables) -> None:
    scenario = load(file, tables)
    dumped = scenario.model_dump(mode="json", exclude_none=True)
    assert without_source(load(file, dumped)) == without_source(scenario)


@given(scenarios())
def test_every_key_of_the_file_stands_in_the_scenario(file: Path, tables: Tables) -> None:
    dumped = load(file, tables).model_dump(mode="json")
    for key in scalars_in(tables):
        unnamed = key == ("name",) and not at(tables, key)  # then it is called as its file
        assert at(dumped, key) == (file.stem if unnamed else at(tables, key))


@given(scenarios(), DATA)
def test_an_unknown_key_anywhere_is_named(file: Path, tables: Tables, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(tables_in(tables)))
    found = problems(file, replaced(tables, (*table, UNKNOWN), 1))
    assert len(found) == 1
    assert found[0].startswith(f"{dotted((*table, UNKNOWN))}: unknown key")


@given(scenarios(), DATA)
def test_a_misspelt_key_is_answered_with_the_right_one(file: Path, tables: Tables, data: st.DataObject) -> None:
    long_enough = [key for key in scalars_in(tables) if len(str(key[-1])) > 5]
    if not long_enough:
        return
    key = data.draw(st.sampled_from(long_enough))
    right = str(key[-1])
    wrong = right[0] + right[2] + right[1] + right[3:]
    known = Keys(tables["link"]["profile"]).node(key[:-1])["properties"]
    if wrong not in known:
        found = problems(file, replaced(tables, (*key[:-1], wrong), at(tables, key)))
        assert found == [f"{dotted((*key[:-1], wrong))}: unknown key: did you mean {dotted(key)}?"]


@given(scenarios(), DATA)
def test_a_value_of_another_kind_is_refused_by_its_key(file: Path, tables: Tables, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(scalars_in(tables)))
    value = at(tables, key)
    others: list[tuple[object, str]] = [
        ([], "an empty array"),
        ({}, "a table"),
        ("5", "'5'") if isinstance(value, int | float) else (5, "5"),
    ]
    wrong, shown = data.draw(st.sampled_from(others if isinstance(value, bool) else [(True, "true"), *others]))
    (line,) = problems(file, replaced(tables, key, wrong))
    assert line.startswith(f"{dotted(key)}: expected ")
    assert line.endswith(f", got {shown}")


@pytest.mark.parametrize(("key", "array"), ADDRESSES)
@given(st.booleans() | st.integers(0, 2**128 - 1) | st.floats(0, 2**32))
def test_a_number_is_no_address(key: str, array: bool, number: float) -> None:
    """`ipaddress` takes true for 0.0.0.1, and 4009820419 for a group."""
    element = f"{key}[0]" if array else key
    with pytest.raises(ScenarioError, match=rf"{re.escape(element)}.*: expected an? .*IPv[46] .*, got "):
        load_scenario("fixed", [f"{key}={inline([number] if array else number)}"])


@given(scenarios(), DATA)
def test_a_number_out_of_bounds_is_refused_with_the_bounds(file: Path, tables: Tables, data: st.DataObject) -> None:
    keys = Keys(tables["link"]["profile"])
    bounded = [key for key in scalars_in(tables) if {"maximum", "exclusiveMaximum"} & set(keys.node(key))]
    if not bounded:
        return
    key = data.draw(st.sampled_from(bounded))
    node = keys.node(key)
    wrong = node.get("exclusiveMaximum", node.get("maximum", 0) + 1)
    (line,) = problems(file, replaced(tables, key, wrong))
    assert line.startswith(f"{dotted(key)}: expected a ")
    assert line.endswith(f", got {wrong!r}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_refused(file: Path, value: float) -> None:
    tables = {"link": {"profile": "fixed", "delay_ms": value}}
    assert problems(file, tables) == [f"link.delay_ms: expected a number from 0 to 60000, got {value}"]


@given(scenarios(), DATA)
def test_every_fault_has_its_line(file: Path, tables: Tables, data: st.DataObject) -> None:
    wrong = data.draw(st.lists(st.sampled_from(scalars_in(tables)), min_size=1, unique=True))
    for key in wrong:
        tables = replaced(tables, key, [[]])
    found = problems(file, tables)
    assert sorted(line.partition(": ")[0] for line in found) == sorted(map(dotted, wrong))


@given(scenarios(profile="starlink"), DATA)
def test_a_missing_key_is_named(file: Path, tables: Tables, data: st.DataObject) -> None:
    keys = Keys("starlink")
    required = [
        (*table, name)
        for table in tables_in(tables)
        for name in (*keys.node(table).get("required", ()), *(() if table else ("pop", "gateways")))
    ]
    key = data.draw(st.sampled_from(required))
    table = dict(at(tables, key[:-1]))
    del table[key[-1]]
    found = problems(file, replaced(tables, key[:-1], table) if key[:-1] else table)
    name = "link.profile" if key == ("link", "profile") else dotted(key)
    assert [line for line in found if line.startswith(f"{name}: expected ") and line.endswith(", got nothing")]


def test_a_link_with_orbits_names_all_that_it_lacks(file: Path) -> None:
    found = problems(file, {"seed": -1, "link": {"profile": "starlink"}})
    for name in ("terminal", "constellation", "gateways", "pop"):
        assert any(line.startswith(f"{name}: expected a") and "'starlink' needs" in line for line in found)
    assert any(line.startswith("seed: ") for line in found)


def test_a_key_of_another_profile_is_told_from_a_misspelt_one(file: Path) -> None:
    tables = {"link": {"profile": "fixed", "slot_phase_s": 12.0}}
    expected = "link.slot_phase_s: unknown key: it belongs to link.profile 'starlink', not to 'fixed'"
    assert problems(file, tables) == [expected]


@pytest.mark.parametrize(
    ("link", "got"),
    [({"profile": "foxed"}, "'foxed'"), ({"profile": 5}, "5"), ({"profile": []}, "an empty array"), ({}, "nothing")],
)
def test_the_profile_is_one_of_those_that_there_are(file: Path, link: Tables, got: str) -> None:
    assert problems(file, {"link": link}) == [f"link.profile: expected one of {str(PROFILES)[1:-1]}, got {got}"]


def test_the_source_is_not_for_the_file_to_say(file: Path) -> None:
    found = problems(file, {"source": "/etc/passwd", "link": {"profile": "fixed"}})
    assert len(found) == 1
    assert found[0].startswith("source: unknown key")


def test_a_rule_between_keys_speaks_for_itself(file: Path) -> None:
    tables: Tables = {"link": {"profile": "fixed"}, "constellation": {}}
    assert problems(file, tables) == ["constellation: expected elements or shells, got neither"]


def test_a_change_says_how_much_and_fits_into_the_time_there_is(file: Path) -> None:
    begin: Tables = {"at_s": 1.0, "duration_s": 1.0}
    tables: Tables = {
        "link": {"profile": "fixed"},
        "overlay": [{"kind": "fade", **begin}, {"kind": "outage", "at_s": 1e300, "duration_s": 1e18}],
    }
    assert problems(file, tables) == [
        "overlay[0]: kind 'fade' needs fade_db: expected a number above 0, got 0",
        "overlay[1].at_s: expected a number from 0 to 3200000000, got 1e+300",
        "overlay[1].duration_s: expected a number above 0 and of at most 3200000000, got 1e+18",
    ]
    tables["overlay"] = [{"kind": "hold", **begin}] * 257
    assert problems(file, tables) == ["overlay: expected an array of at most 256, got an array of 257"]


@pytest.mark.parametrize("kind", get_args(OverlayEvent.model_fields["kind"].annotation))
def test_a_script_can_do_what_an_overlay_can(file: Path, kind: str) -> None:
    amount = {AMOUNTS[kind]: 0.5} if kind in AMOUNTS else {}
    event = {"duration_s": 2.0, "direction": "uplink", **amount}
    tables: Tables = {
        "link": {"profile": "fixed"},
        "overlay": [{"kind": kind, "at_s": 0.0, **event}],
        "script": [{"action": kind, "at": "3s", **event}],
    }
    scenario = load(file, tables)
    assert events_of(scenario.script[0]) == list(scenario.overlay)


@pytest.mark.parametrize("kind", ["outage", "hold", "fade", "extra_delay", "loss", "jitter"])
@pytest.mark.parametrize("amount", sorted(AMOUNTS.values()))
def test_a_change_takes_no_amount_of_another_kind(file: Path, kind: str, amount: str) -> None:
    event: Tables = {"kind": kind, "at_s": 1.0, "duration_s": 1.0, amount: 0.5}
    tables: Tables = {"link": {"profile": "fixed"}, "overlay": [event]}
    if AMOUNTS.get(kind) == amount:
        assert load(file, tables).overlay[0].kind == kind
    else:
        (of_amount,) = (one for one, key in AMOUNTS.items() if key == amount)
        assert problems(file, tables) == [
            f"overlay[0]: {amount}: expected with kind {of_amount!r} only, got 0.5 with {kind!r}"
        ]


def test_two_classes_of_a_direction_have_two_names(file: Path) -> None:
    one, other = {"name": "voice", "direction": "uplink"}, {"name": "voice", "direction": "downlink"}
    tables: Tables = {"link": {"profile": "fixed"}, "classes": [one, other]}
    assert len(load(file, tables).classes) == 2
    for both in ([one, one], [one, {"name": "voice"}]):
        told = "classes: expected a name of its own for each class of a direction, got 'voice' twice"
        assert problems(file, {**tables, "classes": both}) == [told]
    told = "classes: expected other names than 'other', which is all that no class takes"
    assert problems(file, {**tables, "classes": [{"name": "other"}]}) == [told]


def test_ports_are_of_protocols_that_have_any(file: Path) -> None:
    def tables(*protocols: str) -> Tables:
        return {"link": {"profile": "fixed"}, "classes": [{"name": "x", "protocols": [*protocols], "ports": ["53"]}]}

    assert load(file, tables("icmp", "udp")).classes[0].ports == ("53",)
    told = "classes[0]: ports: expected with a protocol that has any (tcp, udp, sctp), got 'icmp'"
    assert problems(file, tables("icmp", "esp")) == [told]


def test_a_pattern_is_told_in_words(file: Path) -> None:
    def patterns(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                yield expectation(node)
            node = list(node.values())
        for below in node if isinstance(node, list) else []:
            yield from patterns(below)

    told = set(patterns(Scenario.model_json_schema()))
    assert len(told) > 5
    assert not {words for words in told if "matches" in words or "^" in words}
    tables: Tables = {"link": {"profile": "fixed"}, "classes": [{"name": "x", "ports": [5060]}]}
    assert problems(file, tables) == [
        "classes[0].ports[0]: expected a port or a range of ports in quotes, such as '5060' or '10000-20000', got 5060"
    ]


def test_a_date_is_no_value_for_any_key(file: Path) -> None:
    file.write_text('name = 2025-05-29\nlink = {profile = "fixed", delay_ms = 23:21:27}')
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    assert caught.value.problems == (
        f"{file}: name: expected text, got 2025-05-29",
        f"{file}: link.delay_ms: expected a number from 0 to 60000, got 23:21:27",
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"seed = 1\na = = 2\n", "line 2, column 5: "),
        (b"[link]\nprofile = 'fixed'\n[link]\n", "line 3, column 6: "),
        (b"# fine\nname = '\xff'\n", "line 2: expected UTF-8, got the byte 0xff"),
        (b"a = [", "end of document"),
        (b"a = " + b"[" * 100_000, "nested beyond all reason"),
        (b".".join([b"a"] * 5_000) + b" = 1", "nested beyond all reason"),
        (b"seed = " + b"9" * 10_000, ""),
        (b"#" * (5 << 20), "at most"),
    ],
)  # fmt: skip
def test_what_is_no_toml_is_told_with_its_place(file: Path, content: bytes, expected: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    (line,) = caught.value.problems
    assert line.startswith(f"{file}: ")
    assert expected in line
    assert len(line) < 300


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_whatever_a_file_holds_it_is_a_scenario_or_a_typed_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    assert all(line.startswith(f"{file}: ") and "\n" not in line for line in caught.value.problems)


@given(scenarios(), DATA)
def test_whatever_stands_at_a_key_there_is_no_other_error(file: Path, tables: Tables, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([*scalars_in(tables), *filter(None, tables_in(tables))]))
    with contextlib.suppress(ScenarioError):
        load(file, replaced(tables, key, data.draw(ANYTHING)))


@pytest.mark.parametrize("name", ["starlink_205", "/nonexistent/fixd.toml"])
def test_a_missing_file_is_named_and_the_nearest_embedded_one_offered(name: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name)
    (line,) = caught.value.problems
    assert line.startswith(f"{name}: expected a scenario file or the name of an embedded one")
    assert any(embedded in line for embedded in embedded_scenarios())


def test_a_folder_is_no_scenario(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="expected a readable TOML file"):
        load_scenario(tmp_path)


@pytest.mark.parametrize("name", embedded_scenarios())
def test_an_embedded_scenario_loads_by_its_name_as_by_its_path(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario == load_scenario(embedded_scenarios()[name])


def test_elements_count_from_the_file_and_in_an_override_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "work").mkdir()
    file = Path("../configs/lab.toml")
    monkeypatch.chdir(tmp_path / "work")
    tables: Tables = {"link": {"profile": "fixed"}, "constellation": {"elements": "sky.tle"}}

    def elements(*overrides: str) -> str:
        constellation = load(file, tables, *overrides).constellation
        assert constellation is not None
        return os.path.normpath(constellation.elements)

    assert elements() == str(tmp_path / "configs" / "sky.tle")
    assert elements("constellation.max_age_days=3") == str(tmp_path / "configs" / "sky.tle")
    assert elements("constellation.elements=sky.tle") == str(tmp_path / "work" / "sky.tle")
    assert elements("constellation={elements='sky.tle'}") == str(tmp_path / "work" / "sky.tle")
    assert elements("constellation.elements=/sky.tle") == "/sky.tle"
    assert elements("constellation.elements=~/sky.tle") == str(Path.home() / "sky.tle")


@given(scenarios())
def test_the_exported_schema_accepts_what_the_loader_accepts(file: Path, tables: Tables) -> None:
    load(file, tables)
    SCHEMA.validate(tables)


@given(scenarios(), DATA)
def test_the_exported_schema_refuses_what_the_loader_refuses(file: Path, tables: Tables, data: st.DataObject) -> None:
    unknown = replaced(tables, (*data.draw(st.sampled_from(tables_in(tables))), UNKNOWN), 1)
    wrong = replaced(tables, data.draw(st.sampled_from(scalars_in(tables))), [[]])
    without_profile = replaced(tables, ("link",), {**tables["link"], "profile": "none"})
    for faulty in (unknown, wrong, without_profile, {**tables, "source": "x"}):
        problems(file, faulty)
        assert not SCHEMA.is_valid(faulty)


@pytest.mark.parametrize("key", ["ports.ipv4_network", "access.public_network", "access.terminal_network"])
@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_addresses_that_no_host_can_have_are_refused(key: str, address: ipaddress.IPv4Address, bits: int) -> None:
    """Loopback, multicast, "this network", what is reserved; parts of them, and what they are a part of."""
    network = ipaddress.IPv4Network((int(address), bits), strict=False)
    first, last = network[0].packed[0], network[-1].packed[0]
    useless = first == 0 or last >= 224 or first <= 127 <= last
    with contextlib.ExitStack() as stack:
        if useless:
            stack.enter_context(pytest.raises(ScenarioError, match=f"{key}.*: expected a unicast IPv4 network"))
        elif bits > 28:
            return  # another fault
        load_scenario("fixed", [f"{key}={network}"])


LETTERS = st.characters(categories=["L", "N"])


@given(st.text(LETTERS, min_size=1, max_size=20), st.text(LETTERS, max_size=10))
def test_a_scenario_is_called_what_it_says_or_as_its_file(
    tmp_path_factory: pytest.TempPathFactory, stem: str, name: str
) -> None:
    path = tmp_path_factory.mktemp("named") / f"{stem}.toml"
    path.write_text(f'name = "{name}"\n[link]\nprofile = "fixed"\n', encoding="utf-8")
    assert load_scenario(path).name == (name or stem)
    path.write_text('[link]\nprofile = "fixed"\n', encoding="utf-8")
    assert load_scenario(path).name == stem
    assert load_scenario(path, [f'name="{name}"']).name == (name or stem)
