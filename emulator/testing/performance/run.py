"""A whole run: all trials in rounds, so that a value and its baseline are taken within seconds of each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from emulator.bench.fabrics import Fabric
from emulator.errors import BentpipeError
from emulator.testing.performance import machine
from emulator.testing.performance.measures import TRIALS, describe, start_shell, takes_s
from emulator.testing.performance.places import Record, Settings, link
from emulator.testing.performance.rows import Row, rows
from emulator.testing.performance.statistics import Spread, spread

WARM_UP_S = 1.5

Progress = Callable[[float, str], None]
"""Told the seconds that are done and what comes next."""


@dataclass
class Report:
    """What a run found. trials: by key, a record per round; a trial that failed has `error` in it."""

    settings: Settings
    machine: dict[str, Any]
    load_before: dict[str, Any]
    trials: dict[str, list[Record]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    load_after: dict[str, Any] = field(default_factory=dict)
    took_s: float = 0.0

    def rows(self) -> list[Row]:
        return rows(self.trials)

    @property
    def failures(self) -> list[str]:
        """A line per trial that failed."""
        return list(
            dict.fromkeys(
                f"{describe(key)}: {record['error']}"
                for key, records in self.trials.items()
                for record in records
                if "error" in record
            )
        )

    @property
    def others_cpus(self) -> Spread | None:
        """How many CPUs other programs had during each trial."""
        records = [record for records in self.trials.values() for record in records]
        return spread([record["others_cpus"] for record in records if "others_cpus" in record])

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "load_before": self.load_before,
            "load_after": self.load_after,
            "settings": {**asdict(self.settings), "congestion": "cubic"},
            "others_cpus": self.others_cpus.as_json() if self.others_cpus else None,
            "took_s": round(self.took_s, 1),
            "warnings": self.warnings,
            "failures": self.failures,
            "rows": [row.as_json() for row in self.rows()],
            "trials": self.trials,
        }


def expected_s(keys: Sequence[str], settings: Settings) -> float:
    """About how long `measure` will take."""
    return settings.rounds * sum(takes_s(key, settings) for key in keys) + WARM_UP_S * warm_ups(keys)


def warm_ups(keys: Sequence[str]) -> int:
    return len(warmed_up(keys))


def warmed_up(keys: Sequence[str]) -> list[str]:
    places = {key.split("/")[1].removesuffix("-realtime") for key in keys}
    return [place for place in ("bench", "zmq", "shell") if place in places]


def measure(keys: Sequence[str], settings: Settings, told: Progress) -> Report:
    """Runs the trials. One that fails is recorded as failed, and the others go on."""
    begun = time.monotonic()
    report = Report(settings, machine.machine_facts(), machine.load())
    busy = machine.complaint(report.load_before)
    if busy:
        report.warnings.append(busy)
    done = 0.0
    for place in warmed_up(keys):
        told(done, "warming up")
        warm_up(place, settings, report.warnings)
        done += WARM_UP_S
    for number in range(settings.rounds):
        for key in keys:
            told(done, f"{describe(key)}, round {number + 1} of {settings.rounds}")
            report.trials.setdefault(key, []).append(attempt(key, settings, report.warnings))
            done += takes_s(key, settings)
    report.load_after = machine.load()
    disturbed = machine.disturbance(report.others_cpus)
    if disturbed:
        report.warnings.append(disturbed)
    report.warnings = list(dict.fromkeys(report.warnings))
    report.took_s = time.monotonic() - begun
    return report


def attempt(key: str, settings: Settings, warnings: list[str]) -> Record:
    others = machine.Others()
    try:
        return {**TRIALS[key](settings, warnings), "others_cpus": round(others.cpus(), 3)}
    except BentpipeError as error:
        return {"error": str(error)}


def warm_up(place: str, settings: Settings, warnings: list[str]) -> None:
    """What is compiled or read from disk for the first time shall not be in any figure."""
    fabric: Fabric = "zmq" if place == "zmq" else "direct"
    try:
        if place == "shell":
            start_shell(settings, warnings)
        else:
            with link(settings, fabric=fabric, warnings=warnings) as watch:
                watch.look()
    except BentpipeError as error:  # the trials will say it again, each for itself
        warnings.append(f"warming up: {error}")
