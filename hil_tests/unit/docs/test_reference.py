"""Pages that say what the code says: commands, scenario keys, exit statuses, embedded scenarios."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import emulator.errors
from emulator.cli.main import COMMANDS
from emulator.scenario.keys import expectation
from emulator.scenario.schema import scenario_schema
from hil_tests.unit.docs.pages import CHECKOUT
from tools.reference_pages import DOCS, EXAMPLES, PAGES, REMEDY, WRONG_COMMAND_LINE
from tools.scenario_page import plain, unit_of

REFERENCE = DOCS / "reference"
WITHOUT_UNIT = {  # of the scenario's numbers: shares, ratios, counts, quantiles of what the key above names
    "above", "elevation_deg_above", "elevation_deg_below",  # of a counter; the unit stands in the middle
    "bit_error_rate", "corrupt", "correlation", "duplicate", "queue_bdp", "share", "spread",
    "fibre_detour", "loss", "loss_factor", "max_eccentricity", "p0", "p5", "p50", "p75", "p90", "p95", "p100",
    "per_hour", "rate_wobble", "scan_exponent", "least", "busy_hour", "most_share",
    "wet_uplink_rate", "wet_downlink_rate", "wet_loss",
}  # fmt: skip


def keys() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(table, key, node) for every key of a scenario."""
    schema = scenario_schema()
    for title, node in (("Scenario", schema), *schema["$defs"].items()):
        for name, child in node["properties"].items():
            yield title, name, child


NEEDS_BENCH = {"InterfaceError"}  # found out when the bench comes up, and not before


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_would_write(name: str) -> None:
    there = (DOCS / name).read_text(encoding="utf-8")
    assert there == PAGES[name](), f"docs/{name} is out of date: run {REMEDY}"


def test_every_command_has_its_section() -> None:
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    assert all(f"\n## bentpipe {name}\n" in text for name in COMMANDS)


def test_every_key_says_what_it_is() -> None:
    assert [f"{title}.{name}" for title, name, node in keys() if not node.get("description")] == []


def test_every_key_says_what_it_takes() -> None:
    values = [key for key in keys() if plain(key[2]).get("type", "array") not in {"array", "object"}]
    assert len(values) > 80
    assert [f"{title}.{name}" for title, name, node in values if expectation(plain(node)) == "something else"] == []


def test_every_number_has_its_unit_in_its_name() -> None:
    numbers = [key for key in keys() if plain(key[2]).get("type") == "number"]
    without = [f"{title}.{name}" for title, name, _ in numbers if not unit_of(name) and name not in WITHOUT_UNIT]
    assert without == []


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs("netns", "tun") if name in NEEDS_BENCH else ()) for name in EXAMPLES],
)
def test_the_example_of_an_error_ends_with_its_status_and_one_line(name: str, tmp_path: Path) -> None:
    done = bentpipe(EXAMPLES[name], tmp_path)
    assert done.returncode == getattr(emulator.errors, name).exit_status, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("bentpipe: ")
    assert len(lines) == 1 or name in NEEDS_BENCH  # a bench has said before that it compiles, or is isolated


def test_the_example_of_a_wrong_command_line_ends_with_2(tmp_path: Path) -> None:
    assert bentpipe(WRONG_COMMAND_LINE, tmp_path).returncode == 2


def bentpipe(line: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli.main", *shlex.split(line)[1:]],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "BENTPIPE_RUNTIME_DIR": str(runtime)},
        stdin=subprocess.DEVNULL,
        check=False,
    )
