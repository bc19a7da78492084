"""How much of something somebody may still have: a bucket that fills again."""

from __future__ import annotations

from collections import OrderedDict

from emulator.units import NS_PER_S

KNOWN_CLIENTS = 1024


class Allowance:
    """How many requests each client may still make: `burst` at once, and `per_s` more each second."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def take(self, client: bytes, now_ns: int) -> bool:
        """Whether one more is in it."""
        left, since_ns = self._left.pop(client, (self._burst, now_ns))
        left = min(self._burst, left + (now_ns - since_ns) * self._per_s / NS_PER_S)
        self._left[client] = (left - 1 if left >= 1 else left, now_ns)
        if len(self._left) > KNOWN_CLIENTS:
            self._left.popitem(last=False)
        return left >= 1
