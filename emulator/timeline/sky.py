"""The Timeline of any link with a sky: from who serves to delay, rate, loss and gates, stretch by stretch.

Time is cut into stretches of equal length, numbered since 1970 (Starlink: its slots; else UTC minutes). The rows of a
stretch are a function of (scenario, number) alone. Windows are cut out of stretches between rows, never inside one, so
that windows that are joined have the same rows as one long window.

A system says who serves (`_stints`), where that satellite is (`_seen`), when the gate is not simply open (`_phases`),
and what the radio carries (`_rates`, `_cn`); all else is here.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from emulator.errors import EmulationError
from emulator.radio.adaptive import best_efficiency
from emulator.radio.modcod import LOWEST_CN_CENTIDB
from emulator.scenario.laws import Quantiles
from emulator.scenario.links import OrbitDirection, SkyDirection, SkyLink
from emulator.scenario.model import Scenario
from emulator.serving.pins import Pin, Pinnable
from emulator.serving.stations import GroundStation
from emulator.timeline.budget import DelayPart
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.draws import Purpose, Way, draw32, quantile, uniform
from emulator.timeline.model import LOSS_ONE, Channel, Floats, Ints, Path, Timeline, Windows
from emulator.units import FIBRE_SPEED_M_S, NS_PER_MS, NS_PER_S, SPEED_OF_LIGHT_M_S

OUTAGE_CAUSES = {
    "no_downlink": Cause.OUTAGE,
    "no_pings": Cause.NO_PINGS,
    "obstructed": Cause.OBSTRUCTION,
    "no_schedule": Cause.NO_SCHEDULE,
    "booting": Cause.BOOTING,
}
WAYS = {"both": Way.BOTH, "uplink": Way.UP, "downlink": Way.DOWN}
KIND_SHIFT = 40  # of an outage kind's number in its draws' counters, above every second until the year 36812
STRETCHES_KEPT = 64  # that need not be made again when windows overlap
BENT_PIPE = ("terminal to satellite", "satellite to gateway")


class Stint(NamedTuple):
    """Who serves from start_ns to end_ns, whole seconds apart: indices of satellite and gateway, −1 for none."""

    start_ns: int
    end_ns: int
    satellite: int
    gateway: int


class Phase(NamedTuple):
    """A time in which the gate is not simply open, for one direction or both."""

    start_ns: int
    end_ns: int
    gate: Gate
    cause: Cause
    way: Way = Way.BOTH


@dataclass(frozen=True)
class Seen:
    """A satellite at some times, (times,): where it stands, and how long the legs of the path are, (legs, times)."""

    azimuth_deg: Floats
    elevation_deg: Floats
    slant_range_m: Floats
    legs_m: Floats


@dataclass(frozen=True)
class Segment:
    """The rows of a stint. uplink, downlink: (9, rows), in the order of `Channel`'s fields.

    number: of the stretch. satellite, gateway: indices into the run's. legs_ns: (legs, seconds). spread_ns: what the
    stretch's schedule adds, by direction.
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
    seconds_ns: Ints
    legs_ns: Ints
    spread_ns: tuple[int, int]


class SkyWindows(Windows):
    """Plans a link with a sky; each system subclasses it and overrides the methods with an underscore that it needs.

    stretch_ns, phase_ns: stretch n lasts from n·stretch_ns + phase_ns. satellites: the run's names.
    """

    legs: tuple[str, ...] = BENT_PIPE
    pin = Pin()  # what an operator lets serve
    _forced: tuple[Phase, ...] = ()  # and what gates that does

    def __init__(
        self,
        scenario: Scenario,
        link: SkyLink,
        ways: tuple[SkyDirection, SkyDirection],
        satellites: tuple[str, ...],
        stations: Sequence[GroundStation],
        *,
        stretch_ns: int,
        phase_ns: int = 0,
    ) -> None:
        self._seed = scenario.seed
        self._outage_law = link.outages
        self._fades = link.weather.rain
        self._scheduled = any(isinstance(way, OrbitDirection) and way.slot_spread_ms > 0 for way in ways)
        self._ways = dict(zip((Way.UP, Way.DOWN), ways, strict=True))
        self.satellites = satellites
        self.gateways = tuple(station.name for station in stations)
        self._fibre_ns = [round(station.fibre_m / FIBRE_SPEED_M_S * NS_PER_S) for station in stations]
        self._datacenter_ns = round(scenario.datacenter.fibre_ms * NS_PER_MS)
        self.stretch_ns = stretch_ns
        self._phase_ns = phase_ns
        self._made: OrderedDict[int, tuple[Segment, ...]] = OrderedDict()
        self._lock = Lock()

    def _stints(self, number: int) -> list[Stint]:
        """Who serves in a stretch, without gaps."""
        raise NotImplementedError

    def _seen(self, stint: Stint, times_ns: Ints) -> Seen:
        """The satellite of a stint at times of it, its end included."""
        raise NotImplementedError

    def _phases(self, number: int) -> list[Phase]:
        """When the gate is not simply open, within the stretch or beyond; later ones are the stronger ones."""
        return self._outages(number * self.stretch_ns + self._phase_ns, (number + 1) * self.stretch_ns + self._phase_ns)

    def _spread_ns(self, number: int, way: Way) -> int:
        """What the schedule of a stretch adds to the delay."""
        return 0

    def _rates(self, number: int, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        """Bit per second in each second of a stint; `seen` holds at these seconds and at the end of the last.

        Asked for stints without a satellite too (NaN in `seen`): what is sent then takes its time, and is lost.
        """
        raise NotImplementedError

    def _cn(self, way: Way, seen: Seen, seconds_ns: Ints) -> Ints:
        """C/N in dB × 100 at the same."""
        raise NotImplementedError

    def _loss(self, way: Way, seconds_ns: Ints) -> Ints:
        """Loss outside of handovers and outages at the same, × 2³²."""
        return np.full(len(seconds_ns), round(self._ways[way].loss * LOSS_ONE))

    def handover_phases(self, at_ns: int) -> list[Phase]:
        """What a change of satellite at any instant does to the gate."""
        return []

    def steered(self, pin: Pin, phases: Sequence[Phase]) -> Self:
        """The same plan under a pin, with these phases in addition. Raises EmulationError where there is no choice."""
        policy = getattr(self, "policy", None)
        if not isinstance(policy, Pinnable):
            raise EmulationError("this link has no choice of satellites or gateways")
        other = copy.copy(self)
        setattr(other, "policy", policy.pinned(pin))  # noqa: B010 (each system declares its own kind)
        other.pin, other._forced = pin, tuple(phases)
        other._made, other._lock = OrderedDict(), Lock()
        return other

    def steady_gates(
        self, utc_ns: Ints, served: npt.NDArray[np.bool_], cn_centidb: Sequence[Ints]
    ) -> tuple[Ints, Ints]:
        """Gate and cause at rising times, of the worse direction, as if changes of satellite took no time.

        served: whether a satellite serves then; cn_centidb: C/N then in dB × 100, by direction.
        """
        outages = self._outages(int(utc_ns[0]), int(utc_ns[-1]) + 1)
        by_way = []
        for way, cn in zip(self._ways, cn_centidb, strict=True):
            faded = served & (best_efficiency(cn / 100) == 0) if self._fades else None
            gate, cause = _gates(utc_ns, [phase for phase in outages if phase.way in (way, Way.BOTH)], faded)
            gate[~served], cause[~served] = int(Gate.DROP), int(Cause.NO_SATELLITE)
            by_way.append((gate, cause))
        (up_gate, up_cause), (down_gate, down_cause) = by_way
        downs = down_gate > up_gate
        return np.where(downs, down_gate, up_gate), np.where(downs, down_cause, up_cause)

    def over_m(self, utc_ns: int) -> Floats:
        """Where the satellites are over which the way leads from the serving one on, ECEF, (satellites, 3)."""
        return np.zeros((0, 3))

    def stretch_at(self, utc_ns: int) -> int:
        """Number of the stretch that holds `utc_ns`."""
        return (utc_ns - self._phase_ns) // self.stretch_ns

    def stretch_start_ns(self, number: Ints) -> Ints:
        """UTC at which stretches begin."""
        return number * self.stretch_ns + self._phase_ns

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        segments = self._between(start_ns, end_ns)
        starts = np.concatenate([segment.start_ns for segment in segments])
        rows = slice(
            int(np.searchsorted(starts, start_ns, side="right")) - 1, int(np.searchsorted(starts, end_ns, side="left"))
        )
        lengths = [len(segment.start_ns) for segment in segments]
        satellite, satellites = _local([segment.satellite for segment in segments], lengths, rows, self.satellites)
        gateway, gateways = _local([segment.gateway for segment in segments], lengths, rows, self.gateways)
        path = Path(
            starts[rows],
            satellite,
            gateway,
            np.concatenate([segment.azimuth_deg for segment in segments])[rows],
            np.concatenate([segment.elevation_deg for segment in segments])[rows],
            np.concatenate([segment.slant_range_m for segment in segments])[rows],
            np.repeat([segment.number for segment in segments], lengths)[rows],
        )
        uplink = Channel(*np.concatenate([segment.uplink for segment in segments], axis=1)[:, rows])
        downlink = Channel(*np.concatenate([segment.downlink for segment in segments], axis=1)[:, rows])
        return Timeline(start_ns, end_ns, uplink, downlink, path, satellites, gateways)

    def delay_parts(self, start_ns: int, end_ns: int) -> list[DelayPart]:
        """Sampled at the seconds of a window in which a satellite serves."""
        segments = [segment for segment in self._between(start_ns, end_ns) if segment.satellite >= 0]
        counts, legs = [], [np.zeros((len(self.legs), 0), np.int64)]
        for segment in segments:
            inside = (segment.seconds_ns >= start_ns) & (segment.seconds_ns < end_ns)
            counts.append(int(inside.sum()))
            legs.append(segment.legs_ns[:, inside])

        def repeated(of_segment: list[int]) -> Ints:
            return np.repeat(np.array(of_segment, np.int64), counts)

        fibre_ns = repeated([self._fibre_ns[segment.gateway] for segment in segments])
        spread_ns = [repeated([segment.spread_ns[way] for segment in segments]) for way in (0, 1)]
        up, down = self._ways[Way.UP], self._ways[Way.DOWN]

        def always(name: str, up_ms: float, down_ms: float) -> DelayPart:
            constants = (np.full(sum(counts), round(value * NS_PER_MS), np.int64) for value in (up_ms, down_ms))
            return DelayPart(name, *constants)

        return [
            *(DelayPart(name, leg, leg) for name, leg in zip(self.legs, np.concatenate(legs, axis=1), strict=True)),
            DelayPart("fibre to point of presence", fibre_ns, fibre_ns),
            always("fibre to datacenter", self._datacenter_ns / NS_PER_MS, self._datacenter_ns / NS_PER_MS),
            always("scheduling and processing", up.fixed_ms, down.fixed_ms),
            *([DelayPart("slot's schedule", *spread_ns)] if self._scheduled else []),
            *(
                [always("frame and grant, mean", (up.frame_ms + up.grant_ms) / 2, (down.frame_ms + down.grant_ms) / 2)]
                if any(way.frame_ms + way.grant_ms > 0 for way in (up, down))
                else []
            ),
            always("jitter, mean", up.jitter_ms, down.jitter_ms),
        ]

    def _between(self, start_ns: int, end_ns: int) -> list[Segment]:
        first, last = self.stretch_at(start_ns), self.stretch_at(end_ns - 1)
        return [segment for number in range(first, last + 1) for segment in self._stretch(number)]

    def _stretch(self, number: int) -> tuple[Segment, ...]:
        with self._lock:
            made = self._made.get(number)
            if made is None:
                phases = [*self._phases(number), *self._forced]
                made = tuple(self._segment(number, stint, phases) for stint in self._stints(number))
                self._made[number] = made
                if len(self._made) > STRETCHES_KEPT:
                    self._made.popitem(last=False)
        return made

    def _segment(self, number: int, stint: Stint, phases: list[Phase]) -> Segment:
        start_ns, end_ns, serves = stint.start_ns, stint.end_ns, stint.satellite >= 0
        if not serves:
            phases = [*phases, Phase(start_ns, end_ns, Gate.DROP, Cause.NO_SATELLITE)]
        phases = [phase for phase in phases if phase.start_ns < end_ns and phase.end_ns > start_ns]
        seconds_ns = np.arange(start_ns, end_ns + 1, NS_PER_S, dtype=np.int64)
        edges = [edge for phase in phases for edge in (phase.start_ns, phase.end_ns)]
        times_ns = np.union1d(seconds_ns, np.array(edges, np.int64).clip(start_ns, end_ns))
        at_second = np.searchsorted(times_ns, seconds_ns)
        starts_ns = times_ns[:-1]
        second = (starts_ns - start_ns) // NS_PER_S
        if serves:
            seen, fibre_ns = self._seen(stint, times_ns), self._fibre_ns[stint.gateway]
        else:
            unknown = np.full(len(times_ns), np.nan)
            seen, fibre_ns = Seen(unknown, unknown, unknown, np.zeros((len(self.legs), len(times_ns)))), 0
        by_second = Seen(
            seen.azimuth_deg[at_second],
            seen.elevation_deg[at_second],
            seen.slant_range_m[at_second],
            seen.legs_m[:, at_second],
        )
        legs_ns = np.rint(by_second.legs_m / SPEED_OF_LIGHT_M_S * NS_PER_S).astype(np.int64)
        channels, spreads = [], []
        for way, link in self._ways.items():
            spreads.append(self._spread_ns(number, way))
            constant_ns = fibre_ns + self._datacenter_ns + round(link.fixed_ms * NS_PER_MS) + spreads[-1]
            delay_ns = legs_ns.sum(axis=0) + constant_ns
            slope = np.diff(delay_ns)
            rates = self._rates(number, way, by_second, seconds_ns[:-1])
            cn = self._cn(way, by_second, seconds_ns[:-1]) if serves else np.full(len(slope), LOWEST_CN_CENTIDB)
            channels.append(
                np.stack(
                    [
                        starts_ns,
                        delay_ns[second] + slope[second] * (starts_ns - seconds_ns[second]) // NS_PER_S,
                        slope[second],
                        rates[second],
                        self._loss(way, seconds_ns[:-1])[second],
                        np.full(len(second), round(link.jitter_ms * NS_PER_MS)),
                        cn[second],
                        *_gates(
                            starts_ns,
                            [phase for phase in phases if phase.way in (way, Way.BOTH)],
                            faded=(best_efficiency(cn / 100) == 0)[second] if serves and self._fades else None,
                        ),
                    ]
                )
            )
        return Segment(
            starts_ns,
            channels[0],
            channels[1],
            seen.azimuth_deg[:-1],
            seen.elevation_deg[:-1],
            seen.slant_range_m[:-1],
            number,
            stint.satellite,
            stint.gateway,
            seconds_ns[:-1],
            legs_ns[:, :-1],
            (spreads[0], spreads[1]),
        )

    def _outages(self, start_ns: int, end_ns: int) -> list[Phase]:
        """The random outages that overlap [start_ns, end_ns).

        In each UTC second one of each kind begins with the same small chance, at a millisecond of it, and lasts as
        drawn: whoever asks for any stretch of time looks back far enough to find those that began before it.
        """
        law = self._outage_law
        phases = self._outages_of(0, law.per_hour, law.duration_s, Cause.OUTAGE, Way.BOTH, start_ns, end_ns)
        for number, kind in enumerate(law.kinds, start=1):
            cause, way = OUTAGE_CAUSES[kind.cause], WAYS[kind.direction]
            phases += self._outages_of(
                number, kind.per_hour, kind.duration_s, cause, way, start_ns, end_ns, until_stretch=kind.until_slot
            )
        return phases

    def _outages_of(
        self,
        number: int,
        per_hour: float,
        duration_s: Quantiles,
        cause: Cause,
        way: Way,
        start_ns: int,
        end_ns: int,
        *,
        until_stretch: bool = False,
    ) -> list[Phase]:
        longest_s = int(np.ceil(duration_s.p100)) + (self.stretch_ns // NS_PER_S if until_stretch else 0)
        if per_hour == 0 or longest_s == 0:
            return []
        seconds = np.arange(start_ns // NS_PER_S - longest_s - 1, -(-end_ns // NS_PER_S), dtype=np.int64)
        counter = seconds + (number << KIND_SHIFT)
        begins = draw32(self._seed, Way.BOTH, Purpose.OUTAGE_START, counter) < round(per_hour / 3600 * 2**32)
        seconds, counter = seconds[begins], counter[begins]
        offset_ms = (draw32(self._seed, Way.BOTH, Purpose.OUTAGE_OFFSET, counter) * 1000) >> 32
        duration = quantile(duration_s, uniform(self._seed, Way.BOTH, Purpose.OUTAGE_DURATION, counter))
        begin = seconds * NS_PER_S + offset_ms * NS_PER_MS
        end = begin + np.rint(duration * 1000).astype(np.int64) * NS_PER_MS
        if until_stretch:
            end += (self._phase_ns - end) % self.stretch_ns
        return [
            Phase(int(first), int(last), Gate.DROP, cause, way)
            for first, last in zip(begin, end, strict=True)
            if first < end_ns and last > start_ns
        ]


def _gates(times_ns: Ints, phases: list[Phase], faded: npt.NDArray[np.bool_] | None = None) -> tuple[Ints, Ints]:
    """Gate and cause at each time; later phases of the list are the stronger ones. faded: where no MODCOD closes."""
    gate = np.full(len(times_ns), int(Gate.PASS), np.int64)
    cause = np.full(len(times_ns), int(Cause.NONE), np.int64)
    for phase in phases:
        inside = (times_ns >= phase.start_ns) & (times_ns < phase.end_ns)
        gate[inside], cause[inside] = int(phase.gate), int(phase.cause)
    if faded is not None:
        shut = faded & (gate != Gate.DROP)
        gate[shut], cause[shut] = int(Gate.DROP), int(Cause.FADE)
    return gate, cause


def _local(
    of_segment: list[int], lengths: list[int], rows: slice, names: tuple[str, ...]
) -> tuple[Ints, tuple[str, ...]]:
    """Indices into the run's names, one per segment → one per row, and the names that these point to."""
    per_row = np.repeat(np.array(of_segment, np.int64), lengths)[rows]
    used = [int(index) for index in np.unique(per_row) if index >= 0]
    place = {index: local for local, index in enumerate(used)}
    return np.array([place.get(int(index), -1) for index in per_row], np.int64), tuple(names[index] for index in used)
