"""The certificate: what was commanded, what was measured by what, what is allowed, and the margin; JSON and HTML."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emulator import __version__
from emulator.testing.selftest.trials import Result
from emulator.testing.verdicts import Verdict
from emulator.units import format_utc

FORMAT = "bentpipe-certificate-1"
Outcome = Literal["passed", "failed", "undecided", "invalid", "not measured"]


@dataclass(frozen=True)
class Certificate:
    """All results of a self-test."""

    results: tuple[Result, ...]
    at_utc_ns: int

    @property
    def outcome(self) -> Outcome:
        """The worst one counts: failed, invalid, undecided, passed. Tools that are not installed count for nothing."""
        outcomes = {outcome_of(result) for result in self.results if not _absent(result)}
        worst: Outcome
        for worst in ("failed", "invalid", "not measured", "undecided"):
            if worst in outcomes:
                return worst
        return "passed" if outcomes else "not measured"

    @property
    def faults(self) -> list[str]:
        """Why lines are invalid, each reason once."""
        verdicts = [each.verdict for each in self.results if each.verdict is not None]
        return sorted({fault for verdict in verdicts for fault in verdict.faults})

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "outcome": self.outcome,
            "utc": format_utc(self.at_utc_ns),
            "version": __version__,
            "machine": machine(),
            "results": [
                {
                    "what": each.what,
                    "tool": each.tool,
                    "commanded": each.commanded,
                    "outcome": outcome_of(each),
                    "fault": each.fault,
                    "proof": each.proof,
                    "verdict": each.verdict.as_json() if each.verdict is not None else None,
                }
                for each in self.results
            ],
        }


def outcome_of(result: Result) -> Outcome:
    return result.verdict.outcome if result.verdict is not None else "not measured"


def margin_of(result: Result) -> str:
    """By how much the verdict holds, in words; empty if there is none.

    Nothing can arrive before the delay that was commanded: what came at exactly that is no close shave but as it should
    be, and the margin is that of the other bound.
    """
    from emulator.testing.report import figure

    verdict = result.verdict
    if verdict is None:
        return ""
    if result.floor and verdict.interval.low >= verdict.least:
        return f"{figure(verdict.most - verdict.interval.high)} {verdict.unit}, none too early".replace("  ", " ")
    return f"{figure(verdict.margin)} {verdict.unit}".rstrip()


def _absent(result: Result) -> bool:
    return result.fault.endswith("is not installed")


def machine() -> dict[str, str]:
    """What the certificate holds for."""
    return {
        "node": platform.node(),
        "Linux": platform.release(),
        "processor": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "Python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


@dataclass(frozen=True)
class Bar:
    """A verdict on a scale of 0 to 100, from a little below what is allowed to a little above it."""

    allowed_left: float
    allowed_width: float
    left: float
    width: float
    middle: float


def bar_of(verdict: Verdict | None) -> Bar | None:
    """None where there is no bound above, or nothing was measured."""
    if verdict is None:
        return None
    interval = verdict.interval
    if not math.isfinite(interval.estimate):
        return None
    least = verdict.least if math.isfinite(verdict.least) else min(0.0, interval.estimate)
    most = verdict.most
    if not math.isfinite(most) or not most > least:
        return None
    room = 0.35 * (most - least)
    start, length = least - room, most - least + 2 * room

    def place(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - start) / length))

    low, high = place(interval.low), place(interval.high)
    return Bar(place(least), place(most) - place(least), low, max(0.6, high - low), place(interval.estimate))


def write_certificate(certificate: Certificate, directory: Path) -> dict[str, Path]:
    """Writes `certificate.json` and `certificate.html`; returns their paths. Raises EndpointError."""
    from emulator.testing.report import pages, write_files

    proofs: dict[str, list[str]] = {}
    for each in certificate.results:
        if each.proof:
            proofs.setdefault(each.proof, []).append(each.what)
    html = (
        pages()
        .get_template("certificate.html.j2")
        .render(
            certificate=certificate,
            utc=format_utc(certificate.at_utc_ns),
            version=__version__,
            machine=machine(),
            rows=[
                {
                    "result": each,
                    "outcome": outcome_of(each),
                    "margin": margin_of(each),
                    "bar": bar_of(each.verdict) if each.verdict is not None else None,
                }
                for each in certificate.results
            ],
            faults=certificate.faults,
            proofs=[(proof, "; ".join(dict.fromkeys(whats))) for proof, whats in proofs.items()],
        )
    )
    told = json.dumps(certificate.as_json(), indent=1)
    return write_files(directory, {"certificate.json": told.encode(), "certificate.html": html.encode()})
