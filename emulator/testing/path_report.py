"""What a path does to packets, from the stamps of `roundtrip`: delay, jitter, loss, reordering, each way and both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emulator.errors import EndpointError
from emulator.testing.roundtrip import ROW

Ints = npt.NDArray[np.int64]
COLUMNS = 8
NUMBER, T1, T2, T3, T4, THERE, HERE, KERNEL = range(COLUMNS)


@dataclass(frozen=True)
class Delays:
    """Of what arrived, ms. jitter_ms: mean of the changes from one packet to the next, their sign left out (RFC 3550).

    None throughout if nothing arrived.
    """

    minimum_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    maximum_ms: float | None
    jitter_ms: float | None


@dataclass(frozen=True)
class Way:
    """One direction. reordered: packets that arrived after a later one (RFC 4737)."""

    sent: int
    received: int
    lost: int
    reordered: int
    delay: Delays


@dataclass(frozen=True)
class PathReport:
    """forward: from the prober to the reflector. round_trip_ms: the reflector's own time left out.

    Delays of one way are the difference of two clocks: right within one machine, and elsewhere only as far as
    `clock_uncertainty_ms` either way (half of the shortest round trip; 0 within one machine).
    kernel_stamps: share of the four stamps that are the kernel's.
    """

    forward: Way
    backward: Way
    round_trip: Delays
    clock_uncertainty_ms: float
    kernel_stamps: float


def read_rows(path: Path) -> Ints:
    """What a prober wrote, (probes, COLUMNS), by number. Raises EndpointError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EndpointError(f"{path}: {error.strerror}") from error
    return rows_of(data)


def rows_of(data: bytes) -> Ints:
    """The same of what it wrote."""
    rows = np.frombuffer(data[: len(data) // ROW.size * ROW.size], np.int64).reshape(-1, COLUMNS)
    return rows[np.argsort(rows[:, NUMBER], kind="stable")]


def report(rows: Ints, *, same_clock: bool) -> PathReport:
    """rows: (probes, COLUMNS), by number, from `read_rows`. same_clock: prober and reflector share a machine."""
    back = rows[rows[:, T4] > 0]
    there = int(back[:, THERE].max(initial=0))  # a request that came twice counts twice here
    arrived = min(len(rows), there)
    forward_ns, backward_ns = back[:, T2] - back[:, T1], back[:, T4] - back[:, T3]
    round_ns = forward_ns + backward_ns
    doubt = 0.0 if same_clock or not len(back) else float(round_ns.min()) / 2e6
    kernel = 2 * len(back) + int(np.count_nonzero(back[:, KERNEL] & 1) + np.count_nonzero(back[:, KERNEL] & 2))
    return PathReport(
        forward=Way(
            len(rows), arrived, len(rows) - arrived, reordered(back[np.argsort(back[:, THERE])]), delays(forward_ns)
        ),
        backward=Way(
            arrived,
            len(back),
            max(0, arrived - len(back)),
            max(0, reordered(back[np.argsort(back[:, HERE])], by=THERE)),
            delays(backward_ns),
        ),
        round_trip=delays(round_ns),
        clock_uncertainty_ms=doubt,
        kernel_stamps=kernel / (4 * len(back)) if len(back) else 0.0,
    )


def reordered(rows: Ints, by: int = NUMBER) -> int:
    """How many rows, in order of arrival, come after one with a higher number."""
    numbers = rows[:, by]
    if not len(numbers):
        return 0
    return int(np.count_nonzero(numbers[1:] < np.maximum.accumulate(numbers)[:-1]))


def delays(values_ns: Ints) -> Delays:
    """Their distribution; jitter in the order in which they were sent."""
    if not len(values_ns):
        return Delays(None, None, None, None, None)
    minimum, p50, p99, maximum = (float(value) / 1e6 for value in np.percentile(values_ns, (0, 50, 99, 100)))
    jitter = float(np.abs(np.diff(values_ns)).mean()) / 1e6 if len(values_ns) > 1 else 0.0
    return Delays(minimum, p50, p99, maximum, jitter)
