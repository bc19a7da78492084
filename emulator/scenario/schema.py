"""The scenario's JSON Schema, for editors that complete and check TOML."""

from __future__ import annotations

from typing import Any

from emulator.scenario.hardware import STUB, AntennaFirmware, Firmware
from emulator.scenario.model import Scenario


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file: every key, its unit, its bounds, its default."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    schema["title"] = "Bentpipe scenario"
    del schema["properties"]["source"]  # for the loader alone to fill
    link = schema["properties"]["link"]
    for reference in link["discriminator"]["mapping"].values():
        # In Python the profile has a default; in a file it says which keys the table has, and must be there.
        profile = schema["$defs"][reference.rpartition("/")[2]]
        profile["required"] = sorted({*profile.get("required", []), link["discriminator"]["propertyName"]})
    for title in (Firmware.__name__, AntennaFirmware.__name__):  # in a file, its name may stand in place of the table
        schema["$defs"][title] |= {"type": ["object", "string"], "pattern": f"^{STUB}$"}
    return schema
