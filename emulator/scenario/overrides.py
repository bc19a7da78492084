"""`--set KEY=VALUE`: the one way to change a key of any scenario from the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emulator.scenario.keys import Key, dotted, show

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+|\[[0-9]+\])*")
_PART = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Override:
    """One `KEY=VALUE` that was applied. `created` is the shortest part of its key that it brought into being."""

    text: str
    key: Key
    created: Key


def apply_overrides(raw: dict[str, Any], texts: Sequence[str]) -> tuple[list[Override], list[str]]:
    """Write each `KEY=VALUE` into `raw`, in order. Returns what was applied, and a line for each that could not be."""
    applied: list[Override] = []
    problems: list[str] = []
    for text in texts:
        try:
            applied.append(_apply(raw, text))
        except ValueError as error:
            problems.append(f"--set {text}: {error}")
    return applied, problems


def parse_key(text: str) -> Key:
    """`gateways[0].name` or `gateways.0.name` → ("gateways", 0, "name"). Raises ValueError."""
    if not _KEY.fullmatch(text):
        raise ValueError(f"expected a dotted key such as link.delay_ms or gateways[0].name, got {text!r}")
    first, *rest = _PART.findall(text)
    return (first, *(int(part) if part.isdecimal() else part for part in rest))


def parse_value(text: str) -> Any:
    """TOML if it is one whole TOML value, else the text itself."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # tomllib's own error, or an integer of thousands of digits
        return text
    return table["value"] if len(table) == 1 else text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that were none, smuggled in as surrogates
        return False
    return True


def _apply(raw: dict[str, Any], text: str) -> Override:
    if not _is_utf8(text):
        raise ValueError("expected UTF-8")
    key_text, equals, value_text = text.partition("=")
    if not equals:
        raise ValueError("expected KEY=VALUE, got no '='")
    key = parse_key(key_text.strip())
    here: Any = raw
    created = key
    for depth, part in enumerate(key):
        last = depth == len(key) - 1
        at = key[:depth]
        if isinstance(here, dict):
            if isinstance(part, int):
                raise ValueError(f"expected a key of the table {dotted(at)}, got the index {part}")
            absent = part not in here
        elif isinstance(here, list):
            if not isinstance(part, int) or part > len(here):
                raise ValueError(f"expected an index of {dotted(at)} from 0 to {len(here)}, got {part}")
            absent = part == len(here)  # one past the end adds an entry
            if absent:
                here.append(None)
        else:
            raise ValueError(f"expected {dotted(at)} to be a table or an array, got {show(here)}")
        if absent and len(created) > depth + 1:
            created = key[: depth + 1]
        if last:
            here[part] = parse_value(value_text.strip())
        elif absent:
            here[part] = [] if isinstance(key[depth + 1], int) else {}
        if not last:
            here = here[part]
    return Override(text, key, created)
