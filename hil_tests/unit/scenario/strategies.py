"""Scenarios for hypothesis, drawn from the model's own schema: whatever key the model gains, the laws then cover."""

from __future__ import annotations

import copy
import functools
import json
import string
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from emulator.scenario.keys import Key, Keys, Node
from emulator.scenario.model import Scenario
from emulator.scenario.script import AMOUNTS

PROFILES = tuple(sorted(Scenario.model_json_schema()["properties"]["link"]["discriminator"]["mapping"]))
SKY = ("terminal", "constellation", "gateways", "pop")
Tables = dict[str, Any]

_NAME = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=15)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def to_toml(tables: Tables) -> str:
    """Tables of plain values as a TOML document; what is below the top level is written inline."""
    return "".join(f"{_text(key)} = {inline(value)}\n" for key, value in tables.items())


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {inline(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@st.composite
def scenarios(draw: st.DrawFn, profile: str | None = None) -> Tables:
    """The tables of a valid scenario, as a file has them."""
    chosen = profile or draw(st.sampled_from(PROFILES))
    tables: Tables = draw(_values(chosen, ()))
    if chosen != "fixed":
        tables |= {name: draw(_values(chosen, (name,))) for name in SKY if not tables.get(name)}
    return tables


@functools.cache
def _values(profile: str, key: Key) -> st.SearchStrategy[Any]:
    """What may stand at a key of a scenario with this link profile."""
    node = Keys(profile).node(key)
    kind = node.get("type")
    if "const" in node or "enum" in node:
        return st.just(profile) if key == ("link", "profile") else st.sampled_from(node["enum"])
    if node.get("title") == "Quantiles":
        rising = st.lists(st.floats(0, 1e6), min_size=5, max_size=5).map(sorted)
        return rising.map(lambda values: dict(zip(("p0", "p5", "p50", "p95", "p100"), values, strict=True)))
    if kind == "object":
        return _tables(profile, key)
    if kind == "array":
        own_name = (lambda table: table["name"]) if key == ("classes",) else None
        return st.lists(_values(profile, (*key, 0)), min_size=1, max_size=2, unique_by=own_name)
    if kind == "boolean":
        return st.booleans()
    if kind in {"integer", "number"}:
        return _numbers(node)
    if node.get("format") == "ipvanyaddress":
        return st.sampled_from(["239.1.2.3", "232.0.0.1", "ff08::1"])
    if "format" in node:
        return st.sampled_from([node["default"], "10.0.0.0/8" if node["format"] == "ipv4network" else "fd00::/16"])
    if r"\." in node.get("pattern", "") and r"\d" in node["pattern"]:
        return st.ip_addresses(v=4).map(str)
    if node.get("pattern", "").startswith("^[0-9a-fA-F:]"):
        return st.ip_addresses(v=6).map(str)
    if r":\w" in node.get("pattern", ""):
        return st.just("my_pkg.my_module:my_stage")
    if r"\d" in node.get("pattern", ""):
        return st.integers(0, 65_535).map(str)
    return _NAME if {"pattern", "minLength"} & set(node) else _TEXT


def _tables(profile: str, key: Key) -> st.SearchStrategy[Tables]:
    node = Keys(profile).node(key)
    always = ("name", "link") if key == () else ("profile",) if key == ("link",) else ()
    required = {*node.get("required", ()), *always}
    values = {name: _values(profile, (*key, name)) for name in node["properties"]}
    tables = st.fixed_dictionaries(
        {name: value for name, value in values.items() if name in required},
        optional={name: value for name, value in values.items() if name not in required},
    )
    if node.get("title") == "OverlayEvent":
        return tables.map(lambda event: {**_without(event, *AMOUNTS.values()), **_amount(event["kind"])})
    if node.get("title") == "Terminal":
        return tables.map(lambda site: {**site, "track": "/sky/track.csv", "track_starts_utc": "2025-05-29T23:21:27Z"})
    if "opportunities" in node["properties"]:
        tables = tables.map(_apart)
    if node.get("title") == "Step":
        return tables.map(_fitting)
    if node.get("title") == "TraceLink":
        return tables.map(lambda link: {**link, "file": "/traces/x.csv", "starts_utc": "2025-05-29T23:21:27Z"})
    if node.get("title") == "TraceDirection":
        return tables.map(lambda own: {**own, "file": "/traces/x.up"})
    if node.get("title") in _CONSISTENT:
        return tables.map(_CONSISTENT[node["title"]])
    return tables.map(_with_satellites) if key == ("constellation",) else tables


def _apart(table: Tables) -> Tables:
    """Without the second of two keys that exclude each other."""
    excluded = [second for first, second in (("opportunities", "shaper"), ("bursts", "markov")) if first in table]
    return _without(table, *excluded)


def _amount(kind: str) -> Tables:
    """How much a timed change of this kind is."""
    return {AMOUNTS[kind]: 0.5} if kind in AMOUNTS else {}


def _without(table: Tables, *names: str) -> Tables:
    return {name: value for name, value in table.items() if name not in names}


_CONSISTENT: dict[str, Callable[[Tables], Tables]] = {  # by title: tables whose keys must fit together
    "LossBursts": lambda found: _without(found, "lengths", "lengths_ms", "weights"),
    "MarkovLoss": lambda found: {**found, "loss": [0.0, 1.0], "transitions": [[0.5, 0.5], [0.25, 0.75]]},
    "OpportunityTrace": lambda found: {**found, "file": "/traces/up.ms"},
    "Host": lambda found: _without(found, "namespace"),
    "JitterShape": lambda found: {**_without(found, "samples_ms"), "distribution": "lognormal"},
    "Step": lambda found: {**_without(found, "when"), "at": "30s", "action": "outage"},
    "TrafficClass": lambda found: {
        **found,
        "networks": ["10.0.0.0/8", "fd00::/16"],
        "protocols": ["sctp", *found.get("protocols", ())],
    },
}


def _fitting(step: Tables) -> Tables:
    """A step that has a time, and what any action asks for."""
    told = {"at": "30s", "direction": "uplink", "packet": "IP()", "latitude_deg": 1.0, "longitude_deg": 2.0}
    amounts = {"fade_db": 3.0, "extra_delay_ms": 1.5, "jitter_ms": 2.5, "loss": 0.5}
    return {key: value for key, value in step.items() if key != "when"} | told | amounts


def _with_satellites(constellation: Tables) -> Tables:
    """Elements are an absolute path, as a relative one is changed in loading; without shells there are some."""
    named = bool(constellation.get("elements")) or not constellation.get("shells")
    return {**constellation, "elements": "/sky/elements.tle" if named else ""}


def _numbers(node: Node) -> st.SearchStrategy[Any]:
    bounds: dict[str, float] = {"exclusiveMinimum": -1e9, "exclusiveMaximum": 1e9, **node}
    low = bounds.get("minimum", bounds["exclusiveMinimum"])
    high = bounds.get("maximum", bounds["exclusiveMaximum"])
    open_below, open_above = "exclusiveMinimum" in node, "exclusiveMaximum" in node
    if node["type"] == "integer":
        return st.integers(int(low) + open_below, int(high) - open_above)
    within = st.floats(low, high, exclude_min=open_below, exclude_max=open_above)
    inside = (int(low) + 1, int(high) - 1)  # TOML's integers are numbers too
    return within | st.integers(*inside) if inside[0] <= inside[1] else within


def places(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key of the tables and what stands there, the tables themselves too."""
    yield key, value
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in below:
        yield from places(inner, (*key, part))


def tables_in(tables: Tables) -> list[Key]:
    return [key for key, value in places(tables) if isinstance(value, dict)]


def scalars_in(tables: Tables) -> list[Key]:
    """Keys of the plain values; without the profile, on which it depends what other keys mean."""
    return [key for key, value in places(tables) if not isinstance(value, dict | list) and key != ("link", "profile")]


def replaced(tables: Tables, key: Key, value: Any) -> Tables:
    """A copy with `value` at `key`."""
    changed = copy.deepcopy(tables)
    here: Any = changed
    for part in key[:-1]:
        here = here[part]
    here[key[-1]] = value
    return changed


def at(tables: Tables, key: Key) -> Any:
    here: Any = tables
    for part in key:
        here = here[part]
    return here
