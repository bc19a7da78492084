"""Mahimahi's packet-delivery traces: milliseconds, a line for each opportunity, rising; the last is the period."""

from __future__ import annotations

from pathlib import Path

from emulator.errors import ScenarioError
from emulator.scenario.files import read_bounded
from emulator.units import NS_PER_MS

LARGEST_FILE_BYTES = 64 << 20
LONGEST_MS = 10**9  # 11 days, and products with it stay far below 2⁶³ ns


def read_opportunities(path: Path) -> tuple[int, ...]:
    """The instants of a trace in ns. Raises ScenarioError that names the file, the line and what was expected."""
    content = read_bounded(path, LARGEST_FILE_BYTES, what="trace")
    instants: list[int] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text:
            continue
        if not text.isdigit() or int(text) > LONGEST_MS:
            shown = text[:40].decode(errors="replace")
            raise ScenarioError([f"{path}: line {number}: expected whole milliseconds, got {shown!r}"])
        if instants and int(text) * NS_PER_MS < instants[-1]:
            raise ScenarioError([f"{path}: line {number}: expected no less than the line before, got {int(text)}"])
        instants.append(int(text) * NS_PER_MS)
    if not instants or instants[-1] == 0:
        raise ScenarioError([f"{path}: expected at least one delivery opportunity after 0 ms"])
    return tuple(instants)
