"""A stage of the scenario's own that never returns: the bench says so, ends, and leaves nothing behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from hil_tests.bench.living import World, finished, line, new_world

pytestmark = [pytest.mark.needs("netns", "tun"), pytest.mark.long]
STAGE = """
def endless(packet, data, memory):
    while memory[1] == 0:
        memory[2] += 1
    return 0
"""
SEND = """
exec 9>$ALIVE
printf x >/dev/udp/$BENTPIPE_DATACENTER/9
echo sent
exec sleep 1000
"""
TOLD = "the packet loop has not come back for 5 s: endless_stage:endless, the stage, may never return"


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as one:
        (one.directory / "endless_stage.py").write_text(STAGE)
        scenario = '[link]\nprofile = "fixed"\nstage = "endless_stage:endless"\n'
        (one.directory / "endless.toml").write_text(scenario)
        yield one


@pytest.mark.parametrize("fabric", ["direct", "zmq"])
@pytest.mark.parametrize("asked_to", [False, True])
def test_a_bench_whose_stage_never_returns_ends_and_says_why(world: World, fabric: str, asked_to: bool) -> None:
    scenario = str(world.directory / "endless.toml")
    process = world.bentpipe(
        "shell", scenario, "--isolate", "--fabric", fabric, "--", "bash", "-c", SEND,
        environment={"ALIVE": str(world.fifo)},
    )  # fmt: skip
    assert line(process) == "sent"
    if asked_to:
        process.send_signal(signal.SIGTERM)
    result = finished(process)
    assert TOLD in result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == 75
    assert world.everybody_is_gone()
    assert world.leftovers() == []
