"""The benches with and without hardware, and what `firmware` takes."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.errors import ScenarioError
from emulator.scenario import load_scenario

ANTENNA = ("terminal.latitude_deg=0", "terminal.longitude_deg=0", "terminal.antenna.beam_width_deg=2")


def without_firmware(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_firmware(below) for key, below in value.items() if key != "firmware"}
    return [without_firmware(below) for below in value] if isinstance(value, list | tuple) else value


def test_a_bench_with_hardware_differs_in_its_firmware_lines_alone() -> None:
    stubs, lab = (
        load_scenario(name).model_dump(exclude={"name", "description", "source"})
        for name in ("bench_virtual", "bench_lab")
    )
    assert stubs != lab
    assert without_firmware(stubs) == without_firmware(lab)


def test_a_stub_is_said_by_its_name() -> None:
    scenario = load_scenario("fixed", [*ANTENNA, "terminal.antenna.firmware=stub"])
    assert scenario == load_scenario("fixed", ANTENNA)
    assert scenario.terminal is not None
    assert scenario.terminal.antenna is not None
    assert scenario.terminal.antenna.firmware.is_stub


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("terminal.antenna.firmware=real", "terminal.antenna.firmware=real: expected 'stub' or a table such as"),
        ("terminal.antenna.firmware=3", "terminal.antenna.firmware=3: expected a table, got 3"),
        ("terminal.antenna.firmware={ port = 3 }", "terminal.antenna.firmware.port: unknown key"),
        ("terminal.antenna.firmware={ baud = 3 }", "terminal.antenna.firmware.baud: expected a whole number from 50"),
        ("devices=[{ kind = 'modem' }]", "devices[0].kind: expected one of 'nmea', 'ubx'"),
    ],
)
def test_what_is_wrong_with_firmware_is_told_by_its_key(setting: str, fault: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        load_scenario("fixed", [*ANTENNA, setting])
    assert fault in str(raised.value)
