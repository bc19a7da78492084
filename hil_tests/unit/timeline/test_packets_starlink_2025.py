"""What packets of the profile meet: LINK_FACTS' figures of loss, queues and jitter, through the packet path itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from emulator.ports.assembly import Direction
from emulator.scenario import load_scenario
from emulator.scenario.model import Scenario
from emulator.taps.replay import DIRECTIONS
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause
from emulator.timeline.draws import Way
from emulator.timeline.model import Floats, Ints, Timeline
from emulator.timeline.sky import SkyWindows
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.virtual_pings import Fates, burst_shares, carried, instants, ping, planned

START_NS = parse_utc_ns("2025-07-01T00:00:00Z")
HOURS = 6.0
LONGEST_BURST = 18  # pings: the drive's longest
BURSTS = {"single": 118 / 162, "double": 22 / 162, "longer": 22 / 162}  # NUWiNS drive
CALM = ("link.outages.per_hour=0", "link.uplink.jitter_ms=0", "link.downlink.jitter_ms=0")
LOSSLESS = ("link.uplink.loss=0", "link.uplink.bursts.loss=0", "link.downlink.loss=0", "link.downlink.bursts.loss=0")
SAME = ("bursts", "fixed_ms", "frame_ms", "jitter", "jitter_ms", "loss", "queue_discipline", "queue_ms")
FULL_BYTES = 1500


def frame(protocol: int, length: int = FULL_BYTES) -> bytes:
    """An IPv4 packet behind a virtio header, of which only the protocol tells."""
    head = bytes([0x45, 0]) + length.to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, protocol])
    return bytes(10) + head + bytes(length - len(head))


UDP, PING = frame(17), frame(1, 84)


def planner(*overrides: str) -> tuple[Scenario, SkyWindows]:
    scenario = load_scenario("starlink_2025", overrides)
    windows = windows_for(scenario, epoch_utc_ns=START_NS)
    assert isinstance(windows, SkyWindows)
    return scenario, windows


@pytest.fixture(scope="module")
def probes() -> dict[str, Fates]:
    """A packet each 50 ms for hours, up and down."""
    scenario, windows = planner()
    sent_ns = instants(START_NS, HOURS, 50 * NS_PER_MS)
    plan = planned(windows, sent_ns)
    return {way: carried(scenario, way, plan, sent_ns) for way in DIRECTIONS}


def share(fates: Fates, *causes: Cause) -> float:
    """Of the packets outside of outages, those lost for one of these causes."""
    counted = fates.cause != Cause.OUTAGE
    return float(np.isin(fates.cause[counted], causes).mean())


def test_losses_come_in_bursts_of_the_measured_lengths() -> None:
    scenario, windows = planner()
    lost = ping(scenario, windows, START_NS, 24.0, 200 * NS_PER_MS).lost
    assert burst_shares(lost, LONGEST_BURST) == pytest.approx(BURSTS, rel=0.15)


def test_each_direction_loses_what_was_measured(probes: dict[str, Fates]) -> None:
    """0.2–0.5 % up, 0.01 % down: LeoCC, SIGCOMM'25; handovers included, outages not."""
    assert 0.002 <= share(probes["uplink"], Cause.LOSS) <= 0.005
    assert share(probes["downlink"], Cause.LOSS) == pytest.approx(0.0001, rel=0.5)
    assert 0.002 <= share(probes["uplink"], Cause.LOSS, Cause.HANDOVER) <= 0.005
    assert share(probes["downlink"], Cause.LOSS, Cause.HANDOVER) == pytest.approx(0.0001, rel=0.5)


def test_more_is_lost_up_than_down_whatever_the_cause(probes: dict[str, Fates]) -> None:
    up, down = (float((probes[way].cause != 0).mean()) for way in ("uplink", "downlink"))
    assert 0.002 <= up <= 0.007
    assert down <= up / 2


def test_outages_last_as_long_as_measured() -> None:
    """570 of a dish in motion: p50 0.86, p75 1.54, p90 6.2 s; half of 396 below 0.78 s, half of 29 above 7.2 s."""
    _, windows = planner("link.outages.per_hour=360")
    phases = windows._outages(START_NS, START_NS + 100 * 3600 * NS_PER_S)
    lasted_s = np.array([(phase.end_ns - phase.start_ns) / NS_PER_S for phase in phases])
    assert np.percentile(lasted_s, [50, 75, 90]).tolist() == pytest.approx([0.86, 1.54, 6.2], rel=0.15)
    assert (lasted_s <= 0.78).mean() >= 396 / 2 / 570
    assert (lasted_s >= 7.2).mean() >= 29 / 2 / 570


def waits_ms(direction: Direction, rate_mbps: float, offered_mbps: float) -> Floats:
    """How long full packets wait in the queue of a direction of this rate, those that neither boundary nor loss met."""
    steady = f"{{p0={rate_mbps},p5={rate_mbps},p50={rate_mbps},p95={rate_mbps},p100={rate_mbps}}}"
    scenario, windows = planner(
        *CALM, *LOSSLESS, f"link.{direction}.rate_mbps={steady}", f"link.{direction}.rate_wobble=0"
    )
    interval_ns = round(FULL_BYTES * 8 / offered_mbps * 1000)
    sent_ns = START_NS + np.arange(0, 40 * NS_PER_S, interval_ns, dtype=np.int64)
    plan = planned(windows, sent_ns)
    fates = carried(scenario, direction, plan, sent_ns, [UDP] * len(sent_ns))
    free = carried(scenario, direction, plan, sent_ns)
    inside = (sent_ns - 12 * NS_PER_S) % (15 * NS_PER_S)
    both = (fates.due_ns >= 0) & (free.due_ns >= 0) & (inside > NS_PER_S) & (inside < 14 * NS_PER_S)
    return (fates.due_ns - free.due_ns)[both] / NS_PER_MS - FULL_BYTES * 8 / rate_mbps / 1000


@pytest.mark.parametrize("rate_mbps", [3.0, 10.5, 18.0])
def test_the_uplinks_queue_is_bounded_by_time_at_any_rate(rate_mbps: float) -> None:
    longest_ms = waits_ms("uplink", rate_mbps, 3 * rate_mbps).max()
    assert 90 <= longest_ms <= 100 + 0.2  # the sky moves meanwhile


def test_the_downlinks_queue_adds_what_downloads_saw() -> None:
    """Round trips of 400–500 ms in downloads (Mohan et al.), at the 5th percentile of the rate."""
    assert 375 <= waits_ms("downlink", 41.0, 90.0).max() <= 475


def test_the_oldest_packets_of_a_burst_vanish() -> None:
    """All that stays of a burst down: its newest 1,400–1,600 (Garcia et al., arXiv 2605.27717)."""
    scenario, windows = planner(*CALM, *LOSSLESS)
    count = 4000
    sent_ns = START_NS + 5 * NS_PER_S + np.arange(count, dtype=np.int64) * 100
    fates = carried(scenario, "downlink", planned(windows, sent_ns), sent_ns, [UDP] * count)
    lost = np.flatnonzero(fates.cause == Cause.QUEUE)
    assert 1400 <= count - 1 - int(lost[-1]) <= 1600
    assert len(lost) > count / 2
    assert lost[0] < 100


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_load_does_not_inflate_a_ping(direction: Direction) -> None:
    scenario, windows = planner(*CALM, *LOSSLESS)
    offered_ns = 400_000 if direction == "uplink" else 20_000  # 30 and 600 Mbit/s
    sent_ns = START_NS + np.arange(0, 6 * NS_PER_S, offered_ns, dtype=np.int64)
    pinged = np.arange(0, len(sent_ns), 100 * NS_PER_MS // offered_ns)
    frames = [UDP] * len(sent_ns)
    for number in pinged.tolist():
        frames[number] = PING
    plan = planned(windows, sent_ns)
    loaded = carried(scenario, direction, plan, sent_ns, frames).due_ns
    alone = carried(scenario, direction, plan, sent_ns[pinged], [PING] * len(pinged)).due_ns
    came = (loaded[pinged] >= 0) & (alone >= 0)
    assert came.mean() > 0.95
    inflated_ms = (loaded[pinged] - alone)[came] / NS_PER_MS
    being_sent_ms = FULL_BYTES * 8 / int(getattr(plan[0], direction).rate_bps[:8].min()) * 1000
    assert inflated_ms.max() <= being_sent_ms + (1.34 if direction == "downlink" else 0.01)  # and a frame
    others = loaded[np.setdiff1d(np.arange(len(sent_ns)), pinged)] >= 0
    assert others.mean() < 0.95, "load indeed"


def test_the_spike_behind_a_boundary_is_there_when_it_is_asked_for() -> None:
    """The first 140 ms of a slot 74 ms above its mean, by pings of 2 ms (arXiv 2601.08439); the page's keys."""
    page = Path(__file__).parents[3] / "docs" / "profiles" / "starlink_2025.md"
    keys = [key.replace("`", "") for key in re.findall(r"`link\.handover\.\w+=\d+`", page.read_text())]
    assert len(keys) == 2
    scenario, windows = planner("link.outages.per_hour=0", *keys)
    pings = ping(scenario, windows, START_NS, 0.05, 2 * NS_PER_MS)
    inside_ns = (pings.sent_ns - 12 * NS_PER_S) % (15 * NS_PER_S)
    spiked = np.nanmean(pings.rtt_ms[inside_ns < 140 * NS_PER_MS]) - np.nanmean(pings.rtt_ms)
    assert spiked == pytest.approx(74, rel=0.1)
    plain = ping(*planner("link.outages.per_hour=0"), START_NS, 0.05, 2 * NS_PER_MS)
    assert np.nanmean(plain.rtt_ms[inside_ns < 140 * NS_PER_MS]) - np.nanmean(plain.rtt_ms) < 20


@pytest.fixture(scope="module")
def quarter_hour() -> tuple[Scenario, list[Timeline], Ints]:
    scenario, windows = planner("link.outages.per_hour=0")
    first_ns = START_NS + 12 * NS_PER_S  # slots and samples begin together, as in the record
    sent_ns = first_ns + np.arange(90_000, dtype=np.int64) * 10 * NS_PER_MS
    return scenario, planned(windows, sent_ns), sent_ns


def within_slots(delay_ms: Floats, first_slot: int) -> Floats:
    """By sample of 10 ms, what differs from the slot's median; NaN within 0.5 s of its boundaries."""
    number = np.arange(len(delay_ms)) - first_slot
    inside = (number % 1500 >= 50) & (number % 1500 < 1450)
    residual = np.full(len(delay_ms), np.nan)
    for slot in np.unique(number // 1500):
        chosen = inside & (number // 1500 == slot)
        if chosen.sum() > 300:
            residual[chosen] = delay_ms[chosen] - np.nanmedian(delay_ms[chosen])
    return residual


def correlation(residual: Floats, samples: int) -> float:
    return float(np.nanmean(residual[:-samples] * residual[samples:]) / np.nanvar(residual))


@pytest.mark.parametrize("way", [Way.UP, Way.DOWN])
def test_one_way_delays_within_a_slot_are_those_of_the_record(
    reference_data: Path, quarter_hour: tuple[Scenario, list[Timeline], Ints], way: Way
) -> None:
    """LeoCC's record of one site, 120 s in whole milliseconds; its slots begin at 8.7 s."""
    scenario, plan, sent_ns = quarter_hour
    fates = carried(scenario, "uplink" if way is Way.UP else "downlink", plan, sent_ns)
    emulated = within_slots(np.where(fates.due_ns >= 0, (fates.due_ns - sent_ns) / NS_PER_MS, np.nan), 0)
    recorded = within_slots(np.loadtxt(reference_data / "links" / "leocc_delay_10ms.txt"), 870)
    recorded += np.random.default_rng(1).uniform(-0.5, 0.5, len(recorded))  # what rounding took
    one, other = (np.sort(residual[~np.isnan(residual)]) for residual in (recorded, emulated))
    edges = np.concatenate([one, other])
    shares = [np.searchsorted(values, edges, side="right") / len(values) for values in (one, other)]
    assert np.abs(shares[0] - shares[1]).max() < 0.1  # Kolmogorov and Smirnov's distance
    if way is Way.UP:
        assert np.nanpercentile(emulated, [5, 95, 99]).tolist() == pytest.approx([-2, 2, 3], abs=0.5)
        found = [correlation(np.rint(emulated), samples) for samples in (1, 2, 5)]
        assert found == pytest.approx([0.47, 0.15, 0.04], abs=0.06)


def test_other_profiles_of_this_access_have_its_law() -> None:
    here = load_scenario("starlink_2025").link.model_dump()
    for name in ("modular_datacenter_leo", "starlink_polar_isl"):
        there = load_scenario(name).link.model_dump()
        assert there["outages"] == here["outages"], name
        for direction in ("uplink", "downlink"):
            # the Arctic's delays are fitted to its own floor, and its queue must outlast its handovers
            own = {"fixed_ms", "queue_ms"} if name == "starlink_polar_isl" else set()
            for key in (*SAME, "rate_mbps"):
                if key not in own:
                    assert there[direction][key] == here[direction][key], f"{name}: {direction}.{key}"
