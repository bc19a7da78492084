"""What is on the air, in the order in which it is due; of those due together, who was launched first goes first.

    ring    the packets that come next, in their order: all of them on a link where nobody overtakes
    heap    those behind, by due time and order: what has been overtaken waits here for its turn

Nobody in the ring comes after anybody in the heap. Who is due no earlier than the last of the ring and earlier than the
first of the heap joins the ring, which costs nothing to speak of; who is overtaken moves to the heap, and comes back
when he is next: each time in steps that grow with the logarithm of the packets in the heap.
"""

from __future__ import annotations

from emulator.link.compiled import compiled, compiled_apart
from emulator.link.state import (
    F_BYTES,
    F_DUE,
    F_HEAD,
    F_HEAPED,
    F_INDEX,
    F_ORDER,
    F_ORDER_FIRST,
    F_ORDER_LAST,
    F_SUPER,
    F_TAIL,
    HEAP_COLUMNS,
    NEVER,
    SPOILT,
    Ints,
    LinkState,
)


@compiled
def flying(reg: Ints) -> int:
    """How many wire packets are on the air; `flight` has rows for as many as may be."""
    return reg[F_TAIL] - reg[F_HEAD] + reg[F_HEAPED]


@compiled
def next_due(link: LinkState) -> int:
    """When the first packet on the air is due; NEVER if there is none."""
    reg, flight = link.reg, link.flight
    if reg[F_HEAD] < reg[F_TAIL]:
        return flight[reg[F_HEAD] % len(flight), F_DUE]
    if reg[F_HEAPED] > 0:
        return link.overtaken[0, F_DUE]
    return NEVER


@compiled
def append(reg: Ints, flight: Ints, due: int, place: int, index: int, length: int) -> None:
    """Puts a packet behind all others of the ring."""
    row = reg[F_TAIL] % len(flight)
    flight[row, F_DUE] = due
    flight[row, F_SUPER] = place
    flight[row, F_INDEX] = index
    flight[row, F_BYTES] = length
    reg[F_TAIL] += 1


@compiled_apart
def join(reg: Ints, flight: Ints, heap: Ints, due: int, place: int, index: int, length: int, floor: int) -> None:
    """A packet takes its place behind all that are due no later. floor: nobody who joins after it is due earlier."""
    while reg[F_HEAPED] > 0 and heap[0, F_DUE] <= floor:
        surface(reg, flight, heap)
    while reg[F_TAIL] > reg[F_HEAD] and flight[(reg[F_TAIL] - 1) % len(flight), F_DUE] > due:
        reg[F_TAIL] -= 1
        reg[F_ORDER_FIRST] -= 1  # before everybody in the heap who is due at the same time
        last = reg[F_TAIL] % len(flight)
        _push(
            reg, heap, flight[last, F_DUE], flight[last, F_SUPER], flight[last, F_INDEX],
            flight[last, F_BYTES], reg[F_ORDER_FIRST],
        )  # fmt: skip
    if reg[F_HEAPED] == 0 or due < heap[0, F_DUE]:
        append(reg, flight, due, place, index, length)
    else:
        reg[F_ORDER_LAST] += 1
        _push(reg, heap, due, place, index, length, reg[F_ORDER_LAST])


@compiled
def gather(reg: Ints, flight: Ints, heap: Ints, until: int) -> None:
    """Has the ring begin with the whole first run on the air, as far as it is due by `until`; the heap has somebody."""
    if reg[F_HEAD] == reg[F_TAIL]:
        surface(reg, flight, heap)
    first, size = reg[F_HEAD] % len(flight), len(flight)
    place, index, count = flight[first, F_SUPER], flight[first, F_INDEX], 1
    while reg[F_HEAD] + count < reg[F_TAIL]:
        row = (reg[F_HEAD] + count) % size
        if flight[row, F_SUPER] != place or flight[row, F_INDEX] != index + count:
            return
        count += 1
    while index & SPOILT == 0 and reg[F_HEAPED] > 0:
        if heap[0, F_DUE] > until or heap[0, F_SUPER] != place or heap[0, F_INDEX] != index + count:
            return
        surface(reg, flight, heap)
        count += 1


@compiled_apart
def surface(reg: Ints, flight: Ints, heap: Ints) -> None:
    """Moves the first packet of the heap, which must have one, to the end of the ring."""
    append(reg, flight, heap[0, F_DUE], heap[0, F_SUPER], heap[0, F_INDEX], heap[0, F_BYTES])
    reg[F_HEAPED] -= 1
    last, at, below = reg[F_HEAPED], 0, 1
    while below < last:
        if below + 1 < last and _goes_before(heap, below + 1, heap[below, F_DUE], heap[below, F_ORDER]):
            below += 1
        if not _goes_before(heap, below, heap[last, F_DUE], heap[last, F_ORDER]):
            break
        _move(heap, below, at)
        at, below = below, 2 * below + 1
    _move(heap, last, at)


@compiled_apart
def _push(reg: Ints, heap: Ints, due: int, place: int, index: int, length: int, order: int) -> None:
    at = reg[F_HEAPED]
    reg[F_HEAPED] += 1
    while at > 0 and not _goes_before(heap, (at - 1) // 2, due, order):
        _move(heap, (at - 1) // 2, at)
        at = (at - 1) // 2
    heap[at, F_DUE] = due
    heap[at, F_SUPER] = place
    heap[at, F_INDEX] = index
    heap[at, F_BYTES] = length
    heap[at, F_ORDER] = order


@compiled
def _goes_before(heap: Ints, row: int, due: int, order: int) -> bool:
    return heap[row, F_DUE] < due or (heap[row, F_DUE] == due and heap[row, F_ORDER] < order)


@compiled
def _move(heap: Ints, row: int, to: int) -> None:
    for column in range(HEAP_COLUMNS):
        heap[to, column] = heap[row, column]
