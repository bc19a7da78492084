"""Scripts on a running bench: each step at its moment, in order; what cannot come is told, and holds nothing up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.bench import Bench
from emulator.errors import EmulationError, ScenarioError
from emulator.scenario import load_scenario
from emulator.scenario.script import Condition
from emulator.testing.scripts import Script, counter_of, steps_of
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2026-01-01T00:00:25.500Z")  # Starlink's slots begin at :12, :27, …


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(load_scenario("starlink_2025"), start_utc_ns=START_NS) as running:
        yield running


@pytest.mark.needs("netns", "tun")
def test_steps_follow_each_other_at_their_moments(bench: Bench) -> None:
    expression = 'IP(src=terminal, dst=datacenter)/UDP(dport=9)/b"hello"'
    steps = steps_of(
        {"at": "0s", "action": "mark", "label": "begin"},
        {"when": {"elevation_deg_above": 5}, "action": "mark"},
        {"when": {"counter": "uplink.offered_packets", "above": 1e9, "within_s": 0.1}, "action": "mark"},
        {"at": "0s", "action": "inject", "packet": expression, "direction": "uplink"},
        {"when": {"counter": "uplink.offered_packets", "above": 0}, "action": "mark", "label": "seen"},
        {"at": "next-slot", "action": "outage", "duration_s": 0.2, "direction": "uplink"},
    )
    with Script(bench, steps) as script:
        performed = script.wait(60)
    assert [each.outcome for each in performed] == ["done", "done", "never", "done", "done", "done"]
    assert "within 0.1 s" in performed[2].why
    at_ns = performed[-1].utc_ns
    assert at_ns is not None
    assert at_ns % (15 * NS_PER_S) == parse_utc_ns("1970-01-01T00:00:12Z")
    times = [each.utc_ns for each in performed if each.utc_ns is not None]
    assert times == sorted(times)
    for offset_ns, gate in ((50_000_000, Gate.DROP), (300_000_000, Gate.PASS)):
        state = bench.channel_at("uplink", at_ns + offset_ns)
        if gate is Gate.DROP:
            assert (state.gate, state.cause) == (Gate.DROP, Cause.COMMAND)
        else:
            assert state.cause is not Cause.COMMAND


@pytest.mark.needs("netns", "tun")
def test_waiting_ends_when_the_last_step_begins_or_when_all_is_over(bench: Bench) -> None:
    long, short = ({"at": "0s", "action": "fade", "fade_db": 1.0, "duration_s": length_s} for length_s in (0.6, 0.2))
    with Script(bench, steps_of(long, short)) as script:
        begun = script.wait(60)
        over = script.wait(60, until="over")
        after_ns = bench.utc_ns()
        assert [each.outcome for each in begun] == [each.outcome for each in over] == ["done", "done"]
        assert begun[0].utc_ns is not None
        assert after_ns >= begun[0].utc_ns + 600_000_000
    with Script(bench, steps_of({**long, "duration_s": 3600.0})) as script:
        assert script.wait(60)[0].outcome == "done"
        with pytest.raises(EmulationError, match=r"script\[0\].*fade.*: not over after 0\.1 s"):
            script.wait(0.1, until="over")


@pytest.mark.needs("netns", "tun")
def test_a_move_takes_sky_link_and_position_along() -> None:
    there = {"latitude_deg": 50.0, "longitude_deg": -5.0, "altitude_m": 20.0}
    with Bench(load_scenario("geo_dvbs2"), start_utc_ns=START_NS) as bench:
        before = bench.state()
        with Script(bench, steps_of({"at": "0s", "action": "move", **there})) as script:
            (performed,) = script.wait(60)
        assert performed.outcome == "done", performed.why
        assert performed.utc_ns is not None
        at_ns = performed.utc_ns + NS_PER_S
        after, long_before = bench.state_at(at_ns), bench.state_at(performed.utc_ns - 50_000_000)
        position = bench.place.state(at_ns)
    assert long_before.elevation_deg == pytest.approx(before.elevation_deg)
    assert long_before.downlink.delay_ns == pytest.approx(before.downlink.delay_ns, abs=1000)
    wanted = load_scenario("geo_dvbs2", [f"terminal.{key}={value}" for key, value in there.items()])
    begins_ns = at_ns - at_ns % NS_PER_S
    plan = windows_for(wanted, epoch_utc_ns=begins_ns).window(begins_ns, begins_ns + 10 * NS_PER_S)
    assert after.elevation_deg == pytest.approx(float(plan.path.elevation_deg[0]), abs=0.01)
    assert after.elevation_deg != pytest.approx(before.elevation_deg, abs=1)
    assert after.downlink.delay_ns == pytest.approx(plan.downlink.at(at_ns).delay_ns, abs=1000)
    assert (position.latitude_deg, position.longitude_deg, position.altitude_m) == tuple(there.values())


@pytest.mark.needs("netns", "tun")
def test_the_end_of_the_bench_leaves_what_was_not_reached_pending(bench: Bench) -> None:
    with Script(bench, steps_of({"at": "86400s", "action": "mark"}, {"at": "0s", "action": "mark"})) as script:
        with pytest.raises(EmulationError, match=r"script\[0\] 86400s: mark: pending"):
            script.wait(0.05)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 60
    assert [each.outcome for each in script.performed] == ["pending", "pending"]


@pytest.mark.needs("netns", "tun")
def test_what_can_never_come_is_refused_at_once() -> None:
    with Bench(load_scenario("fixed")) as fixed:
        with pytest.raises(ScenarioError) as caught:
            Script(fixed, steps_of(*({"at": at, "action": "mark"} for at in ("next-slot", "next-outage", "1s"))))
        assert [line.partition(": ")[0] for line in caught.value.problems] == ["script[0].at", "script[1].at"]
        with pytest.raises(ScenarioError, match=r"script\[0\].action: move: this link is the same everywhere"):
            Script(fixed, steps_of({"at": "1s", "action": "move", "latitude_deg": 1, "longitude_deg": 2}))
        with pytest.raises(EmulationError, match="queue"):
            counter_of(fixed.counters(), "uplink.dropped.weather")


@pytest.mark.parametrize(
    "step",
    [
        {"action": "mark"},
        {"at": "now", "action": "mark"},
        {"at": "1s", "when": {"elevation_deg_above": 3}, "action": "mark"},
        {"at": "1s", "action": "dance"},
        {"at": "1s", "action": "fade"},
        {"at": "1s", "action": "inject", "packet": "IP()"},
        {"at": "1s", "action": "move"},
        {"when": {"counter": "uplink.happiness", "above": 3}, "action": "mark"},
        {"when": {"counter": "uplink.offered_packets"}, "action": "mark"},
        {"when": {}, "action": "mark"},
    ],
)
def test_a_step_that_is_wrong_is_refused_by_its_place(step: dict[str, object]) -> None:
    with pytest.raises(ScenarioError) as caught:
        steps_of({"at": "1s", "action": "mark"}, step)
    assert all(line.startswith("script[1]") for line in caught.value.problems)


@given(st.sampled_from(["next-slot", "next-handover", "30s", "0.25s"]), st.sampled_from(["outage", "hold", "mark"]))
def test_toml_and_python_say_the_same(at: str, action: str) -> None:
    from_python = steps_of({"at": at, "action": action})
    from_toml = load_scenario("starlink_2025", [f'script=[{{at="{at}", action="{action}"}}]']).script
    assert list(from_toml) == from_python
    assert Condition(elevation_deg_above=3).within_s > 0
