"""The Timeline of a Starlink link: slot by slot, from who serves to delay, rate, loss and gates.

A slot's rows are a function of (scenario, slot) alone. Windows are cut out of slots between rows, never inside one, so
that windows that are joined have the same rows as one long window.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path as FilePath
from threading import Lock

import numpy as np
import numpy.typing as npt

from emulator.orbit.look import Look, look
from emulator.orbit.source import satellites_of
from emulator.radio.clear_sky import clear_sky_cn_centidb
from emulator.radio.modcod import LOWEST_CN_CENTIDB
from emulator.scenario.model import OrbitDirection, Scenario, StarlinkLink
from emulator.serving.starlink import SLOT_NS, GroundStation, StarlinkPolicy, masks_deg
from emulator.timeline.budget import DelayPart
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, draw32, quantile, uniform
from emulator.timeline.model import LOSS_ONE, Channel, Floats, Ints, Path, Timeline, Windows
from emulator.units import FIBRE_SPEED_M_S, NS_PER_MS, NS_PER_S, SPEED_OF_LIGHT_M_S

SLOT_SECONDS = SLOT_NS // NS_PER_S
SLOTS_KEPT = 64  # 16 minutes of slots that need not be made again when windows overlap
LEAST_RATE_BPS = 1_000  # a drawn rate of 0 would mean no limit


@dataclass(frozen=True)
class Slot:
    """The rows of a slot. uplink, downlink: (9, rows), in the order of `Channel`'s fields.

    satellite, gateway: indices into the run's. legs_ns: (2, seconds): terminal–satellite, satellite–gateway.
    """

    start_ns: Ints
    uplink: Ints
    downlink: Ints
    azimuth_deg: Floats
    elevation_deg: Floats
    slant_range_m: Floats
    number: int
    satellite: int
    gateway: int
    legs_ns: Ints
    spread_ns: tuple[int, int]


@dataclass(frozen=True)
class Phase:
    """A part of a slot in which the gate is not simply open."""

    start_ns: int
    end_ns: int
    gate: Gate
    cause: Cause


class StarlinkWindows(Windows):
    """Plans the link of a scenario of profile `starlink`. `notes`: what was left out of the elements, a line each.

    Raises ElementsError for elements that cannot be used, CoverageError if no satellite serves the terminal.
    """

    def __init__(self, scenario: Scenario, *, elements: FilePath | None = None, epoch_utc_ns: int) -> None:
        link = scenario.link
        if not isinstance(link, StarlinkLink) or not (scenario.terminal and scenario.constellation and scenario.pop):
            raise ValueError(f"expected a scenario of link.profile 'starlink', got {link.profile!r}")
        self._link = link
        self._seed = scenario.seed
        satellites, self.notes = satellites_of(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        self.satellites = satellites.names
        stations = [GroundStation.of(gateway, scenario.pop, link.fibre_detour) for gateway in scenario.gateways]
        self.gateways = tuple(station.name for station in stations)
        self._fibre_ns = [round(station.fibre_m / FIBRE_SPEED_M_S * NS_PER_S) for station in stations]
        self._datacenter_ns = round(scenario.datacenter.fibre_ms * NS_PER_MS)
        self.policy = StarlinkPolicy(
            satellites,
            masks_deg(satellites, scenario.constellation, scenario.terminal),
            scenario.terminal,
            stations,
            round(link.slot_phase_s * NS_PER_S),
            lambda slot: int(draw32(self._seed, Way.BOTH, Purpose.SERVING, np.array([slot]))[0]),
        )
        self._slots: OrderedDict[int, Slot] = OrderedDict()
        self._lock = Lock()
        self.policy.require_coverage(epoch_utc_ns)

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        slots = self._slots_between(start_ns, end_ns)
        starts = np.concatenate([slot.start_ns for slot in slots])
        rows = slice(
            int(np.searchsorted(starts, start_ns, side="right")) - 1, int(np.searchsorted(starts, end_ns, side="left"))
        )
        lengths = [len(slot.start_ns) for slot in slots]
        satellite, satellites = _local([slot.satellite for slot in slots], lengths, rows, self.satellites)
        gateway, gateways = _local([slot.gateway for slot in slots], lengths, rows, self.gateways)
        path = Path(
            starts[rows],
            satellite,
            gateway,
            np.concatenate([slot.azimuth_deg for slot in slots])[rows],
            np.concatenate([slot.elevation_deg for slot in slots])[rows],
            np.concatenate([slot.slant_range_m for slot in slots])[rows],
            np.repeat([slot.number for slot in slots], lengths)[rows],
        )
        uplink = Channel(*np.concatenate([slot.uplink for slot in slots], axis=1)[:, rows])
        downlink = Channel(*np.concatenate([slot.downlink for slot in slots], axis=1)[:, rows])
        return Timeline(start_ns, end_ns, uplink, downlink, path, satellites, gateways)

    def delay_parts(self, start_ns: int, end_ns: int) -> list[DelayPart]:
        """Sampled at the seconds of a window in which a satellite serves."""
        slots = [slot for slot in self._slots_between(start_ns, end_ns) if slot.satellite >= 0]
        counts, legs = [], [np.zeros((2, 0), np.int64)]
        for slot in slots:
            seconds_ns = self.policy.slot_start_ns(slot.number) + np.arange(SLOT_SECONDS, dtype=np.int64) * NS_PER_S
            inside = (seconds_ns >= start_ns) & (seconds_ns < end_ns)
            counts.append(int(inside.sum()))
            legs.append(slot.legs_ns[:, inside])
        service_ns, feeder_ns = np.concatenate(legs, axis=1)
        fibre_ns = np.repeat(np.array([self._fibre_ns[slot.gateway] for slot in slots], np.int64), counts)
        spread_ns = [np.repeat(np.array([slot.spread_ns[way] for slot in slots], np.int64), counts) for way in (0, 1)]
        up, down = self._link.uplink, self._link.downlink

        def always(name: str, up_ms: float, down_ms: float) -> DelayPart:
            constants = (np.full(sum(counts), round(value * NS_PER_MS), np.int64) for value in (up_ms, down_ms))
            return DelayPart(name, *constants)

        return [
            DelayPart("terminal to satellite", service_ns, service_ns),
            DelayPart("satellite to gateway", feeder_ns, feeder_ns),
            DelayPart("fibre to point of presence", fibre_ns, fibre_ns),
            always("fibre to datacenter", self._datacenter_ns / NS_PER_MS, self._datacenter_ns / NS_PER_MS),
            always("scheduling and processing", up.fixed_ms, down.fixed_ms),
            DelayPart("slot's schedule", *spread_ns),
            always("jitter, mean", up.jitter_ms, down.jitter_ms),
        ]

    def _slots_between(self, start_ns: int, end_ns: int) -> list[Slot]:
        first, last = self.policy.slot_at(start_ns), self.policy.slot_at(end_ns - 1)
        return [self._slot(number) for number in range(first, last + 1)]

    def _slot(self, number: int) -> Slot:
        with self._lock:
            slot = self._slots.get(number)
            if slot is None:
                slot = self._slots[number] = self._make(number)
                if len(self._slots) > SLOTS_KEPT:
                    self._slots.popitem(last=False)
        return slot

    def _make(self, number: int) -> Slot:
        start_ns = self.policy.slot_start_ns(number)
        serving, before = self.policy.serving(number), self.policy.serving(number - 1)
        phases = [
            *self._handover(start_ns, changed=serving.satellite != before.satellite),
            *self._outages(start_ns, start_ns + SLOT_NS),
        ]
        if serving.satellite < 0:
            phases.append(Phase(start_ns, start_ns + SLOT_NS, Gate.DROP, Cause.NO_SATELLITE))
        seconds_ns = start_ns + np.arange(SLOT_SECONDS + 1, dtype=np.int64) * NS_PER_S
        edges = [edge for phase in phases for edge in (phase.start_ns, phase.end_ns)]
        times_ns = np.union1d(seconds_ns, np.array(edges, np.int64).clip(start_ns, start_ns + SLOT_NS))
        at_second = np.searchsorted(times_ns, seconds_ns)
        gate, cause = _gates(times_ns[:-1], phases)
        if serving.satellite < 0:
            seen, legs_ns, fibre_ns = None, np.zeros((2, SLOT_SECONDS + 1), np.int64), 0
            unknown = np.full(len(times_ns) - 1, np.nan)
            azimuth = elevation = slant_range = unknown
        else:
            position = self.policy.propagator.positions_m(times_ns, np.array([serving.satellite]))[0]
            seen = look(self.policy.observer, position)
            from_gateway = look(self.policy.gateways[serving.gateway].observer, position)
            legs_ns = _flight_ns(np.stack([seen.range_m, from_gateway.range_m])[:, at_second])
            fibre_ns = self._fibre_ns[serving.gateway]
            azimuth, elevation, slant_range = seen.azimuth_deg[:-1], seen.elevation_deg[:-1], seen.range_m[:-1]
        spreads, channels = [], []
        for way, link in ((Way.UP, self._link.uplink), (Way.DOWN, self._link.downlink)):
            share = float(uniform(self._seed, way, Purpose.SPREAD, np.array([number]))[0])
            spread_ns = int(share * link.slot_spread_ms * NS_PER_MS)
            constant_ns = fibre_ns + self._datacenter_ns + round(link.fixed_ms * NS_PER_MS) + spread_ns
            spreads.append(spread_ns)
            second = (times_ns[:-1] - start_ns) // NS_PER_S
            delay_ns = legs_ns.sum(axis=0) + constant_ns
            slope = np.diff(delay_ns)
            channels.append(
                np.stack(
                    [
                        times_ns[:-1],
                        delay_ns[second] + slope[second] * (times_ns[:-1] - seconds_ns[second]) // NS_PER_S,
                        slope[second],
                        self._rates(number, way, link)[second],
                        np.full(len(second), round(link.loss * LOSS_ONE)),
                        np.full(len(second), round(link.jitter_ms * NS_PER_MS)),
                        _cn(seen, at_second, link)[second],
                        gate,
                        cause,
                    ]
                )
            )
        return Slot(
            times_ns[:-1],
            channels[0],
            channels[1],
            azimuth,
            elevation,
            slant_range,
            number,
            serving.satellite,
            serving.gateway,
            legs_ns[:, :-1],
            (spreads[0], spreads[1]),
        )

    def _rates(self, number: int, way: Way, link: OrbitDirection) -> Ints:
        """Rate of each second of a slot: drawn for the slot, with a wobble by the second."""
        if link.rate_mbps.p100 == 0:
            return np.zeros(SLOT_SECONDS, np.int64)
        slot_bps = quantile(link.rate_mbps, uniform(self._seed, way, Purpose.RATE, np.array([number]))) * 1e6
        seconds = number * SLOT_SECONDS + np.arange(SLOT_SECONDS, dtype=np.int64)
        wobble = 1 + link.rate_wobble * (2 * uniform(self._seed, way, Purpose.WOBBLE, seconds) - 1)
        return np.maximum(np.rint(slot_bps * wobble).astype(np.int64), LEAST_RATE_BPS)

    def _handover(self, start_ns: int, *, changed: bool) -> list[Phase]:
        """The phases at a slot's beginning; the slot's end is theirs as well."""
        handover = self._link.handover
        if not changed:
            end_ns = start_ns + round(handover.reconfigure_hold_ms * NS_PER_MS)
            return [Phase(start_ns, end_ns, Gate.HOLD, Cause.HANDOVER)]
        drop_ns = start_ns + round(handover.drop_ms * NS_PER_MS)
        hold_ns = drop_ns + round(handover.hold_ms * NS_PER_MS)
        return [Phase(start_ns, drop_ns, Gate.DROP, Cause.HANDOVER), Phase(drop_ns, hold_ns, Gate.HOLD, Cause.HANDOVER)]

    def _outages(self, start_ns: int, end_ns: int) -> list[Phase]:
        """The outages that overlap [start_ns, end_ns), both directions alike.

        In each UTC second one begins with the same small chance, at a millisecond of it, and lasts as drawn: whoever
        asks for any stretch of time looks back far enough to find those that began before it.
        """
        outages = self._link.outages
        longest_s = int(np.ceil(outages.duration_s.p100))
        if outages.per_hour == 0 or longest_s == 0:
            return []
        seconds = np.arange(start_ns // NS_PER_S - longest_s - 1, -(-end_ns // NS_PER_S), dtype=np.int64)
        chance = round(outages.per_hour / 3600 * 2**32)
        seconds = seconds[draw32(self._seed, Way.BOTH, Purpose.OUTAGE_START, seconds) < chance]
        offset_ms = (draw32(self._seed, Way.BOTH, Purpose.OUTAGE_OFFSET, seconds) * 1000) >> 32
        duration = quantile(outages.duration_s, uniform(self._seed, Way.BOTH, Purpose.OUTAGE_DURATION, seconds))
        begin = seconds * NS_PER_S + offset_ms * NS_PER_MS
        end = begin + np.rint(duration * 1000).astype(np.int64) * NS_PER_MS
        return [
            Phase(int(first), int(last), Gate.DROP, Cause.OUTAGE)
            for first, last in zip(begin, end, strict=True)
            if first < end_ns and last > start_ns
        ]


def _gates(times_ns: Ints, phases: list[Phase]) -> tuple[Ints, Ints]:
    """Gate and cause at each time; later phases of the list are the stronger ones."""
    gate = np.full(len(times_ns), int(Gate.PASS), np.int64)
    cause = np.full(len(times_ns), int(Cause.NONE), np.int64)
    for phase in phases:
        inside = (times_ns >= phase.start_ns) & (times_ns < phase.end_ns)
        gate[inside], cause[inside] = int(phase.gate), int(phase.cause)
    return gate, cause


def _flight_ns(range_m: Floats) -> Ints:
    return np.rint(range_m / SPEED_OF_LIGHT_M_S * NS_PER_S).astype(np.int64)


def _cn(seen: Look | None, at_second: npt.NDArray[np.intp], link: OrbitDirection) -> Ints:
    """C/N at each second of a slot, dB × 100."""
    if seen is None:
        return np.full(SLOT_SECONDS + 1, LOWEST_CN_CENTIDB, np.int64)
    return clear_sky_cn_centidb(seen.range_m[at_second], link.clear_sky_cn_db)


def _local(of_slot: list[int], lengths: list[int], rows: slice, names: tuple[str, ...]) -> tuple[Ints, tuple[str, ...]]:
    """Indices into the run's names, one per slot → one per row, and the names that these point to."""
    per_row = np.repeat(np.array(of_slot, np.int64), lengths)[rows]
    used = [int(index) for index in np.unique(per_row) if index >= 0]
    place = {index: local for local, index in enumerate(used)}
    return np.array([place.get(int(index), -1) for index in per_row], np.int64), tuple(names[index] for index in used)
