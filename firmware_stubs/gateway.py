"""The far end of a message service: a store-and-forward mailbox, and the condition of the link to it.

Messages from the terminal (MO) are put into `DIRECTORY/mo`, one file each, complete from the first moment that its name
is there (written aside and renamed). Messages for the terminal (MT) are taken from `DIRECTORY/mt` in the order of their
names: rename a complete file into it. Names that begin with a dot are nobody's. What is too long for the terminal is
moved to `DIRECTORY/refused`. Without a directory the mailbox is in memory.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from emulator.errors import EndpointError
from emulator.units import NS_PER_S

MOST_KEPT = 256  # messages of each direction in memory; the oldest go first
LONGEST = 100_000  # bytes of a message: the longest of any service here


class Failure(Enum):
    """Why a session with the gateway fails, where it is not for lack of a signal."""

    RF_DROP = "the radio link was lost during the session"
    LINK_FAILURE = "the link could not be set up"
    GATEWAY_TIMEOUT = "the gateway did not answer in time"
    QUEUE_FULL = "the gateway has no room for another message"
    DENIED = "the gateway refused the terminal"
    BUSY = "the terminal is busy"


@dataclass(frozen=True, slots=True)
class Service:
    """The service at an instant: bars of signal (0 to 5; 0 is none), how long a session takes, why it fails.

    byte_ns: of a session, on top of its latency, for each byte of the longer of the messages that it carries.
    """

    bars: int = 5
    latency_ns: int = 5 * NS_PER_S  # a stated choice: sessions are said to take from a few seconds to twenty
    failure: Failure | None = None
    byte_ns: int = 0


ServiceAt = Callable[[int], Service]


def always(service: Service) -> ServiceAt:
    """A condition that never changes."""
    return lambda utc_ns: service


class MessageGateway:
    """A mailbox in `directory`, which is made if need be, or in memory. Shared by threads and processes.

    Raises EndpointError if the directory cannot be made.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._mo: deque[tuple[str, bytes]] = deque(maxlen=MOST_KEPT)
        self._mt: deque[tuple[str, bytes]] = deque(maxlen=MOST_KEPT)
        self._using = threading.Lock()
        try:
            for name in ("mo", "mt", "refused") if directory else ():
                self._folder(name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EndpointError(f"{directory}: cannot make the mailbox: {error.strerror}") from error

    def deliver(self, name: str, message: bytes) -> None:
        """Takes a message from the terminal; one of the same name is never overwritten. Raises OSError."""
        with self._using:
            if self._directory is None:
                self._mo.append((name, message))
            else:
                _put(self._folder("mo"), name, message)

    def send(self, name: str, message: bytes) -> None:
        """Leaves a message for the terminal. Raises OSError."""
        with self._using:
            if self._directory is None:
                self._mt.append((name, message))
            else:
                _put(self._folder("mt"), name, message)

    def delivered(self) -> list[tuple[str, bytes]]:
        """The messages from the terminal that are still there, by name in a directory, else in their order."""
        if self._directory is None:
            return list(self._mo)
        return [(path.name, path.read_bytes()) for path in _visible(self._folder("mo"))]

    def oldest(self) -> tuple[str, bytes] | None:
        """The message from the terminal that has been there longest; it stays. None: there is none. Raises OSError."""
        with self._using:
            if self._directory is None:
                return self._mo[0] if self._mo else None
            paths = [(path.stat().st_mtime_ns, path) for path in _visible(self._folder("mo"))]
            return (min(paths)[1].name, min(paths)[1].read_bytes()) if paths else None

    def remove(self, name: str) -> bool:
        """Takes the message from the terminal with this name away; whether it was there. Raises OSError."""
        with self._using:
            if self._directory is None:
                found = next((one for one in self._mo if one[0] == name), None)
                if found is not None:
                    self._mo.remove(found)
                return found is not None
            with contextlib.suppress(FileNotFoundError):
                (self._folder("mo") / name).unlink()
                return True
            return False

    def waiting(self) -> int:
        """How many messages are there for the terminal. 0 if the directory cannot be read."""
        if self._directory is None:
            return len(self._mt)
        with contextlib.suppress(OSError):
            return len(_visible(self._folder("mt")))
        return 0

    def next_length(self, longest: int) -> int:
        """The length in bytes of the message that `take` would give; 0 if there is none, or it cannot be read."""
        if self._directory is None:
            return next((len(message) for _, message in list(self._mt) if len(message) <= longest), 0)
        with contextlib.suppress(OSError):
            sizes = (path.stat().st_size for path in _visible(self._folder("mt")))
            return next((size for size in sizes if size <= longest), 0)
        return 0

    def take(self, longest: int) -> tuple[str, bytes] | None:
        """The next message for the terminal, which is then no longer there; None if there is none. Raises OSError."""
        with self._using:
            if self._directory is None:
                while self._mt:
                    name, message = self._mt.popleft()
                    if len(message) <= longest:
                        return name, message
                return None
            for path in _visible(self._folder("mt")):
                mine = path.with_name(f".taken-{os.getpid()}-{path.name}")
                try:
                    path.rename(mine)  # of several who want it, one gets it
                except FileNotFoundError:
                    continue
                if mine.stat().st_size > longest:
                    mine.rename(self._folder("refused") / path.name)
                    continue
                message = mine.read_bytes()
                mine.unlink()
                return path.name, message
            return None

    def _folder(self, name: str) -> Path:
        assert self._directory is not None
        return self._directory / name


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def _put(folder: Path, name: str, message: bytes) -> None:
    aside = folder / f".writing-{os.getpid()}-{name}"
    try:
        aside.write_bytes(message)
        stem, dot, ending = name.rpartition(".")
        for number in range(10_000):
            unused = name if number == 0 else f"{stem or ending}_{number}{dot}{ending if stem else ''}"
            with contextlib.suppress(FileExistsError):
                os.link(aside, folder / unused)  # as a rename, but it refuses a name that is taken
                return
        raise FileExistsError(f"{folder / name}: exists ten thousand times")
    finally:
        aside.unlink(missing_ok=True)
