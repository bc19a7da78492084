"""The loop closed through the antenna: where it points decides what the packets get.

    controller (stub or hardware) ──report──▶ beam ─┐
      ▲                                             ├─▶ off by … ─▶ dB ─▶ overlay's fade ─▶ C/N ─▶ MODCOD ─▶ packets
      └──commands── tracking, or other programs   sky ┘

The fade is all that the loop does to the link: rate, and whether anything passes, follow from the C/N as under any
other fade. A stub's beam is known exactly, of hardware only what it reports.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from emulator.bench.snapshot import AntennaState
from emulator.errors import EmulationError, ScenarioError
from emulator.radio.modcod import efficiency_by_cn, row_of_cn
from emulator.scenario.hardware import AntennaTable
from emulator.scenario.model import OverlayEvent
from emulator.terminal import Antenna, Mount, Pose, Towards
from emulator.terminal.faulty import FaultyAntenna
from emulator.terminal.pointing import AttitudeTrack, Lock, Report, Sight
from emulator.timeline.table import sky_at
from emulator.units import NS_PER_MS, NS_PER_S
from firmware_stubs.registry import AntennaLine, Hardware, ServedStub, controller_line, stub_on

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

OWNER = "antenna"
FOR_EVER_S = 1e9
UNLOCKED_DB = 100.0  # no MODCOD closes below that much
STEP_DB = 0.05  # half of what the table of MODCODs tells apart
FOLLOW_NS = NS_PER_S // 5  # between two commands of the tracking
LEAD_NS = FOLLOW_NS // 2  # the satellite is aimed at where it is half way to the next command
KEPT = 1 << 14

log = logging.getLogger("bentpipe.antenna")


class DrivenAntenna(Antenna):
    """What other programs command through the bench: the antenna behind the line, wherever it is."""

    def __init__(self, mount: Mount, loop: AntennaLoop) -> None:
        super().__init__(mount)
        self._loop = loop

    def pose(self, now_ns: int) -> Pose:
        azimuth, elevation = self._loop.reported or (self.mount.park_azimuth_deg, self.mount.park_elevation_deg)
        return Pose(azimuth, elevation, azimuth, elevation, 0, 0)

    def point(self, now_ns: int, azimuth_deg: float | None = None, elevation_deg: float | None = None) -> bool:
        mount, now = self.mount, self.pose(now_ns)
        azimuth = now.azimuth_deg if azimuth_deg is None else azimuth_deg
        elevation = now.elevation_deg if elevation_deg is None else elevation_deg
        if not mount.azimuth_min_deg <= azimuth <= mount.azimuth_max_deg:
            return False
        if not mount.elevation_min_deg <= elevation <= mount.elevation_max_deg:
            return False
        self._loop.taken_over = True
        self._loop.say(self._loop.line.driver.point(azimuth, elevation))
        return True

    def turn(self, now_ns: int, towards: Towards, rate_deg_s: float | None = None) -> None:
        mount, (axis, sign) = self.mount, towards.value
        if axis == "azimuth":
            self.point(now_ns, mount.azimuth_max_deg if sign > 0 else mount.azimuth_min_deg)
        else:
            self.point(now_ns, None, mount.elevation_max_deg if sign > 0 else mount.elevation_min_deg)

    def stop(self, now_ns: int, *, azimuth: bool = True, elevation: bool = True) -> None:
        self._loop.taken_over = True
        self._loop.say(self._loop.line.driver.stop())

    def park(self, now_ns: int) -> None:
        self._loop.taken_over = True
        command = self._loop.line.driver.park()
        park = self.mount.park_azimuth_deg, self.mount.park_elevation_deg
        self._loop.say(command or self._loop.line.driver.point(*park))

    def reset(self, now_ns: int) -> None:
        """Back to where its commands come from without us: to the tracking, if there is one."""
        self._loop.taken_over = False


class AntennaLoop:
    """The antenna of `bench`, which runs, for as long as the context lasts.

    `taken_over`: another program commands the antenna, and tracking waits until that program resets it.
    """

    def __init__(self, bench: Bench) -> None:
        site = bench.scenario.terminal
        if site is None or site.antenna is None or bench.scenario.link.profile == "fixed":
            where = bench.scenario.source or bench.scenario.name or "scenario"
            raise ScenarioError([f"{where}: terminal.antenna: expected a link with a sky to point at"])
        self._bench, self.settings = bench, site.antenna
        self._start_ns = bench.utc_ns()
        self.mount = mount_of(self.settings)
        self._track = attitude_of(self.settings, bench.scenario.source)
        self._widths = (
            self.settings.beam_width_deg,
            self.settings.transmit_beam_width_deg or self.settings.beam_width_deg,
        )
        self._lock = Lock(round(self.settings.acquisition_s * NS_PER_S))
        self._efficiency = efficiency_by_cn()
        self.antenna: Antenna | None = None  # the stub's
        self.taken_over = False
        self.reported: tuple[float, float] | None = None
        self._on_target: bool | None = None  # as an antenna says that does not tell where it points
        self._heard_ns: int | None = None
        self._applied = (-1.0, -1.0)
        self._next_command_ns = 0
        self._commanded: tuple[float, float] | None = None
        self._looking = threading.Lock()
        self.trace: deque[AntennaState] = deque(maxlen=KEPT)
        self._stack = contextlib.ExitStack()

    # life

    def __enter__(self) -> Self:
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        bench, settings = self._bench, self.settings
        protocol = settings.firmware.protocol or settings.protocol
        url, baud = settings.firmware.serial, settings.firmware.baud
        if settings.firmware.is_stub:
            self.antenna = FaultyAntenna(self.mount, settings.faults, self._start_ns)
            port = "tcp:127.0.0.1:0" if protocol == "rotctld" else "pty"
            stub = self._stub(protocol, self.antenna, port, controls=True)
            url = stub.address.replace("tcp:", "socket://", 1) if protocol == "rotctld" else stub.address
        source = bench.scenario.source
        self.line: AntennaLine = controller_line(
            protocol,
            url,
            baud,
            poll_ns=round(settings.poll_ms * NS_PER_MS),
            silence_ns=round(settings.silence_s * NS_PER_S),
            on_report=self._hear,
            on_tick=self._tick,
            utc_ns=bench.utc_ns,
            record=beside(source, settings.record) if settings.record else None,
            satellite_deg=getattr(bench.scenario.link, "longitude_deg", None),
        )
        self.look()
        self._stack.enter_context(self.line)
        self.address = self.beacon_address = ""
        if settings.port:
            self.address = self._stub("rotctld", DrivenAntenna(self.mount, self), settings.port).address
        if settings.beacon_port:
            self.beacon_address = self._stub("beacon", Antenna(self.mount), settings.beacon_port).address

    def _stub(self, kind: str, antenna: Antenna, port: str, *, controls: bool = False) -> ServedStub:
        """controls: it is the firmware of the antenna, with its line's rate and faults, and no door for others."""
        bench = self._bench
        state_at = bench.place.state
        stub = stub_on(
            kind,
            state_at,
            port,
            hardware=Hardware(antenna=antenna, level_at=self._level),
            utc_ns=bench.utc_ns,
            directory=bench.runtime_dir,
            baud=self.settings.firmware.baud if controls and kind != "rotctld" else None,
            faults=line_faults(self.settings) if controls else [],
        )
        stub.start()
        self._stack.callback(stub.stop)
        return stub

    def say(self, command: bytes) -> None:
        """Has a command written to the controller."""
        self._commanded = None  # whatever tracking thought it had said
        self.line.say(command)

    # the loop

    @property
    def state(self) -> AntennaState:
        """The newest."""
        return self.trace[-1]

    def _hear(self, report: Report, now_ns: int) -> None:
        if report.azimuth_deg is not None and report.elevation_deg is not None:
            self.reported = report.azimuth_deg, report.elevation_deg
        self._on_target = report.on_target
        self._heard_ns = now_ns
        self._look_on()

    def _tick(self) -> None:
        self._look_on()
        if self.settings.tracking == "program" and not self.taken_over:
            self._follow(time.monotonic_ns())

    def _look_on(self) -> None:
        try:
            self.look()
        except EmulationError as error:  # the overlay is full, or the bench has failed and tells it to who runs it
            log.warning("the antenna: %s", error)

    def _beam(self, utc_ns: int, satellite: tuple[float, float] | None) -> tuple[float, float] | None:
        """Where the beam points, as the mount has it."""
        if self.antenna is not None:
            return self.antenna.pose(utc_ns).direction()
        if self._on_target and satellite is not None:
            return self._track.at(utc_ns - self._start_ns).to_carrier(*satellite)
        if self.reported is None:
            return None
        azimuth, elevation = self.reported
        return Pose(azimuth, elevation, azimuth, elevation, 0, 0).direction()

    def _satellite(self, utc_ns: int) -> tuple[float, float] | None:
        """Where the serving satellite stands over the ground."""
        path = self._bench.timeline_at(utc_ns).path
        if int(path.satellite[path.row_at(utc_ns)]) < 0:
            return None
        azimuth, elevation, _ = sky_at(path, np.array([utc_ns], np.int64))
        return float(azimuth[0]), float(elevation[0])

    def at(self, utc_ns: int) -> AntennaState | None:
        """The antenna as it was known at `utc_ns`, or the earliest that is kept."""
        for place in range(len(self.trace) - 1, -1, -1):  # not an iterator: another thread goes on with it
            if self.trace[place].utc_ns <= utc_ns:
                return self.trace[place]
        return self.trace[0] if self.trace else None

    def _level(self, _: int) -> tuple[float | None, bool]:
        """What the antenna hears now."""
        now = self.state
        return now.beacon_db, now.locked

    def look(self) -> AntennaState:
        """Puts beam and sky together, and what follows onto the link, if that has changed."""
        with self._looking:
            utc_ns = self._bench.utc_ns()
            satellite = self._satellite(utc_ns)
            beam = self._beam(utc_ns, satellite)
            sight = Sight.of(
                satellite,
                beam,
                self._track.at(utc_ns - self._start_ns),
                widths_deg=self._widths,
                floor_db=self.settings.floor_db,
                blockages=self.settings.blockages,
            )
            beacon_db = self._clear_db(utc_ns) - sight.receive_loss_db if satellite is not None else None
            locked = self._lock.update(beacon_db is not None and self._closes(beacon_db), utc_ns)
            before = self.trace[-1] if self.trace else None
            applied_ns = self._apply(sight, locked)
            if applied_ns is None and before is not None and before.heard_ns == self._heard_ns:
                return before
            azimuth, elevation = beam or (None, None)
            now = AntennaState(
                utc_ns,
                azimuth,
                elevation,
                sight.off_deg,
                sight.receive_loss_db,
                sight.transmit_loss_db,
                sight.blocked_db,
                beacon_db,
                locked,
                self._heard_ns,
                applied_ns or (before.applied_ns if before else time.monotonic_ns()),
            )
            if before is not None and before.locked != locked:
                self.line.say(self.line.driver.beacon(locked))
                log.info("the antenna %s", "is locked" if locked else "has lost its satellite")
            self.trace.append(now)
            return now

    def _apply(self, sight: Sight, locked: bool) -> int | None:
        """The fade of both directions onto the link. Returns when it was there; None: it is there already."""
        up_db, down_db = (
            (min(UNLOCKED_DB, loss_db) if locked else UNLOCKED_DB)
            for loss_db in (sight.transmit_loss_db, sight.receive_loss_db)
        )
        if max(abs(up_db - self._applied[0]), abs(down_db - self._applied[1])) < STEP_DB:
            return None
        losses = {"uplink": up_db, "downlink": down_db}
        self._bench.steer(OWNER, *(fade(direction, loss_db) for direction, loss_db in losses.items() if loss_db > 0))
        self._applied = up_db, down_db
        return time.monotonic_ns()

    def _clear_db(self, utc_ns: int) -> float:
        """The downlink's C/N with perfect pointing, what else is on the overlay left out."""
        channel = self._bench.timeline_at(utc_ns).downlink
        row = max(0, int(np.searchsorted(channel.start_ns, utc_ns, side="right")) - 1)
        return int(channel.cn_centidb[row]) / 100

    def _closes(self, cn_db: float) -> bool:
        return bool(self._efficiency[row_of_cn(round(cn_db * 100))] > 0)

    # tracking

    def _follow(self, now_ns: int) -> None:
        if now_ns < self._next_command_ns:
            return
        self._next_command_ns = now_ns + FOLLOW_NS
        utc_ns = self._bench.utc_ns() + LEAD_NS
        satellite = self._satellite(utc_ns)
        if satellite is None:
            return
        if self.settings.stabilised:
            satellite = self._track.at(utc_ns - self._start_ns).to_carrier(*satellite)
        azimuth = self._within_limits(satellite[0])
        elevation = min(max(satellite[1], self.mount.elevation_min_deg), self.mount.elevation_max_deg)
        step_deg = min(0.1, self.settings.beam_width_deg / 20)
        before = self._commanded
        if before and abs(azimuth - before[0]) < step_deg and abs(elevation - before[1]) < step_deg:
            return
        self.line.say(self.line.driver.point(azimuth, elevation))
        self._commanded = azimuth, elevation

    def _within_limits(self, azimuth_deg: float) -> float:
        """The way to say an azimuth that is the nearest to where the antenna is."""
        mount, here = self.mount, self.reported[0] if self.reported else self.mount.park_azimuth_deg
        ways = [azimuth_deg % 360.0 + turn for turn in (-360.0, 0.0, 360.0)]
        allowed = [way for way in ways if mount.azimuth_min_deg <= way <= mount.azimuth_max_deg]
        return min(allowed, key=lambda way: abs(way - here), default=azimuth_deg % 360.0)


def fade(direction: str, loss_db: float) -> OverlayEvent:
    """A fade from now on."""
    return OverlayEvent.model_validate(
        {"kind": "fade", "at_s": 0, "duration_s": FOR_EVER_S, "direction": direction, "fade_db": loss_db}
    )


def line_faults(settings: AntennaTable) -> list[tuple[str, float, float]]:
    """Those of a scenario's faults that are the line's."""
    of_the_line = [one for one in settings.faults if one.kind in ("cut", "stuck", "noise")]
    return [(one.kind, one.at_s, one.duration_s) for one in of_the_line]


def mount_of(settings: AntennaTable) -> Mount:
    """The mount that a scenario describes. Raises ScenarioError for limits that do not fit together."""
    return Mount(**settings.mount.model_dump(exclude_none=True))


def attitude_of(settings: AntennaTable, source: Path | None) -> AttitudeTrack:
    """The track that the antenna's carrier goes through. Raises ScenarioError."""
    return AttitudeTrack.read(beside(source, settings.attitude)) if settings.attitude else AttitudeTrack()


def beside(source: Path | None, name: str) -> Path:
    """A path of a scenario: a relative one counts from the scenario's folder."""
    return (source.parent if source is not None else Path.cwd()) / Path(name).expanduser()
