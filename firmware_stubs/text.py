"""What every protocol here needs: lines out of pieces of any size, a bounded store for the answers, timers."""

from __future__ import annotations

from collections.abc import Iterator

MAX_WAITING = 65_536  # bytes of answers that wait to be polled; a line that fills it is not read by anybody


class Lines:
    """Cuts what a client wrote into lines. A line longer than `longest` is thrown away whole, up to its end."""

    def __init__(self, ends: bytes, longest: int) -> None:
        self._ends, self._longest = ends, longest
        self._line = bytearray()
        self._overlong = False

    @property
    def unfinished(self) -> bytes:
        """The line that has no end yet."""
        return bytes(self._line)

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """The lines that end in `data`, without their ends and without empty ones; None for an overlong one."""
        for byte in data:
            if byte in self._ends:
                line, overlong = bytes(self._line), self._overlong
                self.forget()
                if overlong:
                    yield None
                elif line:
                    yield line
            elif len(self._line) < self._longest:
                self._line.append(byte)
            else:
                self._overlong = True

    def forget(self) -> None:
        """Throws an unfinished line away."""
        self._line.clear()
        self._overlong = False


class Answers:
    """Answers that wait to be polled: whole ones, no more than `limit` bytes of them."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._waiting = bytearray()
        self.lost = 0  # answers for which there was no room

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, answer: bytes) -> None:
        if len(self._waiting) + len(answer) > self._limit:
            self.lost += 1
        else:
            self._waiting += answer

    def take(self) -> bytes:
        """All of them, oldest first; then there are none."""
        said = bytes(self._waiting)
        self._waiting.clear()
        return said


class Timer:
    """A span of time that began at an instant. A clock that is set back does not make it longer."""

    def __init__(self, began_ns: int, length_ns: int) -> None:
        self._began_ns, self._length_ns = began_ns, length_ns

    def over(self, now_ns: int) -> bool:
        """Whether it has passed."""
        self._began_ns = min(self._began_ns, now_ns)
        return now_ns >= self.end_ns()

    def end_ns(self) -> int:
        """When it will have passed."""
        return self._began_ns + self._length_ns
