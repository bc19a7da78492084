"""Orbit Mean-Elements Messages (CCSDS 502.0-B) as CelesTrak and Space-Track give them: JSON, CSV and XML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

from sgp4 import omm
from sgp4.api import WGS72, Satrec

from emulator.errors import ElementsError
from emulator.orbit.satellites import ElementSet

Fields = Mapping[str, Any]

ORBIT = {  # field: least, most; what SGP4 needs, in the message's own units
    "MEAN_MOTION": (0.01, 17.2), "ECCENTRICITY": (0, 1), "INCLINATION": (0, 180), "RA_OF_ASC_NODE": (0, 360),
    "ARG_OF_PERICENTER": (0, 360), "MEAN_ANOMALY": (0, 360), "BSTAR": (-1e3, 1e3), "MEAN_MOTION_DOT": (-1e3, 1e3),
    "MEAN_MOTION_DDOT": (-1e3, 1e3), "NORAD_CAT_ID": (0, 999_999_999),
}  # fmt: skip
LABELS = {"CLASSIFICATION_TYPE": "U", "OBJECT_ID": "", "EPHEMERIS_TYPE": 0, "ELEMENT_SET_NO": 999, "REV_AT_EPOCH": 0}
ONLY = {  # field, if it is there: what it may say; elements of another theory or frame are another orbit
    "MEAN_ELEMENT_THEORY": ("SGP4", "SGP", "SGP/SGP4", "SDP4"), "REF_FRAME": ("TEME",), "TIME_SYSTEM": ("UTC",),
    "CENTER_NAME": ("EARTH",), "EPHEMERIS_TYPE": ("0", "1", "2", "3"),
}  # fmt: skip
LARGEST_NUMBER = 339_999  # of a satellite in SGP4's record (Alpha-5 Z9999); the number plays no part in the orbit


def read_json(text: str, file: str) -> Iterator[ElementSet]:
    """Each message of a JSON list. Raises ElementsError naming file and message."""
    try:
        messages = json.loads(text)
    except json.JSONDecodeError as error:
        raise ElementsError(f"{file}: line {error.lineno}: expected OMM in JSON: {error.msg}") from None
    if isinstance(messages, dict):
        messages = [messages]
    yield from _records(((f"message {at}", message) for at, message in enumerate(messages, start=1)), file)


def read_csv(text: str, file: str) -> Iterator[ElementSet]:
    """Each row of a CSV table. Raises ElementsError naming file and line."""
    rows = csv.DictReader(io.StringIO(text), strict=True)
    missing = sorted({*ORBIT, "EPOCH"} - set(rows.fieldnames or ()))
    if missing:
        raise ElementsError(f"{file}: line 1: expected a column {', '.join(missing)}")
    try:
        yield from _records(((f"line {rows.line_num}", row) for row in rows), file)
    except csv.Error as error:
        raise ElementsError(f"{file}: line {rows.line_num}: expected OMM in CSV: {error}") from None


def read_xml(text: str, file: str) -> Iterator[ElementSet]:
    """Each segment of an XML message. Raises ElementsError naming file and message."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ElementsError(f"{file}: line {error.position[0]}: expected OMM in XML: {error}") from None
    segments = root.iter("segment")
    yield from _records(
        (
            (f"message {at}", {field.tag: field.text for field in segment.iter()})
            for at, segment in enumerate(segments, start=1)
        ),
        file,
    )


def _records(messages: Iterable[tuple[str, Any]], file: str) -> Iterator[ElementSet]:
    for where, message in messages:
        if not isinstance(message, dict):
            raise ElementsError(f"{file}: {where}: expected an object of OMM fields, got {message!r:.60}")
        fields, number = _checked(message, file, where), int(float(message["NORAD_CAT_ID"]))
        record = Satrec()
        omm.initialize(record, fields, WGS72)
        yield ElementSet(str(message.get("OBJECT_NAME") or "").strip() or str(number), number, record, where)


def _checked(message: Fields, file: str, where: str) -> dict[str, Any]:
    """The fields that SGP4's reader wants, all present and in range."""
    if None in message:  # csv's name for fields beyond the header's
        raise ElementsError(f"{file}: {where}: expected as many fields as in the header, got more")
    for key, allowed in ONLY.items():
        said = str(message.get(key) or "").strip().upper()
        if said and said not in allowed:
            raise ElementsError(f"{file}: {where}: {key}: expected {allowed[0]}, got {message[key]!r}")
    fields: dict[str, Any] = {key: message.get(key) or default for key, default in LABELS.items()}
    for key, (least, most) in ORBIT.items():
        try:
            value = float("nan") if isinstance(message[key], bool) else float(message[key])
        except KeyError:
            raise ElementsError(f"{file}: {where}: expected a field {key}") from None
        except (TypeError, ValueError):
            value = float("nan")
        if not least <= value <= most:
            raise ElementsError(
                f"{file}: {where}: {key}: expected a number from {least:g} to {most:g}, got {message[key]!r}"
            )
        fields[key] = value
    fields["NORAD_CAT_ID"] = int(fields["NORAD_CAT_ID"]) % (LARGEST_NUMBER + 1)
    for key in ("EPHEMERIS_TYPE", "ELEMENT_SET_NO", "REV_AT_EPOCH"):
        fields[key] = int(fields[key]) if str(fields[key]).strip().isdigit() else LABELS[key]
    epoch = str(message.get("EPOCH") or "").strip().removesuffix("Z")
    fields["EPOCH"] = (epoch if "." in epoch else epoch + ".0")[:26]  # SGP4's reader: 1 to 6 digits after the point
    try:
        datetime.strptime(fields["EPOCH"] + "Z", "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        raise ElementsError(
            f"{file}: {where}: EPOCH: expected a time such as 2025-05-29T08:12:40.9, got {message.get('EPOCH')!r}"
        ) from None
    return fields
