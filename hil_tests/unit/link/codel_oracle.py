"""CoDel as RFC 8289 section 5 tells it, as one decision for each packet at the head of a queue."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_BYTES = 1514


@dataclass
class Codel:
    """The state of one queue."""

    target_ns: int
    interval_ns: int
    first_above: int = 0
    next: int = 0
    count: int = 0
    last: int = 0
    dropping: bool = False

    def drops(self, waited: int, behind: int, now: int) -> bool:
        """Whether the head is dropped, which has waited so long, with so many bytes behind it."""
        late = False
        if waited < self.target_ns or behind <= LEAST_BYTES:
            self.first_above = 0
        elif self.first_above == 0:
            self.first_above = now + self.interval_ns
        else:
            late = now >= self.first_above
        if not late:
            self.dropping = False
            return False
        if self.dropping:
            if now < self.next:
                return False
            self.count += 1
            self.next += self.spacing(self.count)
            return True
        since = self.count - self.last
        self.count = since if since > 1 and now - self.next < 16 * self.interval_ns else 1
        self.next = now + self.spacing(self.count)
        self.last, self.dropping = self.count, True
        return True

    def empty(self) -> None:
        """The queue ran empty."""
        self.first_above, self.dropping = 0, False

    def spacing(self, count: int) -> int:
        return (self.interval_ns << 16) // math.isqrt(count << 32)
