"""Two-line element sets, with or without a name line: every character that matters is checked.

Format: "FAQ: Two-Line Element Set Format", CelesTrak; numbers above 99,999 in Alpha-5. The SGP4 library reads the
numbers; what it does not check (length, checksum, columns, agreement of the two lines) is checked here, because a
line that was cut or changed on its way still gives an orbit, and a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from sgp4.api import WGS72, Satrec

from emulator.errors import ElementsError
from emulator.orbit.satellites import ElementSet

LINE_LENGTH = 69

_NUMBER = r"(?P<number>[0-9A-HJ-NP-Z ][0-9 ]{3}[0-9])"
_FOREIGN = re.compile(r"[3-9] [0-9A-Z]\d{4}[UCS ] ")  # a third line, as no format has one: not a name
_EXPONENT = r"[ +-][ \d]{5}[ +-]\d"  # decimal point assumed: ` 62544-4` is 0.62544e-4
_ANGLE = r"[ \d]{2}\d\.\d{4}"
_LINES = {
    1: re.compile(
        rf"1 {_NUMBER}[UCS ] .{{8}} [ \d]\d(?P<day>[ \d]{{2}}\d\.\d{{8}}) [ +-][ 0]?\.\d{{8}} {_EXPONENT} {_EXPONENT}"
        r" (?P<theory>[ \d]) [ \d]{4}\d"
    ),
    2: re.compile(
        rf"2 {_NUMBER} (?P<inclination>{_ANGLE}) (?P<raan>{_ANGLE}) \d{{7}} (?P<perigee>{_ANGLE}) "
        rf"(?P<anomaly>{_ANGLE}) (?P<motion>[ \d]\d\.\d{{8}})[ \d]{{5}}\d"
    ),
}


def read_tle(text: str, file: str) -> Iterator[ElementSet]:
    """Each element set of `text`; a set without a name line is named by its catalogue number.

    Blank lines and lines that begin with `#` are skipped. `file` is for the messages.
    Raises ElementsError naming file and line for a line that is cut, changed, missing or in the wrong place.
    """
    name, first = "", ""
    name_at = first_at = 0
    for at, raw in enumerate(text.splitlines(), start=1):
        line = raw.rstrip()
        if not line or line.startswith("#"):
            continue
        kind = line[:2]
        if first:
            if kind != "2 ":
                _refuse(file, at, f"expected line 2 of the element set that begins in line {first_at}", line)
            number = _check(first, 1, file, first_at)
            if _check(line, 2, file, at) != number:
                _refuse(file, at, f"expected catalogue number {number} as in line {first_at}", line)
            record = Satrec.twoline2rv(first, line, WGS72)
            yield ElementSet(name or str(record.satnum), record.satnum, record, f"line {first_at}")
            name = first = ""
        elif kind == "1 ":
            first, first_at = line, at
        elif kind == "2 " or name:
            expected = f"after the name in line {name_at}" if name else "of an element set"
            _refuse(file, at, f"expected line 1 {expected}", line)
        elif _FOREIGN.match(line):
            _refuse(file, at, "expected a name, or line 1 of an element set", line)
        else:
            name, name_at = line.removeprefix("0 ").strip(), at
    if first:
        raise ElementsError(f"{file}: line {first_at}: expected a line 2 after it, but the file ends")
    if name:
        raise ElementsError(f"{file}: line {name_at}: expected an element set after {name!r}, but the file ends")


def _check(line: str, which: int, file: str, at: int) -> str:
    """The catalogue number of a line whose length, checksum, columns and ranges are right."""
    if len(line) != LINE_LENGTH:
        _refuse(file, at, f"expected {LINE_LENGTH} characters, got {len(line)}", line)
    checksum = sum(int(char) if char in "0123456789" else char == "-" for char in line[:-1]) % 10
    if line[-1] != str(checksum):
        _refuse(file, at, f"expected checksum {checksum}, got {line[-1]!r}", line)
    match = _LINES[which].fullmatch(line)
    if match is None:
        _refuse(file, at, f"expected the columns of line {which} of an element set", line)
    if which == 1:
        _within(file, at, line, "day of the year", float(match["day"]), 1, 367)
        if match["theory"] not in " 0123":  # 4 is SGP4-XP: its elements, read by SGP4, are an orbit kilometres away
            _refuse(file, at, f"expected elements for SGP4 (ephemeris type 0), got type {match['theory']}", line)
    else:
        _within(file, at, line, "inclination", float(match["inclination"]), 0, 180)
        for angle in ("raan", "perigee", "anomaly"):
            _within(file, at, line, angle, float(match[angle]), 0, 360)
        _within(file, at, line, "mean motion", float(match["motion"]), 0.01, 17.2)  # 17.2: an orbit at the ground
    return match["number"]


def _within(file: str, at: int, line: str, what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        _refuse(file, at, f"expected a {what} from {least:g} to {most:g}, got {value:g}", line)


def _refuse(file: str, at: int, problem: str, line: str) -> NoReturn:
    shown = line if len(line) <= LINE_LENGTH else line[:LINE_LENGTH] + "…"
    raise ElementsError(f"{file}: line {at}: {problem}: {shown!r}")
