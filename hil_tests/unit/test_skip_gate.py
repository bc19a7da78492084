"""Skips say what is missing, and CI refuses those that nobody has accepted: pytest under pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests import skip_gate
from hil_tests.capabilities import CAPABILITIES, missing

pytest_plugins = ["pytester"]

CHECKOUT = Path(__file__).parent.parent.parent

CONFTEST = """
import pytest
from hil_tests import capabilities, skip_gate
from hil_tests.skip_gate import pytest_collection_modifyitems, pytest_runtest_setup
capabilities.CAPABILITIES.update(here=lambda: None, gone=lambda: "broken", lost=lambda: "stolen", spared=lambda: "rare")
ACCEPTED = {"spared": "CI has none"}
def pytest_configure(config):
    if GATED and not hasattr(config, "workerinput"):
        config.pluginmanager.register(skip_gate.SkipGate(ACCEPTED))
"""


@pytest.fixture(autouse=True)
def only_the_plugins_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take most of the time that a run of pytest takes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, body: str, *arguments: str, gated: bool = True) -> pytest.RunResult:
    pytester.makeini(f"[pytest]\npythonpath = {CHECKOUT}\nmarkers = needs(*capabilities): what the machine must have")
    pytester.makeconftest(f"GATED = {gated}\n{CONFTEST}")
    pytester.makepyfile(f"import pytest\n{body}")
    return pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider", "-p", "xdist", *arguments)


def needing(*capabilities: str) -> str:
    return f"@pytest.mark.needs({', '.join(map(repr, capabilities))})\ndef test_it(): pass"


def test_a_test_runs_where_the_capability_is(pytester: pytest.Pytester) -> None:
    run(pytester, needing("here")).assert_outcomes(passed=1)


def test_a_skip_names_everything_that_is_missing(pytester: pytest.Pytester) -> None:
    result = run(pytester, needing("gone", "here", "lost"), gated=False)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*capability gone: broken; capability lost: stolen*"])
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "body",
    [
        needing("gone"),
        needing("spared", "gone"),
        "def test_it(): pytest.skip('not today')",
        "@pytest.mark.skip\ndef test_it(): pass",
        "@pytest.mark.skipif(True, reason='capability-like')\ndef test_it(): pass",
        "pytest.importorskip('no_such_package')\ndef test_it(): pass",
        "@pytest.fixture\ndef it(): pytest.skip('no')\ndef test_it(it): pass",
    ],
)
def test_ci_refuses_a_skip_that_nobody_accepted(pytester: pytest.Pytester, body: str) -> None:
    result = run(pytester, f"{body}\ndef test_fine(): pass")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skips that CI refuses*", "FAILED: 1 skipped*"])


@pytest.mark.parametrize(
    "body",
    [
        needing("spared"),
        "def test_it(): pytest.skip('capability spared: rare')",
        "@pytest.mark.xfail(strict=True)\ndef test_it(): assert 0",
    ],
)
def test_ci_accepts_what_is_listed_and_expected_failures(pytester: pytest.Pytester, body: str) -> None:
    result = run(pytester, f"{body}\ndef test_fine(): pass")
    assert result.ret == pytest.ExitCode.OK


def test_the_gate_sees_the_skips_of_parallel_workers(pytester: pytest.Pytester) -> None:
    result = run(pytester, f"{needing('gone')}\ndef test_fine(): pass", "-n", "1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED: 1 skipped*"])


def test_a_capability_that_nobody_knows_stops_the_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, needing("flying"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs('flying'): no such capability*"])


@pytest.mark.parametrize("text", ["[flying]\nreason = 'x'", "[tun]", "[tun]\nreason = ' '", "tun = 'x'"])
def test_a_listed_capability_is_known_and_has_its_reason(tmp_path: Path, text: str) -> None:
    path = tmp_path / "capabilities.toml"
    path.write_text(text)
    with pytest.raises(pytest.UsageError, match=r"capabilities\.toml: (flying|tun): "):
        skip_gate.accepted_capabilities(path)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_each_capability_is_there_or_says_what_is_missing(capability: str) -> None:
    lacking = missing(capability)
    assert lacking is None or (lacking.strip() and "\n" not in lacking)
