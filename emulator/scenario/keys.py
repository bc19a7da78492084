"""What keys a scenario has and what each of them takes, in words; read from the model's own JSON Schema."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from emulator.scenario.model import CARD, Scenario
from emulator.scenario.script import AT, COUNTER

Key = tuple[str | int, ...]
Node = dict[str, Any]  # one node of a JSON Schema

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NOUNS = {"string": "text", "boolean": "true or false", "object": "a table", "array": "an array", "null": "nothing"}
_LONGEST_SHOWN = 60
_NAME = "a name of 1 to {} letters, digits and the signs _ . -"
_TEXTS = {  # by pattern; hil_tests/unit/scenario/test_load.py sees to it that each of the model's is here
    r"^\d{1,5}(-\d{1,5})?$": "a port or a range of ports in quotes, such as '5060' or '10000-20000'",
    r"^[0-9a-fA-F.:]+(/\d{1,3})?$": "an IPv4 or IPv6 network in quotes, such as '10.0.0.0/8' or '2001:db8::/32'",
    r"^(\d{1,3}(\.\d{1,3}){3})?$": "an IPv4 address in quotes, such as '192.0.2.7', or ''",
    r"^[0-9a-fA-F:]*$": "an IPv6 address in quotes, such as '2001:db8::7', or ''",
    CARD: "an interface's name of at most 15 characters, without spaces, / and :",
    r"^[A-Za-z0-9_.-]{1,15}$": _NAME.format(15),
    r"^[A-Za-z0-9_.-]{0,15}$": _NAME.format(15) + ", or ''",
    r"^[A-Za-z0-9_.-]{1,32}$": _NAME.format(32),
    r"^[\w.]+:\w+$": "a function as package.module:function",
    AT: "seconds after the start with their unit, such as '30s', or 'next-slot', 'next-handover', 'next-outage' or "
    "'next-contact'",
    COUNTER: "a direction and one of its counters, such as 'downlink.delivered_packets' or 'uplink.dropped.queue'",
}


def dotted(key: Sequence[str | int]) -> str:
    """("gateways", 0, "name") → `gateways[0].name`, in the notation that `--set` takes."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else json.dumps(part))
    return text


def show(value: object) -> str:
    """A value as an error shows it: short, on one line, in TOML's words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"an array of {len(value)}" if value else "an empty array"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def expectation(node: Node) -> str:
    """What a node of the schema takes: `a number from -90 to 90`, `'delta' or 'star'`, `a table`."""
    if "const" in node:
        return repr(node["const"])
    if "enum" in node:
        choices = [repr(choice) for choice in node["enum"]]
        return " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    kind = node.get("type", "")
    if kind in {"number", "integer"}:
        return ("a number" if kind == "number" else "a whole number") + _bounds(node)
    if node.get("format", "").endswith("network"):
        version = node["format"][:4].replace("ipv", "IPv")
        return f"a unicast {version} network without host bits, such as {node['default']}"
    if node.get("format") == "ipvanyaddress":
        return "an IPv4 or IPv6 address"
    if "pattern" in node:
        return _TEXTS.get(node["pattern"], f"text that matches {node['pattern']}")
    if node.get("minLength"):
        return "text that is not empty"
    if kind == "array" and "maxItems" in node:
        return f"an array of at most {node['maxItems']}"
    return _NOUNS.get(kind, "something else")


def _bounds(node: Node) -> str:
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if node["type"] == "integer":
        low, above = (low if above is None else above + 1), None
        high, below = (high if below is None else below - 1), None
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    words = {"of at least": low, "above": above, "of at most": high, "below": below}
    limits = [f"{word} {_number(limit)}" for word, limit in words.items() if limit is not None]
    return f" {' and '.join(limits)}" if limits else ""


def _number(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else repr(limit)


@functools.cache
def _schema_of_files() -> Node:
    schema = Scenario.model_json_schema()
    del schema["properties"]["source"]  # for the loader alone to fill
    return schema


class Keys:
    """The tree of known keys of one scenario: the link's are those of its profile.

    A key's path has no trace of pydantic's way of telling one profile from another.
    """

    def __init__(self, profile: str | None) -> None:
        self._profile = profile or ""

    @property
    def _schema(self) -> Node:
        return _schema_of_files()  # made when there is a fault to tell of: it takes longer than reading a scenario

    def knows_profile(self) -> bool:
        """Is the profile, which the link's keys depend on, one of those that there are?"""
        return self._profile in self._schema["properties"]["link"]["discriminator"]["mapping"]

    def without_tags(self, location: Sequence[str | int]) -> Key:
        """Location by pydantic → key: pydantic puts the chosen profile between `link` and the key below it."""
        key: list[str | int] = []
        for part in location:
            if part not in self.node(key).get("discriminator", {}).get("mapping", {}):
                key.append(part)
        return tuple(key)

    def node(self, key: Sequence[str | int]) -> Node:
        """What the schema says of a key; an empty node if it has no such key."""
        node = self._schema
        for part in key:
            below = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
            node = self._plain(below)
        return node

    def profiles(self) -> list[str]:
        """The link profiles that there are."""
        return list(self._schema["properties"]["link"]["discriminator"]["mapping"])

    def leaves(self) -> list[str]:
        """Every key that is no table, dotted, with [0] in arrays of tables; the link's are those of the profile."""
        paths = list(self._walk(self._schema, ""))
        tables = {path.rpartition(".")[0].removesuffix("[0]") for path in paths}
        return [path for path in paths if path not in tables]

    def discriminator(self, key: Key) -> str:
        """The key that tells the kinds of the table at `key` apart."""
        return str(self.node(key)["discriminator"]["propertyName"])

    def unknown(self, key: Key) -> str:
        """What to say of an unknown key: the nearest known one, in its own table first, then anywhere."""
        *table, last = key
        name = str(last)
        node = self.node(table)
        for profile, reference in node.get("discriminator", {}).get("mapping", {}).items():
            if name in self._resolve(reference)["properties"]:
                return f"unknown key: it belongs to {dotted(table)}.profile {profile!r}, not to {self._profile!r}"
        siblings = {name: dotted([*table, name]) for name in node.get("properties", {})}
        anywhere = {path.rpartition(".")[2]: path for path in reversed(list(self._walk(self._schema, "")))}
        for known, cutoff in ((siblings, 0.6), (anywhere, 0.7), (siblings, 0.45)):
            if close := difflib.get_close_matches(name, known, n=1, cutoff=cutoff):
                return f"unknown key: did you mean {known[close[0]]}?"
        return f"unknown key: expected one of {', '.join(siblings)}"

    def _plain(self, node: Node) -> Node:
        """The node itself: references followed, the profile chosen, `or null` taken off (TOML has no null)."""
        options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
        if len(options) == 1:
            return self._plain({**node, **options[0], "anyOf": []})
        if "$ref" in node:
            return {**node, **self._resolve(node["$ref"])}
        if "discriminator" in node:
            return {**node, "type": "object", **self._variant(node["discriminator"])}
        return node

    def _variant(self, discriminator: Node) -> Node:
        """The chosen table of a union; without a valid choice, a table with no key but the one that chooses."""
        mapping: dict[str, str] = discriminator["mapping"]
        if self._profile in mapping:
            return self._resolve(mapping[self._profile])
        return {"properties": {discriminator["propertyName"]: {"enum": list(mapping)}}}

    def _resolve(self, reference: str) -> Node:
        found: Node = self._schema["$defs"][reference.rpartition("/")[2]]
        return found

    def _walk(self, node: Node, path: str) -> Iterator[str]:
        for name in node.get("properties", {}):
            below = f"{path}.{name}" if path else name
            yield below
            child = self._plain(node["properties"][name])
            if child.get("type") == "array":
                child, below = self._plain(child.get("items", {})), f"{below}[0]"
            yield from self._walk(child, below)
