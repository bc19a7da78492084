"""Element sets made for the tests, as text in every format that is read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from math import radians
from xml.etree import ElementTree as ET

from sgp4.api import WGS72, Satrec, jday
from sgp4.exporter import export_omm, export_tle

from emulator.orbit.satellites import mean_motion_rad_s
from emulator.orbit.walker import JD_SGP4
from emulator.units import parse_utc_ns

EPOCH_UTC_NS = parse_utc_ns("2025-05-29T08:00:00Z")


def record(
    number: int = 44714,
    *,
    altitude_km: float = 550.0,
    inclination_deg: float = 53.0,
    eccentricity: float = 0.0002,
    node_deg: float = 23.1,
    anomaly_deg: float = 277.99,
    day: float = 29 + 8 / 24,
    drag: float = 6.2544e-5,
) -> Satrec:
    """A low orbit with elements as a catalogue has them, its epoch on that day of May 2025."""
    whole, fraction = jday(2025, 5, 1, 0, 0, 0)
    one = Satrec()
    one.sgp4init(
        WGS72,
        "i",
        number,
        whole + fraction + day - 1 - JD_SGP4,
        drag,
        0.0,
        0.0,
        eccentricity,
        radians(82.13),
        radians(inclination_deg),
        radians(anomaly_deg),
        mean_motion_rad_s(altitude_km) * 60,
        radians(node_deg),
    )
    one.classification, one.intldesg, one.ephtype, one.elnum, one.revnum = "U", "19074B", 0, 999, 30589
    return one


def tle(*named: tuple[str, Satrec]) -> str:
    """Three-line text; an empty name leaves its line out."""
    return "".join((f"{name:24}\n" if name else "") + "\n".join(export_tle(one)) + "\n" for name, one in named)


def omm_fields(name: str, one: Satrec) -> dict[str, object]:
    """The fields of an Orbit Mean-Elements Message."""
    fields: dict[str, object] = export_omm(one, name)
    return fields


def omm_json(messages: Sequence[dict[str, object]]) -> str:
    return json.dumps(messages)


def omm_csv(messages: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(messages[0]))
    writer.writeheader()
    writer.writerows(messages)
    return text.getvalue()


def omm_xml(messages: Sequence[dict[str, object]]) -> str:
    """The nesting of CCSDS 505.0-B, as far as it matters."""
    root = ET.Element("ndm")
    for message in messages:
        segment = ET.SubElement(ET.SubElement(ET.SubElement(root, "omm"), "body"), "segment")
        metadata, data = ET.SubElement(segment, "metadata"), ET.SubElement(segment, "data")
        mean, parameters = ET.SubElement(data, "meanElements"), ET.SubElement(data, "tleParameters")
        for key, value in message.items():
            parent = metadata if key.startswith("OBJECT") else parameters if "BSTAR" in key or "DOT" in key else mean
            ET.SubElement(parent, key).text = str(value)
    return ET.tostring(root, encoding="unicode")
