"""TOML file → Scenario, with every fault of the file in one go.

Read it in the order of `load_scenario`: find the file, parse it, apply the `--set` overrides, validate, and turn what
pydantic found into lines that a person can act on: `file: key: expected …, got …`.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from emulator.errors import ScenarioError
from emulator.scenario.files import read_bounded
from emulator.scenario.keys import Key, Keys, dotted, expectation, show
from emulator.scenario.model import Scenario, missing_for_a_sky
from emulator.scenario.overrides import Override, apply_overrides

LARGEST_FILE_BYTES = 4 << 20  # a scenario is a page; this keeps /dev/zero and a wrong path from filling the memory

PATHS = (  # keys that name other files
    ("constellation", "elements"),
    ("terminal", "track"),
    ("link", "file"),
    ("link", "uplink", "file"),
    ("link", "downlink", "file"),
    ("link", "opportunities", "file"),
    ("link", "uplink", "opportunities", "file"),
    ("link", "downlink", "opportunities", "file"),
)

Model = TypeVar("Model", bound=BaseModel)

_TOO_DEEP = "expected a scenario, got tables nested beyond all reason"


def config_directory() -> Path:
    """Where the embedded scenarios are: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def embedded_scenarios() -> dict[str, Path]:
    """Name → file of every scenario that comes with Bentpipe, sorted by name."""
    return {path.stem: path for path in sorted(config_directory().glob("*.toml"))}


def load_scenario(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The validated scenario of a TOML file, or of an embedded one by its bare name (`starlink_2025`).

    `overrides` are `KEY=VALUE`, in order, where KEY is dotted (`link.delay_ms`, `gateways.0.name`, `gateways[0].name`)
    and VALUE is TOML, or else a plain string. A relative path (`constellation.elements`, `terminal.track`, `link.file`)
    counts from the scenario's folder, from the working directory if an override said it.

    Raises ScenarioError that holds every fault: syntax with its line and column; or every unknown key, missing key,
    wrong type and impossible value of file and overrides, one line each.
    """
    path, shown = _find(name_or_path)
    raw = _parse(path, shown)
    applied, problems = apply_overrides(raw, overrides)
    scenario, faults = _validate(raw, _Origins(shown, applied))
    if scenario is None or faults or problems:
        raise ScenarioError([*problems, *faults])
    return _anchored(scenario, path, applied)


def _find(name_or_path: str | Path) -> tuple[Path, str]:
    """The file, and the name that error messages give it."""
    text = os.fspath(name_or_path)
    embedded = embedded_scenarios()
    if text in embedded:
        return embedded[text], embedded[text].name
    path = Path(text)
    if path.exists():
        return path, text
    close = difflib.get_close_matches(path.stem, embedded, n=1, cutoff=0.6)
    hint = f"did you mean the embedded scenario {close[0]}?" if close else f"embedded are: {', '.join(embedded)}"
    raise ScenarioError([f"{text}: expected a scenario file or the name of an embedded one, got neither; {hint}"])


def _parse(path: Path, shown: str) -> dict[str, Any]:
    content = read_bounded(path, LARGEST_FILE_BYTES, what="TOML file", shown=shown)
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ScenarioError(
            [f"{shown}: line {line}: expected UTF-8, got the byte 0x{content[error.start]:02x}"]
        ) from error
    except ValueError as error:  # tomllib's own, or an integer of thousands of digits
        raise ScenarioError([f"{shown}: {_syntax(str(error))}"]) from error
    except RecursionError as error:
        raise ScenarioError([f"{shown}: {_TOO_DEEP}"]) from error


def _syntax(message: str) -> str:
    """`Expected '=' after a key (at line 3, column 5)` → `line 3, column 5: expected '=' after a key`."""
    what, _, where = message.rpartition(" (at ")
    if not what:
        return message
    return f"{where.rstrip(')')}: {what[:1].lower()}{what[1:]}"


class _Origins:
    """Where a key was said: in the file, or in the last `--set` that wrote it or brought its table into being."""

    def __init__(self, file: str, overrides: Sequence[Override]) -> None:
        self._file = file
        self._overrides = overrides

    def line(self, key: Key, text: str) -> str:
        """One line of an error: where the key was said, the key, what is wrong with it."""
        for override in reversed(self._overrides):
            if key[: len(override.created)] == override.created:
                named = "" if key == override.key else f"{dotted(key)}: "
                return f"--set {override.text}: {named}{text}"
        return ": ".join(part for part in (self._file, dotted(key) if key else "", text) if part)


def _validate(raw: dict[str, Any], origins: _Origins) -> tuple[Scenario | None, list[str]]:
    link = raw.get("link")
    profile = link.get("profile") if isinstance(link, dict) else None
    profile = profile if isinstance(profile, str) else None
    keys = Keys(profile)
    faults = []
    if "source" in raw:  # a field of the model, for the loader alone to fill
        faults.append(origins.line(("source",), keys.unknown(("source",))))
        raw = {key: value for key, value in raw.items() if key != "source"}
    missing = missing_for_a_sky(profile, raw)
    for name in missing if missing and keys.knows_profile() else ():
        what = f"expected {expectation(keys.node((name,)))}, which link.profile {profile!r} needs"
        faults.append(origins.line((name,), f"{what}, got {_said(raw, (name,))[1]}"))
    try:
        # JSON, for it has a strict mode in which arrays may be tuples and text may be an address, but no other
        # conversion is made: neither true nor "5" is a number. What TOML has beyond JSON is a date, which no key takes.
        text = json.dumps(raw, default=lambda date: [str(date)])
        return Scenario.model_validate_json(text, strict=True), faults
    except RecursionError:
        return None, [origins.line((), _TOO_DEEP)]
    except ValidationError as error:
        details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        return None, [origins.line((), _TOO_DEEP)]
    # A fault of the whole (an empty location) is what stands above already, key by key.
    # An array that is too short only for the elements that are at fault has no fault of its own.
    below = {fault["loc"][:depth] for fault in details for depth in range(len(fault["loc"]))}
    faults += [
        _line_of(fault, raw, keys, origins)
        for fault in details
        if fault["loc"] and not (fault["type"] == "too_short" and fault["loc"] in below)
    ]
    return None, faults


def faults_of(table: str, number: int, values: Mapping[str, Any], error: ValidationError) -> list[str]:
    """What is wrong with one table of an array that Python gave, as a file's: `script[0].at: expected …`."""
    raw, keys, origins = {table: [*[{}] * number, values]}, Keys(None), _Origins("", ())
    return [
        _line_of({**fault, "loc": (table, number, *fault["loc"])}, raw, keys, origins)
        for fault in error.errors(include_url=False)
    ]


def _line_of(details: ErrorDetails, raw: Mapping[str, Any], keys: Keys, origins: _Origins) -> str:
    key = keys.without_tags(details["loc"])
    kind = details["type"]
    if kind == "extra_forbidden":
        return origins.line(key, keys.unknown(key))
    if kind == "value_error" and keys.node(key).get("type") in ("object", "array"):  # a rule between keys, in its words
        return origins.line(key, str(details["ctx"]["error"]))
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        key = (*key, keys.discriminator(key))
    key, value = _said(raw, key)
    return origins.line(key, f"expected {expectation(keys.node(key))}, got {value}")


def _said(raw: Mapping[str, Any], key: Key) -> tuple[Key, str]:
    """The key as far as the file has it in arrays and tables, and what stands there, as text."""
    value: Any = raw
    for depth, part in enumerate(key):
        if isinstance(value, Mapping):
            if part not in value:
                return key, "nothing"
            value = value[cast("str", part)]
        elif isinstance(value, list):
            value = value[cast("int", part)]
        else:
            return key[:depth], show(value)
    return key, show(value)


def _anchored(scenario: Scenario, path: Path, overrides: Sequence[Override]) -> Scenario:
    """The scenario with its source, its file's name if it has none, and its paths to other files made absolute."""
    scenario = scenario.model_copy(update={"source": path.absolute(), "name": scenario.name or path.stem})
    for key in PATHS:
        overridden = any(override.key == key[: len(override.key)] for override in overrides)
        scenario = _with_path(scenario, key, Path.cwd() if overridden else path.absolute().parent)
    return scenario


def _with_path(table: Model, key: tuple[str, ...], base: Path) -> Model:
    """The table with the path at `key` below it made absolute, if it has one there."""
    name, *below = key
    value = getattr(table, name, None)
    if not value:
        return table
    changed = _with_path(value, tuple(below), base) if below else str(base / Path(value).expanduser())
    return table.model_copy(update={name: changed})
