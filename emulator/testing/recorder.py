"""Writes down what a bench does while it runs, and joins it with what was measured outside, into a `RunRecord`.

How to read it: `tick` is called a few times a second; `finish` puts everything on one time axis.
"""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from emulator import __version__
from emulator.bench import Bench, Counters, LinkState
from emulator.link import state as link_state
from emulator.link.distributions import memory_weights, normal_table
from emulator.link.draws import JITTER_ONE
from emulator.link.link import DirectionCounters
from emulator.link.options import Jitter
from emulator.link.propagate import share_of
from emulator.link.tables import jitter_table
from emulator.ports.assembly import link_options
from emulator.scenario.links import PlainLink, StarlinkLink
from emulator.testing.measure import Service, calm_probes, expected_delay_ns
from emulator.testing.readings import BulkRun, ProbeRun
from emulator.testing.record import (
    DIRECTIONS,
    ChannelSeries,
    Check,
    CounterSeries,
    Direction,
    DirectionCounts,
    Event,
    HardwareSeries,
    ProbeSeries,
    RunRecord,
    StateSeries,
    Transfer,
)
from emulator.testing.verdicts.evidence import evidence_between
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import ChannelState
from emulator.units import NS_PER_MS, NS_PER_S

Ints = npt.NDArray[np.int64]

SLOT_S = 15.0  # Starlink's global slots (Tanveer et al., arXiv 2307.00402)
STATE_STEP_NS = 20 * NS_PER_MS
HARDWARE_STEP_NS = 100 * NS_PER_MS
MOST_DB = 999.0  # for JSON, which has no infinity
SAME_DELAY_NS = 20_000  # two instants one step apart whose delays differ by more have a step between them
# So near to the edges of a jitter bin, the kernel's stamp of a probe and the link's may fall on two sides of one: a
# port without stamps of its own looks at a packet later, on a busy machine by milliseconds.
BIN_EDGE_NS, BIN_LATE_NS = 300_000, 3 * NS_PER_MS
STRANGERS_SHARE = 0.1  # of the rate: who sends less leaves the link idle for some of the probes of each window
PROBE_BYTES = {4: 24 + 8 + 20, 6: 24 + 8 + 40}  # of an IP packet with a probe in it


class Recorder:
    """Records `bench` from now on. `slot_s`, `slot_phase_s`: of the scenario's slots, 0 for none."""

    def __init__(self, bench: Bench, title: str, *, ip_version: int = 4) -> None:
        self._bench = bench
        link = bench.scenario.link
        self.slot_s = SLOT_S if isinstance(link, StarlinkLink) else 0.0
        self.slot_phase_s = link.slot_phase_s if isinstance(link, StarlinkLink) else 0.0
        self.start_utc_ns = bench.utc_ns()
        self._title, self._probe_bytes = title, PROBE_BYTES[ip_version]
        self._states, self._hardware = StateSeries(), HardwareSeries()
        self._counters = CounterSeries()
        self._next_state_ns = 0
        self.events: list[Event] = []
        self.checks: list[Check] = []
        self._began = bench.counters()
        self.tick()

    def now_ns(self) -> int:
        """Since the start of the run."""
        return self._bench.utc_ns() - self.start_utc_ns

    def since_start_ns(self, monotonic_ns: int) -> int:
        return self._bench.utc_of_monotonic_ns(monotonic_ns) - self.start_utc_ns

    def tick(self) -> tuple[LinkState, Counters]:
        """Record the counters now and the states since the last tick; returns state and counters of this moment."""
        counters = self._bench.counters()
        now_ns = self.now_ns()
        at = self._counters.at_ns
        if not at or now_ns > at[-1]:
            at.append(now_ns)
            _append_counts(self._counters.uplink, counters.uplink, len(at))
            _append_counts(self._counters.downlink, counters.downlink, len(at))
        self._record_states(now_ns)
        return self._bench.state(), counters

    def _record_states(self, until_ns: int) -> None:
        while self._next_state_ns <= until_ns:
            state = self._bench.state_at(self.start_utc_ns + self._next_state_ns)
            columns = self._states
            columns.at_ns.append(self._next_state_ns)
            columns.satellite.append(_index(columns.satellites, state.satellite))
            columns.gateway.append(_index(columns.gateways, state.gateway))
            columns.azimuth_deg.append(round(state.azimuth_deg or 0.0, 3))
            columns.elevation_deg.append(round(state.elevation_deg or 0.0, 3))
            columns.slant_range_m.append(round(state.slant_range_m or 0.0, 1))
            _append_channel(columns.uplink, state.uplink)
            _append_channel(columns.downlink, state.downlink)
            if self._next_state_ns % HARDWARE_STEP_NS == 0 and (state.antenna is not None or state.dish):
                _append_hardware(self._hardware, self._next_state_ns, state)
            self._next_state_ns += STATE_STEP_NS

    def finish(
        self,
        probes: dict[Direction, ProbeRun],
        bulk: BulkRun | None,
        *,
        interval_ns: int,
        connections: int = 1,
        interrupted: bool = False,
    ) -> RunRecord:
        """The record. To be called while the bench still runs, after the measuring processes have ended."""
        _, counters = self.tick()
        transfer = None
        if bulk is not None and len(bulk.at_ns):
            at = [self.since_start_ns(int(each)) for each in bulk.at_ns]
            transfer = Transfer(
                at_ns=at,
                bytes=bulk.total_bytes.tolist(),
                congestion=bulk.congestion,
                connections=connections,
                retransmitted=bulk.retransmitted,
            )
        busy = [(transfer.at_ns[0], transfer.at_ns[-1])] if transfer else []
        scenario = self._bench.scenario
        record = RunRecord(
            version=__version__,
            title=self._title,
            scenario_name=scenario.name or "scenario",
            scenario=scenario.model_dump(mode="json"),
            seed=scenario.seed,
            start_utc_ns=self.start_utc_ns,
            duration_ns=self._counters.at_ns[-1],
            interrupted=interrupted,
            slot_s=self.slot_s,
            slot_phase_s=self.slot_phase_s,
            states=self._states,
            hardware=self._hardware,
            counters=self._counters,
            transfer=transfer,
            events=sorted(self.events, key=lambda event: event.at_ns),
            checks=self.checks,
            evidence=evidence_between(self._began, counters),
            machine={"Linux": platform.release(), "Python": platform.python_version()},
        )
        for direction, run in probes.items():
            series = self._probes(direction, run, busy, interval_ns)
            if direction == "uplink":
                record.uplink_probes = series
            else:
                record.downlink_probes = series
        return record

    def _probes(
        self, direction: Direction, run: ProbeRun, busy: list[tuple[int, int]], interval_ns: int
    ) -> ProbeSeries:
        sent = np.array([self.since_start_ns(at_ns) for at_ns in run.sent_ns.tolist()], np.int64)
        channel = getattr(self._states, direction)

        def exact(at_ns: int) -> ChannelState:
            state = self._bench.state_at(self.start_utc_ns + at_ns)
            return state.uplink if direction == "uplink" else state.downlink

        commanded, rate = commanded_at(sent, self._states.at_ns, channel, exact)
        options = link_options(self._bench.scenario, direction, 0)
        service = Service(
            bits=(self._probe_bytes + options.overhead_bytes) * 8,
            epoch_utc_ns=self.start_utc_ns,
            frame_ns=options.frame_ns,
            grant_ns=options.grant_ns,
            request_ns=options.request_ns,
            request_kept_ns=options.request_kept_ns,
            request_volume=options.request_volume,
        )
        launched = service.launches_ns(sent, rate)
        jitter = self._jitter_ns(direction, self.start_utc_ns + launched, options.jitter_bin_ns)
        troubles = busy + _shut(self._states.at_ns, channel) + [(at, at) for at in self._boundaries()]
        troubles += self._strangers(direction, sent, service)
        calm = calm_probes(sent, troubles)
        known = ~run.lost
        if jitter.any():
            first, last = (
                (self.start_utc_ns + service.launches_ns(sent + shift_ns, rate)) // options.jitter_bin_ns
                for shift_ns in (-BIN_EDGE_NS, BIN_LATE_NS)
            )
            calm &= first == last
            known &= first == last  # nobody is held up behind what may have left earlier than this
        return ProbeSeries(
            sent_ns=sent.tolist(),
            delay_ns=run.delay_ns.tolist(),
            commanded_ns=commanded.tolist(),
            expected_ns=expected_delay_ns(sent, commanded, launched - sent + jitter, known).tolist(),
            calm=calm.astype(np.int64).tolist(),
            stamp_source=run.stamp_source,
            interval_ns=interval_ns,
            not_sent=run.not_sent,
            refused=run.refused,
            receiver_overflow=run.receiver_overflow,
        )

    def _strangers(self, direction: Direction, sent: Ints, service: Service) -> list[tuple[int, int]]:
        """When packets that are no probes may have made these wait, or have let them go earlier."""
        at = np.array(self._counters.at_ns, np.int64)
        channel: ChannelSeries = getattr(self._states, direction)
        if len(at) < 2 or not channel.rate_bps:
            return []
        offered = np.array(getattr(self._counters, direction).offered_bytes, np.int64)
        others = offered - np.searchsorted(sent, at) * self._probe_bytes
        carried = np.diff(np.maximum.accumulate(others))  # less it was where probes were stamped and not offered yet
        row = np.clip(np.searchsorted(self._states.at_ns, at[:-1], side="right") - 1, 0, None)
        rate = np.array(channel.rate_bps, np.int64)[row]
        share = 0.0 if service.on_demand else STRANGERS_SHARE
        allowed = 2 * self._probe_bytes + share * rate / 8 * np.diff(at) / NS_PER_S
        too_much = (carried > allowed) & ((rate > 0) | service.on_demand)
        return [(int(at[index]), int(at[index + 1])) for index in np.flatnonzero(too_much)]

    def _boundaries(self) -> list[int]:
        if not self.slot_s:
            return []
        slot_ns = round(self.slot_s * NS_PER_S)
        first = (round(self.slot_phase_s * NS_PER_S) - self.start_utc_ns) % slot_ns
        return list(range(first, self._counters.at_ns[-1] + 1, slot_ns))

    def _jitter_ns(self, direction: Direction, utc_ns: Ints, bin_ns: int) -> Ints:
        """What the link's jitter adds at each instant: the draw of its time bin, scaled by the mean of that time."""
        scenario = self._bench.scenario
        jitter = np.zeros(len(utc_ns), np.int64)
        if isinstance(scenario.link, PlainLink) and not len(utc_ns):
            return jitter
        shape = link_options(scenario, direction, 0).jitter or Jitter()
        table, weights = jitter_table(shape), memory_weights(shape.correlation)
        normal = normal_table() if len(weights) else np.zeros((2, 0), np.int64)
        drawn_by = np.zeros(link_state.REGISTERS, np.int64)
        drawn_by[link_state.SEED], drawn_by[link_state.DIRECTION] = scenario.seed, DIRECTIONS.index(direction)
        bins, place = np.unique(utc_ns // bin_ns, return_inverse=True)
        for index, time_bin in enumerate(bins):
            at = int(time_bin) * bin_ns
            channel = getattr(self._bench.timeline_at(at), direction)
            row = max(0, int(np.searchsorted(channel.start_ns, at, side="right")) - 1)
            mean_ns = int(channel.jitter_ns[row])
            if mean_ns:
                share = share_of(drawn_by, normal, weights, int(time_bin))
                jitter[place == index] = mean_ns * int(table[share]) // JITTER_ONE
        return jitter


def commanded_at(
    sent_ns: Ints, at_ns: list[int], channel: ChannelSeries, exact: Callable[[int], ChannelState]
) -> tuple[Ints, Ints]:
    """(delay, rate) of the channel at each of `sent_ns`, from the recorded instants `at_ns`.

    The delay is a straight line between two instants; where it steps, or the rate or the gate changes in between,
    `exact` is asked.
    """
    if not len(sent_ns):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at, delay = np.array(at_ns, np.int64), np.array(channel.delay_ns, np.int64)
    rate, gate = np.array(channel.rate_bps, np.int64), np.array(channel.gate, np.int64)
    before = np.clip(np.searchsorted(at, sent_ns, side="right") - 1, 0, len(at) - 1)
    after = np.minimum(before + 1, len(at) - 1)
    commanded = np.rint(np.interp(sent_ns - at[0], at - at[0], delay)).astype(np.int64)
    rates = rate[before]
    smooth = (
        (np.abs(delay[after] - delay[before]) < SAME_DELAY_NS)
        & (rate[after] == rate[before])
        & (gate[after] == gate[before])
    )
    smooth &= (sent_ns >= at[0]) & (sent_ns <= at[-1])
    for index in np.flatnonzero(~smooth):
        state = exact(int(sent_ns[index]))
        commanded[index], rates[index] = state.delay_ns, state.rate_bps
    return commanded, rates


def _shut(at_ns: list[int], channel: ChannelSeries) -> list[tuple[int, int]]:
    """The stretches in which the gate was not open."""
    shut = np.concatenate([[False], np.array(channel.gate, np.int64) != Gate.PASS, [False]])
    edges = np.flatnonzero(shut[1:] != shut[:-1])
    return [
        (at_ns[max(0, first - 1)], at_ns[min(last, len(at_ns) - 1)])
        for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]


def _index(names: list[str], name: str) -> int:
    if not name:
        return -1
    if name not in names:
        names.append(name)
    return names.index(name)


def _append_channel(columns: ChannelSeries, state: ChannelState) -> None:
    columns.delay_ns.append(state.delay_ns)
    columns.rate_bps.append(state.rate_bps)
    columns.loss.append(state.loss)
    columns.gate.append(int(state.gate))
    columns.cause.append(int(state.cause))


def _append_hardware(columns: HardwareSeries, at_ns: int, state: LinkState) -> None:
    antenna = state.antenna
    columns.at_ns.append(at_ns)
    columns.dish.append(_index(columns.words, state.dish))
    azimuth, elevation = (antenna.beam_azimuth_deg, antenna.beam_elevation_deg) if antenna else (None, None)
    columns.beam_azimuth_deg.append(round(azimuth or 0.0, 3))
    columns.beam_elevation_deg.append(round(elevation or 0.0, 3))
    off_deg = antenna.off_deg if antenna else None
    columns.off_deg.append(-1.0 if off_deg is None else round(off_deg, 4))
    columns.loss_db.append(round(min(antenna.receive_loss_db, MOST_DB), 2) if antenna else 0.0)
    columns.locked.append(int(antenna.locked) if antenna else 1)


def _append_counts(columns: DirectionCounts, counters: DirectionCounters, rows: int) -> None:
    columns.offered_packets.append(counters.offered_packets)
    columns.copied_packets.append(counters.copied_packets)
    columns.offered_bytes.append(counters.offered_bytes)
    columns.delivered_packets.append(counters.delivered_packets)
    columns.delivered_bytes.append(counters.delivered_bytes)
    columns.held_packets.append(counters.held_packets)
    for cause, count in counters.dropped.items():
        columns.dropped.setdefault(Cause(cause).name, [0] * (rows - 1)).append(count)
    for column in columns.dropped.values():
        if len(column) < rows:
            column.append(column[-1] if column else 0)
