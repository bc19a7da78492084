"""Captures to a file by command: `bentpipe ctl capture on`, until `off` or the bench's end."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.errors import BentpipeError, EmulationError, ScenarioError
from emulator.taps.capture import DIRECTIONS, PLACES
from emulator.taps.consumer import CaptureStream, PacketFilter, RotatingFiles, choose_blocks, link_type_of

BOTH = "both"
OPTIONS: dict[str, Any] = {
    "file": "capture.pcapng",
    "at": BOTH,
    "place": "before",
    "filter": "",
    "snap": 0,
    "rotate_size_mb": 0.0,
    "rotate_every_s": 0.0,
    "keep": 0,
}
"""What `ctl capture on` takes, with its defaults; `file` lies in the directory in which the bench was started.

It gets a number if there is one of that name: NAME-2.pcapng, NAME-3.pcapng …"""


class Recording:
    """A switch: `on` begins a capture, `off` ends it and tells what it holds. One at a time."""

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._thread: threading.Thread | None = None
        self._stream: CaptureStream | None = None
        self._failure: BentpipeError | None = None
        self._packets = 0

    def __call__(self, on: bool, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises ScenarioError for an option that is none, EmulationError for the second `on` and the second `off`."""
        if not on:
            return self.end()
        chosen = checked(options)
        path = free_path(Path(chosen["file"]))
        self.begin(path, chosen)
        return {"file": str(path)}

    def begin(self, path: Path, options: Mapping[str, Any]) -> None:
        """Begins a capture to `path`, wherever that is; options as OPTIONS has them.

        Raises EmulationError if one is on, EndpointError if there can be no file.
        """
        if self._thread is not None:
            raise EmulationError("capture: one is on already: turn it off first")
        chosen = {**OPTIONS, **options}
        directions = DIRECTIONS if chosen["at"] == BOTH else (chosen["at"],)
        places = PLACES if chosen["place"] == BOTH else (chosen["place"],)
        files = RotatingFiles(
            path,
            most_bytes=round(chosen["rotate_size_mb"] * 1e6),
            most_s=chosen["rotate_every_s"],
            keep=chosen["keep"],
        )
        stream = CaptureStream(self._runtime_dir, directions=directions, places=places, snap_bytes=chosen["snap"])
        stream.__enter__()
        try:
            head = next(iter(stream))
            wanted = PacketFilter(chosen["filter"], link_type_of(head)) if chosen["filter"] else None
            files.begin(head)
        except BaseException:
            stream.__exit__(None, None, None)
            files.close()
            raise
        self._packets, self._failure, self._stream = 0, None, stream
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(stream, files, wanted), name="recording", daemon=True)
        self._thread.start()

    def _run(self, stream: CaptureStream, files: RotatingFiles, wanted: PacketFilter | None) -> None:
        asked = False
        try:
            for data in stream:
                chosen, packets = choose_blocks(data, wanted, None)
                if chosen:
                    files.write(chosen)
                self._packets += packets
                if self._ending.is_set() and not asked:
                    stream.stop()
                    asked = True
        except BentpipeError as error:
            self._failure = error
        finally:
            files.close()
            stream.__exit__(None, None, None)
            self._files = files.paths

    def end(self) -> Mapping[str, Any]:
        """Ends the capture. Raises EmulationError if none is on, and what ended it before its time, a full disk say."""
        if self._thread is None or self._stream is None:
            raise EmulationError("capture: none is on")
        self._ending.set()
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure
        return {
            "packets": self._packets,
            "lost": self._stream.lost,
            "files": [str(path) for path in self._files],
        }


def free_path(path: Path) -> Path:
    """The path, or NAME-2, NAME-3 … of it: the first under which there is no capture, rotated ones included."""
    suffix = path.suffix or ".pcapng"
    rotated = re.compile(r"-\d{5,}" + re.escape(suffix))
    there = {one.name for one in path.absolute().parent.iterdir()}
    for number in itertools.count(1):
        stem = path.stem if number == 1 else f"{path.stem}-{number}"
        name = f"{stem}{path.suffix}"
        if name not in there and not any(one.startswith(stem) and rotated.fullmatch(one[len(stem) :]) for one in there):
            return path.with_name(name)
    raise AssertionError("numbers have no end")


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with defaults. Raises ScenarioError naming every one that is wrong."""
    faults = []
    for key, value in options.items():
        if key not in OPTIONS:
            faults.append(f"capture: {key}: expected one of {', '.join(OPTIONS)}")
        elif isinstance(OPTIONS[key], str) != isinstance(value, str) or isinstance(value, bool):
            faults.append(f"capture: {key}: expected a {'text' if isinstance(OPTIONS[key], str) else 'number'}")
    if faults:
        raise ScenarioError(faults)
    chosen = {**OPTIONS, **options}
    if Path(chosen["file"]).name != chosen["file"] or chosen["file"] in ("", ".", ".."):
        faults.append(f"capture: file: expected a name without a directory, got {chosen['file']!r}")
    for key, known in (("at", (*DIRECTIONS, BOTH)), ("place", (*PLACES, BOTH))):
        if chosen[key] not in known:
            faults.append(f"capture: {key}: expected one of {', '.join(known)}, got {chosen[key]!r}")
    faults += [
        f"capture: {key}: expected a number of at least 0, got {chosen[key]!r}"
        for key in ("snap", "rotate_size_mb", "rotate_every_s", "keep")
        if chosen[key] < 0 or (isinstance(OPTIONS[key], int) and not isinstance(chosen[key], int))
    ]
    if faults:
        raise ScenarioError(faults)
    return chosen
