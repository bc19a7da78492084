"""Files of traces: which format a file has, a Timeline from it, a Timeline to it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Literal, get_args

from emulator.errors import TraceError
from emulator.timeline.model import Timeline
from emulator.timeline.save import load_npz
from emulator.timeline.traces import dish, irtt, mahimahi, ping, table, theaterq
from emulator.timeline.traces.rows import ReadOptions, probes
from emulator.units import NS_PER_MS

Format = Literal["csv", "mahimahi", "theaterq", "ping", "irtt", "dish", "npz"]
FORMATS: tuple[Format, ...] = get_args(Format)
Direction = Literal["uplink", "downlink"]
SUFFIXES: dict[str, Format] = {  # of files to be written; files that are read are told apart by what is in them
    ".csv": "csv", ".up": "mahimahi", ".down": "mahimahi", ".mahimahi": "mahimahi", ".theaterq": "theaterq",
    ".ping": "ping", ".irtt.json": "irtt", ".dish.json": "dish", ".npz": "npz",
}  # fmt: skip
LARGEST_FILE_BYTES = 1 << 30


def read_trace(path: Path, options: ReadOptions = ReadOptions(), *, file_format: Format | None = None) -> Timeline:  # noqa: B008 (frozen)
    """The Timeline of a file of any format; the format is found out unless it is given.

    Raises TraceError, which names the file and the line, for a file that cannot be read or understood.
    """
    name = str(path)
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise TraceError(f"{name}: expected a trace of at most {LARGEST_FILE_BYTES} bytes, got more")
        content = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{name}: expected a readable trace: {error.strerror or error}") from error
    if file_format == "npz" or content.startswith(b"PK"):
        return _from_npz(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TraceError(f"{name}: line {line}: expected UTF-8, got the byte 0x{content[error.start]:02x}") from error
    return trace_of_text(name, text, options, file_format=file_format)


def trace_of_text(name: str, text: str, options: ReadOptions, *, file_format: Format | None = None) -> Timeline:
    """The same of a text; `name` is for the errors."""
    document = _json(name, text) if text.lstrip().startswith("{") or file_format in ("irtt", "dish") else None
    match file_format or sniffed(name, text, document):
        case "mahimahi":
            return mahimahi.read(name, text, options)
        case "theaterq":
            return theaterq.read(name, text, options)
        case "ping":
            return ping.read(name, text, options)
        case "irtt":
            return irtt.read(name, document, options)
        case "dish":
            return dish.read(name, document, options)
        case _:
            return table.read(name, text, options)


def _json(name: str, text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{name}: expected JSON: {error}") from error
    if not isinstance(document, dict):
        raise TraceError(f"{name}: expected a JSON object, got {type(document).__name__}")
    return document


def _from_npz(path: Path) -> Timeline:
    try:
        with path.open("rb") as file:
            return load_npz(file)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise TraceError(f"{path}: expected a plan that `bentpipe plan -o FILE.npz` wrote: {error}") from error


def sniffed(name: str, text: str, document: object = None) -> Format:
    """The format of a text. Raises TraceError for what looks like none."""
    if isinstance(document, dict):
        if "round_trips" in document:
            return "irtt"
        if dish.history_of(document) is not None:
            return "dish"
        raise TraceError(f"{name}: expected round_trips (irtt) or popPingLatencyMs (a dish), got other JSON")
    lines = [line.strip() for line in text[:65_536].splitlines() if line.strip()]
    if not lines:
        raise TraceError(f"{name}: expected a trace, got an empty file")
    if lines[0].startswith("PING ") or any("icmp_seq=" in line for line in lines[:20]):
        return "ping"
    if lines[0].lstrip("-").isdigit():
        return "mahimahi"
    first = next((line for line in lines if line[:1].isdigit()), "")
    columns = lines[0].split(",")
    if first.count(",") >= theaterq.SIMPLE - 1 and not any(one.startswith(("time_", "utc")) for one in columns):
        return "theaterq"
    if "," in lines[0] or lines[0].startswith(("time_", "utc")):
        return "csv"
    raise TraceError(f"{name}: line 1: expected one of the formats {', '.join(FORMATS)}, got {lines[0][:60]!r}")


def format_of(path: Path) -> Format:
    """The format that a name asks for. Raises TraceError."""
    for suffix, file_format in SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return file_format
    raise TraceError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")


def written(
    line: Timeline, file_format: Format, *, direction: Direction = "downlink", interval_ns: int = 100 * NS_PER_MS
) -> str:
    """A Timeline as text of a format (not npz). `direction`: of a format that has but one.

    `interval_ns`: between the probes of a format that is made of probes. Raises TraceError for what it cannot say.
    """
    one = getattr(line, direction)
    match file_format:
        case "mahimahi":
            return mahimahi.write(line, one)
        case "theaterq":
            return theaterq.write(line, one)
        case "ping":
            return ping.write(probes(line, interval_ns))
        case "irtt":
            return irtt.write(probes(line, interval_ns))
        case "dish":
            return dish.write(line)
        case _:
            return table.write(line)
