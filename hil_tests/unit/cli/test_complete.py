"""What Tab offers, as the shells' own scripts ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from emulator.cli import main as cli
from emulator.scenario import embedded_scenarios, load_scenario
from emulator.scenario.keys import Keys
from firmware_stubs.registry import KINDS, NETWORK_KINDS

CHECKOUT = Path(__file__).parent.parent.parent.parent


def offered(*words: str) -> list[str]:
    """For the last word, the others being there."""
    *there, incomplete = words
    found = ShellComplete(cli.bentpipe, {}, "bentpipe", "_BENTPIPE_COMPLETE").get_completions(there, incomplete)
    return [item.value for item in found if item.type == "plain"]


def test_commands_are_offered_and_none_is_imported() -> None:
    assert offered("") == [*cli.COMMANDS]
    assert offered("pl") == ["plan"]
    code = "from emulator.cli.main import main; import sys; main()"
    asked = {"_BENTPIPE_COMPLETE": "bash_complete", "COMP_WORDS": "bentpipe ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False, cwd=CHECKOUT,
        env={**os.environ, **asked},
    )  # fmt: skip
    assert "plain,plan" in done.stdout.splitlines()
    assert "pydantic" not in done.stderr


def test_scenarios_are_offered_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("plan", "star") == [name for name in embedded_scenarios() if name.startswith("star")] != []
    (tmp_path / "lab").mkdir()
    for name in ("starling.toml", "starling.txt", "lab/one.toml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    embedded = [name for name in embedded_scenarios() if name.startswith("starli")]
    assert offered("plan", "starli") == [*embedded, "starling.toml"]
    assert offered("plan", "lab/") == ["lab/one.toml"]
    assert offered("plan", "nowhere/x") == []
    folder = ShellComplete(cli.bentpipe, {}, "bentpipe", "_BENTPIPE_COMPLETE").get_completions(["plan"], "nowhere/x")
    assert [item.type for item in folder] == ["file"]


def test_kinds_of_stubs_are_offered() -> None:
    assert offered("stub", "") == [*KINDS, *NETWORK_KINDS]
    assert offered("stub", "nm") == ["nmea"]


@pytest.mark.parametrize("name", ["fixed", "starlink_2025"])
def test_every_key_that_is_offered_may_be_set(name: str) -> None:
    found = offered("plan", name, "--set", "")
    assert "link.delay_ms=" in found or name != "fixed"
    assert "link.handover.drop_ms=" in found or name != "starlink_2025"
    keys = Keys(load_scenario(name).link.profile)
    for key in found:
        parts = key.removesuffix("=").replace("[0]", ".0").split(".")
        node = keys.node([int(part) if part.isdigit() else part for part in parts])
        assert node
        assert node.get("type") != "object"


def test_keys_of_all_profiles_are_offered_before_there_is_a_scenario() -> None:
    assert offered("plan", "--set", "link.de") == ["link.delay_ms="]
    assert offered("plan", "--set", "link.sun") == ["link.sun_temperature_k="]
    assert offered("plan", "fixed", "--set", "link.sun") == []
