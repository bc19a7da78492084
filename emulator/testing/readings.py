"""Reads what the probe and transfer processes wrote, as arrays on the monotonic clock.

Stamps are CLOCK_REALTIME; the pairs of clocks in the same files turn them into CLOCK_MONOTONIC, so that a step of the
world's clock in the middle of a run bends nothing. A torn record at the end of a file is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from emulator.errors import EndpointError
from emulator.testing import stamps

Ints = npt.NDArray[np.int64]
LOST = -1
STEP_NS = 20_000_000  # a difference of the clocks that moves by more between two pairs was stepped, not slewed
MARGIN_NS = 10_000_000  # a kernel's stamp may be that much older than the pair of clocks before it in the file


@dataclass(frozen=True)
class ProbeRun:
    """The probes of one sender, in the order of their sending; arrays of shape (probes,).

    sequence: number of the send instant. sent_ns, arrived_ns: CLOCK_MONOTONIC; arrived_ns is −1 for a lost probe.
    not_sent: instants that passed while the sender did not run. refused: sends that the kernel refused.
    receiver_overflow: packets (of any sender) that the receiving socket dropped. duplicates: second copies that came.
    """

    sequence: Ints
    sent_ns: Ints
    arrived_ns: Ints
    stamp_source: Literal["kernel", "user space", "mixed", ""]
    not_sent: int = 0
    refused: int = 0
    receiver_overflow: int = 0
    duplicates: int = 0

    @property
    def lost(self) -> npt.NDArray[np.bool_]:
        return self.arrived_ns == LOST

    @property
    def delay_ns(self) -> Ints:
        """One-way delay, −1 for a lost probe."""
        return np.where(self.lost, LOST, self.arrived_ns - self.sent_ns)


@dataclass(frozen=True)
class BulkRun:
    """A TCP transfer. at_ns (CLOCK_MONOTONIC) and total_bytes, shape (instants,): payload received so far.

    congestion: in use at the sender. retransmitted: segments. round_trip_us: smoothed, at tcp_at_ns.
    """

    at_ns: Ints
    total_bytes: Ints
    congestion: str
    retransmitted: int
    tcp_at_ns: Ints
    round_trip_us: Ints

    def goodput_bps(self, edges_ns: Ints) -> npt.NDArray[np.float64]:
        """Payload bits per second between consecutive `edges_ns` (n + 1,) → (n,)."""
        if not len(self.at_ns):
            return np.zeros(max(0, len(edges_ns) - 1))
        total = np.interp(edges_ns, self.at_ns, self.total_bytes)
        return np.asarray(np.diff(total) * 8e9 / np.diff(edges_ns), np.float64)


def read_records(path: Path) -> Ints:
    """All whole records of a file, shape (records, 4). A missing file is an empty one: its process never began.

    Raises EndpointError for a file that exists and cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise EndpointError(f"{path}: cannot read: {error.strerror}") from error
    whole = len(data) - len(data) % stamps.RECORD.size
    return np.frombuffer(data[:whole], np.int64).reshape(-1, 4)


def read_probes(sent: Path, received: Path) -> ProbeRun:
    """Join what a sender and a receiver wrote."""
    tx, rx = read_records(sent), read_records(received)
    ours = _of(tx, stamps.SENT)
    stream = int(ours[0, 3]) if len(ours) else 0
    sequence = ours[:, 1]
    if np.any(np.diff(sequence) <= 0):
        raise EndpointError(f"{sent}: expected rising sequence numbers")
    sent_ns = _monotonic(tx, stamps.SENT)
    stamped = _of(tx, stamps.STAMPED)
    place, known = _places(sequence, stamped[:, 1])
    sent_ns[place] = _monotonic(tx, stamps.STAMPED)[known]
    rx = rx[(rx[:, 0] != stamps.RECEIVED) | (rx[:, 3] == stream)]
    arrivals = _of(rx, stamps.RECEIVED)
    arrived_ns = np.full(len(sequence), LOST, np.int64)
    place, known = _places(sequence, arrivals[:, 1])
    arrived = _monotonic(rx, stamps.RECEIVED)[known]
    arrived_ns[place[::-1]] = arrived[::-1]  # of copies, the first one counts
    kernel = len(np.unique(stamped[:, 1]))
    overflow = _of(rx, stamps.OVERFLOW)
    return ProbeRun(
        sequence=sequence,
        sent_ns=sent_ns,
        arrived_ns=arrived_ns,
        stamp_source=""
        if not len(sequence)
        else "kernel"
        if kernel >= len(sequence)
        else "mixed"
        if kernel
        else "user space",
        not_sent=int(_of(tx, stamps.MISSED)[:, 2].sum()),
        refused=len(_of(tx, stamps.REFUSED)),
        receiver_overflow=int(overflow[-1, 1]) if len(overflow) else 0,
        duplicates=len(place) - len(np.unique(place)),
    )


def read_bulk(sender: Path, receiver: Path) -> BulkRun:
    """Join what the two sides of a transfer wrote."""
    tx, rx = read_records(sender), read_records(receiver)
    received, tcp, named = _of(rx, stamps.BYTES), _of(tx, stamps.TCP), _of(tx, stamps.CONGESTION)
    return BulkRun(
        at_ns=received[:, 1],
        total_bytes=received[:, 2],
        congestion=named[0, 1:].tobytes().rstrip(b"\0").decode(errors="replace") if len(named) else "",
        retransmitted=int(tcp[-1, 2]) if len(tcp) else 0,
        tcp_at_ns=tcp[:, 1],
        round_trip_us=tcp[:, 3],
    )


def _of(records: Ints, kind: int) -> Ints:
    return records[records[:, 0] == kind]


def _places(sequence: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each of `wanted` stands in the rising `sequence`; the mask says which of them stand there at all."""
    place = np.searchsorted(sequence, wanted)
    known = np.zeros(len(wanted), np.bool_)
    inside = place < len(sequence)
    known[inside] = sequence[place[inside]] == wanted[inside]
    return place[known], known


def _monotonic(records: Ints, kind: int) -> Ints:
    """The stamps (third column) of the records of one kind, CLOCK_REALTIME → CLOCK_MONOTONIC.

    A stamp stands in its file between two pairs of clocks. Between them the difference of the clocks is a straight
    line (NTP slews it). Where it jumps the clock was stepped, and the difference holds with which the stamp falls
    into the time between the pairs; the earlier one if both do, or if the next pair was never written.
    """
    rows = np.flatnonzero(records[:, 0] == kind)
    world_ns = records[rows, 2]
    clocks = np.flatnonzero(records[:, 0] == stamps.CLOCK)
    if not len(clocks):
        return world_ns
    world, monotonic = records[clocks, 1], records[clocks, 2]
    offset = world - monotonic
    before = np.maximum(np.searchsorted(clocks, rows) - 1, 0)
    after = np.minimum(before + 1, len(clocks) - 1)
    change = offset[after] - offset[before]
    share = np.clip((world_ns - world[before]) / np.maximum(world[after] - world[before], 1), 0.0, 1.0)
    slewed = world_ns - offset[before] - np.rint(change * share).astype(np.int64)
    early, late = world_ns - offset[before], world_ns - offset[after]
    earliest, latest = monotonic[before] - MARGIN_NS, monotonic[after]
    early_fits, late_fits = ((at >= earliest) & (at <= latest) for at in (early, late))
    stepped = np.where(~early_fits & late_fits, late, early)
    return np.where(np.abs(change) < STEP_NS, slewed, stepped)
