"""Files that somebody else wrote: read with a bound, refused by name."""

from __future__ import annotations

from pathlib import Path

from emulator.errors import ScenarioError


def read_bounded(path: Path, largest_bytes: int, *, what: str, shown: str | None = None) -> bytes:
    """The bytes of a file. Raises ScenarioError if it is longer than `largest_bytes`, or cannot be read.

    shown: what stands before the reason, the path unless given.
    """
    shown = str(path) if shown is None else shown
    try:
        with path.open("rb") as file:
            content = file.read(largest_bytes + 1)
    except OSError as error:
        raise ScenarioError([f"{shown}: expected a readable {what}: {error.strerror or error}"]) from error
    if len(content) > largest_bytes:
        raise ScenarioError([f"{shown}: expected a {what} of at most {largest_bytes} bytes, got more"])
    return content
