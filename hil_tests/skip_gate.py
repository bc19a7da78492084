"""The hooks that skip a test for a missing capability, and that refuse every other skip where CI runs.

With BENTPIPE_CI=1 a skip is accepted only if each capability that it names stands, with its reason, in
hil_tests/capabilities.toml; any other skip turns the run red.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from hil_tests.capabilities import CAPABILITIES, missing

ACCEPTED_FILE = Path(__file__).with_name("capabilities.toml")
_NAMED = re.compile(r"(?:^|; )capability ([a-z0-9-]+): ")


def skip_for(capability: str, lacking: str) -> str:
    """The reason that a skip for a missing capability gives; `refused` reads it back."""
    return f"capability {capability}: {lacking}"


def accepted_capabilities(path: Path) -> dict[str, str]:
    """Capability → why CI may do without it. Raises pytest.UsageError for an unknown one, or one without a reason."""
    tables = tomllib.loads(path.read_text()) if path.exists() else {}
    for name, table in tables.items():
        if name not in CAPABILITIES:
            raise pytest.UsageError(f"{path.name}: {name}: unknown capability; known are {', '.join(CAPABILITIES)}")
        if not isinstance(table, dict) or not isinstance(table.get("reason"), str) or not table["reason"].strip():
            raise pytest.UsageError(f"{path.name}: {name}: expected a reason")
    return {name: table["reason"] for name, table in tables.items()}


def refused(reason: str, accepted: dict[str, str]) -> bool:
    """Is a skip for `reason` one that CI does not accept?"""
    named = _NAMED.findall(reason)
    return not named or any(capability not in accepted for capability in named)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs what nobody knows is a mistake, found before the first test runs."""
    for item in items:
        for marker in item.iter_markers("needs"):
            for capability in marker.args:
                if capability not in CAPABILITIES:
                    raise pytest.UsageError(f"{item.nodeid}: needs({capability!r}): no such capability")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot do, saying everything that is missing."""
    needed = dict.fromkeys(capability for marker in item.iter_markers("needs") for capability in marker.args)
    reasons = [skip_for(capability, lacking) for capability in needed if (lacking := missing(capability))]
    if reasons:
        pytest.skip("; ".join(reasons))


class SkipGate:
    """Collects the skips of a run and, where CI runs, refuses those that nobody has accepted."""

    def __init__(self, accepted: dict[str, str]) -> None:
        self._accepted = accepted
        self._refused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):
            self._judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._judge(report)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped:
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if refused(reason, self._accepted):
            self._refused.append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._refused and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._refused:
            return
        terminalreporter.section("skips that CI refuses", red=True)
        for line in self._refused:
            terminalreporter.line(line)
        terminalreporter.line(
            f"FAILED: {len(self._refused)} skipped for no capability, or one that {ACCEPTED_FILE.name} does not list",
            red=True,
        )


def pytest_configure(config: pytest.Config) -> None:
    """Set up the gate in CI, and only in the process that sees all reports."""
    accepted = accepted_capabilities(ACCEPTED_FILE)
    if os.environ.get("BENTPIPE_CI") == "1" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGate(accepted), "bentpipe-skip-gate")
