"""What was said on a line, and when: JSON lines, one for each piece that was read or written.

`{"t": 0.104233, "utc_ns": 1748560887123456789, "from": "client", "hex": "415a20454c0a", "text": "AZ EL \\n"}`:
`t` in seconds from the first line on; `from` is `client` (the program) or `device`; `hex` are the bytes, `text` is for
the reader. A line with `"odd"` in place of `from` is a remark on what the device did wrong.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from emulator.errors import EndpointError
from emulator.units import NS_PER_S
from firmware_stubs.registry import Stub

Speaker = Literal["client", "device"]


def as_text(data: bytes) -> str:
    """Bytes for a person: what is not printable is escaped."""
    return data.decode("ascii", "backslashreplace").encode("unicode_escape").decode("ascii").replace("\\\\x", "\\x")


class Recorder:
    """Writes a record to `path`, which begins anew. Shared by threads. Raises EndpointError if it cannot be written."""

    def __init__(self, path: Path, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._utc_ns, self._began_ns = utc_ns, time.monotonic_ns()
        self._writing = threading.Lock()
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise EndpointError(f"{path}: cannot write a record: {error.strerror}") from error

    def note(self, speaker: Speaker, data: bytes) -> None:
        """Bytes that somebody said now."""
        if data:
            self._write({"from": speaker, "hex": data.hex(), "text": as_text(data)})

    def remark(self, kind: str, data: bytes) -> None:
        """Something odd about what the device did."""
        self._write({"odd": kind, "hex": data.hex(), "text": as_text(data)})

    def _write(self, facts: dict[str, str]) -> None:
        with self._writing:
            if not self._file.closed:
                t = round((time.monotonic_ns() - self._began_ns) / NS_PER_S, 6)
                self._file.write(json.dumps({"t": t, "utc_ns": self._utc_ns(), **facts}) + "\n")

    def close(self) -> None:
        """Twice is allowed."""
        with self._writing:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RecordedStub:
    """`stub`, with what it hears and says in a record."""

    def __init__(self, stub: Stub, recorder: Recorder) -> None:
        self._stub, self._recorder = stub, recorder
        self.next_event_ns = stub.next_event_ns
        self.wake_fd: int = getattr(stub, "wake_fd", -1)

    @property
    def closed(self) -> bool:
        return bool(getattr(self._stub, "closed", False))

    def receive(self, data: bytes, now_ns: int) -> None:
        self._recorder.note("client", data)
        self._stub.receive(data, now_ns)

    def poll(self, now_ns: int) -> bytes:
        said = self._stub.poll(now_ns)
        self._recorder.note("device", said)
        return said


@dataclass(frozen=True, slots=True)
class Exchange:
    """A piece of a record: seconds from its beginning, who spoke, what."""

    t_s: float
    speaker: Speaker
    data: bytes


def read_record(path: Path) -> Iterator[Exchange]:
    """The pieces of a record, remarks left out. Raises EndpointError naming file and line."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    facts = json.loads(line)
                    if "odd" not in facts:
                        speaker = facts["from"]
                        if speaker not in ("client", "device"):
                            raise ValueError(speaker)
                        yield Exchange(float(facts["t"]), speaker, bytes.fromhex(facts["hex"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise EndpointError(f"{path}: line {number}: expected a line of a record") from error
    except EndpointError:
        raise
    except OSError as error:
        raise EndpointError(f"{path}: expected a readable record: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise EndpointError(f"{path}: expected a record in UTF-8, got another file") from error
