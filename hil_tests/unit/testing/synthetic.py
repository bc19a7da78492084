"""A run that never happened: a record with slots, jitter, a queue, an outage, a fade and losses, all from one seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.testing.record import (
    ChannelSeries,
    Check,
    CounterSeries,
    DirectionCounts,
    Event,
    ProbeSeries,
    RunRecord,
    StateSeries,
    Transfer,
)
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

STEP_NS = 20 * NS_PER_MS
PROBE_NS = 2 * NS_PER_MS
OUTAGE_S = (18.0, 19.5)
FADE_S = (30.0, 36.0)
TRANSFER_S = (8.0, 41.0)


def synthetic_record(seed: int = 7, duration_s: float = 46.0, start: str = "2025-10-03T14:20:04.5Z") -> RunRecord:
    random = np.random.default_rng(seed)
    start_ns = parse_utc_ns(start)
    duration_ns = round(duration_s * NS_PER_S)
    at = np.arange(0, duration_ns, STEP_NS)
    slot = (start_ns + at - 12 * NS_PER_S) // (15 * NS_PER_S)
    slot -= slot[0]
    levels = {"uplink": random.uniform(14, 24, slot[-1] + 1), "downlink": random.uniform(10, 20, slot[-1] + 1)}
    rates = {"uplink": random.uniform(8, 16, slot[-1] + 1), "downlink": random.uniform(120, 220, slot[-1] + 1)}
    second = at / NS_PER_S
    outage = (second >= OUTAGE_S[0]) & (second < OUTAGE_S[1])
    fade = (second >= FADE_S[0]) & (second < FADE_S[1])
    series = {}
    for direction in ("uplink", "downlink"):
        in_slot = (start_ns / NS_PER_S + second - 12) % 15
        delay = (levels[direction][slot] + 0.04 * in_slot) * NS_PER_MS
        rate = rates[direction][slot] * np.where(fade, 0.45, 1.0) * 1e6
        series[direction] = ChannelSeries(
            delay_ns=delay.astype(int).tolist(),
            rate_bps=rate.astype(int).tolist(),
            loss=[0.001] * len(at),
            gate=np.where(outage, Gate.DROP, Gate.PASS).tolist(),
            cause=np.where(outage, Cause.COMMAND, Cause.NONE).tolist(),
        )
    satellites = ["STARLINK-31744", "STARLINK-6210", "STARLINK-6210", "STARLINK-30482", "STARLINK-5551"]
    names = sorted(set(satellites))
    states = StateSeries(
        at_ns=at.tolist(),
        satellite=[names.index(satellites[index % 5]) for index in slot],
        gateway=[0 if index < 3 else 1 for index in slot],
        gateways=["Fawley", "Hoo"],
        azimuth_deg=(200 + 8.0 * slot + 0.3 * second).tolist(),
        elevation_deg=(48 + 9 * np.sin(slot * 2.0) + 0.12 * second).tolist(),
        slant_range_m=(760e3 - 3e3 * second).tolist(),
        satellites=names,
        **series,
    )
    return RunRecord(
        version="0.1.0",
        title="Starlink demo",
        scenario_name="starlink_2025",
        seed=seed,
        start_utc_ns=start_ns,
        duration_ns=duration_ns,
        slot_s=15.0,
        slot_phase_s=12.0,
        states=states,
        uplink_probes=_probes(random, states, series["uplink"], duration_ns, queue=False),
        downlink_probes=_probes(random, states, series["downlink"], duration_ns, queue=True),
        counters=_counters(duration_ns),
        transfer=_transfer(states),
        checks=_checks(),
        events=[
            Event(kind="outage", label="outage, 1.5 s", at_ns=round(OUTAGE_S[0] * NS_PER_S), duration_ns=1_500_000_000),
            Event(kind="fade", label="fade, 6 dB", at_ns=round(FADE_S[0] * NS_PER_S), duration_ns=6 * NS_PER_S),
            Event(kind="inject", label="scapy packet", at_ns=25 * NS_PER_S, direction="uplink"),
        ],
        machine={"kernel": "6.1", "python": "3.11"},
    )


def _probes(
    random: np.random.Generator, states: StateSeries, channel: ChannelSeries, duration_ns: int, *, queue: bool
) -> ProbeSeries:
    sent = np.arange(0, duration_ns, PROBE_NS)
    commanded = np.interp(sent, states.at_ns, channel.delay_ns).astype(np.int64)
    jitter = random.exponential(2.0, duration_ns // STEP_NS + 1)[sent // STEP_NS] * NS_PER_MS
    arrived = np.ones(len(sent), bool)
    second = sent / NS_PER_S
    arrived &= ~((second >= OUTAGE_S[0]) & (second < OUTAGE_S[1]))
    arrived &= random.random(len(sent)) > 0.003
    due = sent + commanded + jitter.astype(np.int64)
    expected = np.maximum.accumulate(np.where(arrived, due, 0)) - sent
    expected = np.maximum(expected, due - sent)
    loaded = (second > TRANSFER_S[0]) & (second < TRANSFER_S[1])
    waiting = np.where(loaded, 60e6 * np.abs(np.sin(second)) ** 2, 0) if queue else np.zeros(len(sent))
    delay = expected + waiting.astype(np.int64) + random.exponential(15e3, len(sent)).astype(np.int64)
    calm = ~loaded
    return ProbeSeries(
        sent_ns=sent.tolist(),
        delay_ns=np.where(arrived, delay, -1).tolist(),
        commanded_ns=commanded.tolist(),
        expected_ns=expected.tolist(),
        calm=calm.astype(int).tolist(),
        stamp_source="kernel",
        interval_ns=PROBE_NS,
    )


def _counters(duration_ns: int) -> CounterSeries:
    at = np.arange(0, duration_ns + 1, 250 * NS_PER_MS)
    second = at / NS_PER_S
    lost = np.clip(second - OUTAGE_S[0], 0, OUTAGE_S[1] - OUTAGE_S[0])

    def one(rate: float, queue: npt.NDArray[np.float64]) -> DirectionCounts:
        offered = np.rint(rate * second).astype(int)
        dropped = {
            "QUEUE": np.rint(queue).astype(int),
            "LOSS": np.rint(0.002 * offered).astype(int),
            "COMMAND": np.rint(0.6 * rate * lost).astype(int),
            "HANDOVER": np.rint(0.02 * rate * ((second + 7.5) // 15)).astype(int),
        }
        held = np.minimum(offered, 40)
        delivered = offered - held - sum(dropped.values())
        return DirectionCounts(
            offered_packets=offered.tolist(),
            offered_bytes=(offered * 900).tolist(),
            delivered_packets=delivered.tolist(),
            delivered_bytes=(delivered * 900).tolist(),
            held_packets=held.tolist(),
            dropped={name: each.tolist() for name, each in dropped.items()},
        )

    return CounterSeries(
        at_ns=at.tolist(), uplink=one(900, np.zeros(len(at))), downlink=one(9000, 300 * np.clip(second - 30, 0, 6))
    )


def _transfer(states: StateSeries) -> Transfer:
    at = np.arange(round(TRANSFER_S[0] * NS_PER_S), round(TRANSFER_S[1] * NS_PER_S), STEP_NS)
    second = at / NS_PER_S
    rate = np.interp(at, states.at_ns, states.downlink.rate_bps) * np.clip((second - TRANSFER_S[0]) / 2, 0.05, 0.93)
    rate[(second >= OUTAGE_S[0]) & (second < OUTAGE_S[1] + 0.6)] = 0
    total = np.concatenate([[0], np.cumsum(rate[:-1] * STEP_NS / 8e9)])
    return Transfer(
        direction="downlink",
        at_ns=at.tolist(),
        bytes=total.astype(int).tolist(),
        congestion="cubic",
        retransmitted=1234,
    )


def _checks() -> list[Check]:
    return [
        Check(
            what="packet injected with scapy",
            passed=True,
            outcome="UDP to port 9 arrived at the datacenter after 21.4 ms",
        ),
        Check(
            what="NMEA query on a serial line", passed=True, outcome="$GPGGA,142012.00,5130.4400,N,00007.6600,W,1,08"
        ),
    ]
