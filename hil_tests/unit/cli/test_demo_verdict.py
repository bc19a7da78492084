"""The demo's exit status says whether every check holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from emulator.cli import demo
from emulator.errors import EmulationError
from emulator.testing.record import RunRecord
from hil_tests.unit.testing.synthetic import synthetic_record


@pytest.mark.parametrize("late_ns", [0, 400_000])
def test_a_delay_that_is_not_the_commanded_one_is_no_success(
    late_ns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record: RunRecord = synthetic_record()
    probes = record.downlink_probes
    probes.delay_ns = [delay + late_ns if delay >= 0 else delay for delay in probes.delay_ns]
    monkeypatch.setattr(demo, "_run", lambda *_: record)
    result = CliRunner().invoke(demo.demo, ["fixed", "--out", str(tmp_path)], standalone_mode=False)
    assert (tmp_path / "report.html").exists()
    if late_ns:
        assert isinstance(result.exception, EmulationError)
        assert "does not hold: Delay error" in str(result.exception)
    else:
        assert result.exception is None, result.output
        assert result.return_value == 0
