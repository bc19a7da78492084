"""Whether the emulation keeps up with real time, by the packets' lateness: looked at twice a second, and told.

A packet is due at its logical time and leaves when the packet loop gets to it; what lies between is lateness. It does
not add up from packet to packet, but while it is large, what is measured is the machine and not the link.
"""

from __future__ import annotations

from collections.abc import Callable

from emulator.link.state import Ints

LATE_US = 1000  # a packet that leaves later than this is counted as late
LATE_SHARE, LATE_PACKETS = 0.01, 20  # so many of a period's packets are late: behind
REMIND_LOOKS = 20  # while it lasts, it is told again after so many looks


def late_packets(lateness_us: Ints) -> int:
    """How many packets left more than LATE_US late. lateness_us: (bins,), packets by whole µs."""
    return int(lateness_us[LATE_US:].sum())


class Punctuality:
    """Looks at the loop's counters, and says when it falls behind and when it has caught up. Reads no clock.

    tell: gets a line for the person. period: how long lies between two looks, in words.
    """

    def __init__(self, tell: Callable[[str], None], period: str) -> None:
        self._tell, self._period = tell, period
        self._seen: Ints | None = None
        self._turns = -1
        self._behind_looks = 0

    def look(self, lateness_us: Ints, turns: int) -> None:
        """The histogram of lateness and the turns of the loop so far."""
        fault = ""
        if self._seen is not None:
            passed = lateness_us - self._seen
            late, packets = late_packets(passed), int(passed.sum())
            if turns == self._turns:
                fault = f"the packet loop has not run for {self._period}"
            elif late >= LATE_PACKETS and late >= LATE_SHARE * packets:
                worst = int(passed.nonzero()[0][-1])
                at_most = "or more" if worst == len(passed) - 1 else "at most"
                fault = (
                    f"{late} of {packets} packets of the last {self._period} left more than "
                    f"{LATE_US / 1000:g} ms late, {worst / 1000:.1f} ms {at_most}"
                )
        self._seen, self._turns = lateness_us.copy(), turns
        if fault and self._behind_looks % REMIND_LOOKS == 0:
            self._tell(f"the emulation falls behind real time: {fault}")
        if not fault and self._behind_looks:
            self._tell("the emulation keeps up with real time again")
        self._behind_looks = self._behind_looks + 1 if fault else 0
