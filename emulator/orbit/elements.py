"""Orbital elements from a file: which objects of it a run may use, and why the others are left out.

Nothing is left out in silence: `Elements.notes` has a line, with a count, for each reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import hypot
from pathlib import Path

from emulator.errors import ElementsError
from emulator.orbit.omm import read_csv, read_json, read_xml
from emulator.orbit.satellites import JD_UNIX, NS_PER_DAY, ElementSet, Satellites
from emulator.orbit.tle import read_tle
from emulator.units import format_utc


@dataclass(frozen=True)
class ServiceOrbit:
    """The orbits on which satellites serve; whoever is on another is being raised, is coming down, or is another's.

    Altitudes are those of the mean orbit over the equator's radius. The defaults are those of a low-earth broadband
    shell: shells filed for Starlink are at 328–614 km, and the most eccentric satellite of one in the catalogue of
    October 2025 has a fifth of the eccentricity.
    """

    min_altitude_km: float = 300.0
    max_altitude_km: float = 650.0
    max_eccentricity: float = 0.005

    def __str__(self) -> str:
        return (
            f"eccentricity over {self.max_eccentricity:g}, or outside of "
            f"{self.min_altitude_km:g}–{self.max_altitude_km:g} km"
        )


SHELL = ServiceOrbit()
SWINGS_KM = 30.0  # what SGP4's periodic terms and a day's drag take from or add to the mean orbit, with room


@dataclass(frozen=True)
class Elements:
    """The satellites of a file that a run uses, and a note per reason for which others are left out."""

    satellites: Satellites
    notes: tuple[str, ...]


def read_elements(path: Path) -> list[ElementSet]:
    """Every element set of a TLE (2 or 3 lines) or OMM (JSON, CSV, XML) file, in its order.

    Raises ElementsError naming the file, and the line or message where there is one.
    """
    file = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ElementsError(f"{file}: elements: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ElementsError(
            f"{file}: elements: expected a text file, got the byte {error.object[error.start]:#04x} at {error.start}"
        ) from None
    start = text.lstrip()[:4096]
    if not start:
        raise ElementsError(f"{file}: elements: expected TLE or OMM, got an empty file")
    if start.startswith("CCSDS_OMM_VERS"):
        raise ElementsError(f"{file}: elements: OMM in KVN is not read; get the same as JSON, CSV, XML or TLE")
    if start[0] in "[{":
        read = read_json
    elif start[0] == "<":
        read = read_xml
    elif "MEAN_MOTION" in start.splitlines()[0]:
        read = read_csv
    else:
        read = read_tle
    sets = list(read(text, file))
    if not sets:
        raise ElementsError(f"{file}: elements: expected TLE or OMM, got a file without any")
    return sets


def load_elements(
    path: Path, *, epoch_utc_ns: int, max_age_days: float, names: str = "*", orbit: ServiceOrbit = SHELL
) -> Elements:
    """The satellites of `path` that may serve a run that starts at `epoch_utc_ns`.

    Left out and counted: objects whose name does not match the shell pattern `names` (sets without a name line are
    never refused by it), second sets of the same object (the one nearest to the start stays), sets whose epoch is more
    than `max_age_days` from the start, and objects not in service.
    Raises ElementsError if nothing is left, naming what took the most.
    """
    every = read_elements(path)
    file = str(path)
    left_out: list[tuple[int, str]] = []

    def keep(kept: list[ElementSet], among: Sequence[ElementSet], reason: str) -> list[ElementSet]:
        if len(kept) < len(among):
            stayed = {one.place for one in kept}
            first = next(one for one in among if one.place not in stayed)
            left_out.append((len(among) - len(kept), f"{reason}; the first is {first.name}, {first.place}"))
        return kept

    named = keep(
        [one for one in every if one.name == str(one.number) or fnmatchcase(one.name, names)],
        every,
        f"not named {names} (constellation.names)",
    )
    if not named:
        raise ElementsError(
            f"{file}: elements: none of its {len(every)} objects is named {names}; "
            "constellation.names says which are wanted"
        )
    nearest = keep(_nearest(named, epoch_utc_ns), named, "a second set of the same object")
    fresh = keep(
        [one for one in nearest if abs(one.epoch_utc_ns - epoch_utc_ns) <= max_age_days * NS_PER_DAY],
        nearest,
        f"more than {max_age_days:g} days from their epoch",
    )
    if not fresh:
        first, last = min(one.epoch_utc_ns for one in nearest), max(one.epoch_utc_ns for one in nearest)
        age = min(abs(one.epoch_utc_ns - epoch_utc_ns) for one in nearest) / NS_PER_DAY
        raise ElementsError(
            f"{file}: elements: epochs {format_utc(first, 0)} to {format_utc(last, 0)} are {age:.1f} days or more from "
            f"the start {format_utc(epoch_utc_ns, 0)}, more than constellation.max_age_days = {max_age_days:g}: "
            f"take a newer file, or start there (--start {format_utc((first + last) // 2, 0)})"
        )
    serving = keep(
        [one for one in fresh if in_service(one, epoch_utc_ns, orbit)],
        fresh,
        f"not in service (decayed or within a day of it, {orbit})",
    )
    notes = tuple(f"{file}: {count} of {len(every)} element sets left out: {reason}" for count, reason in left_out)
    if not serving:
        raise ElementsError("; ".join(notes))
    satellites = Satellites.of([one.name for one in serving], [one.record for one in serving])
    return Elements(satellites, notes)


def in_service(one: ElementSet, utc_ns: int, orbit: ServiceOrbit = SHELL) -> bool:
    """Whether an object can be one that serves: a fitting orbit, on which SGP4 has it then, and a day later still.

    Elements of one that is coming down may tell of the orbit that it has left since.
    """
    record, radius_km = one.record, one.record.radiusearthkm
    mean_km = record.a * radius_km - radius_km
    if not orbit.min_altitude_km <= mean_km <= orbit.max_altitude_km or record.ecco > orbit.max_eccentricity:
        return False
    swings_km = SWINGS_KM + record.ecco * record.a * radius_km
    for at_ns in (utc_ns, utc_ns + NS_PER_DAY):
        days, rest = divmod(at_ns, NS_PER_DAY)
        error, position_km, _ = record.sgp4(JD_UNIX + days, rest / NS_PER_DAY)
        altitude_km = hypot(*position_km) - radius_km
        within = orbit.min_altitude_km - swings_km <= altitude_km <= orbit.max_altitude_km + swings_km
        if error != 0 or not within:
            return False
    return True


def _nearest(sets: Iterable[ElementSet], utc_ns: int) -> list[ElementSet]:
    """One set per object, the nearest in time, in the order of first appearance."""
    found: dict[int, ElementSet] = {}
    for one in sets:
        other = found.get(one.number)
        if other is None or abs(one.epoch_utc_ns - utc_ns) < abs(other.epoch_utc_ns - utc_ns):
            found[one.number] = one
    return list(found.values())
