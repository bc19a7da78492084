"""PIE (RFC 8033), on the link's logical time: packets are dropped as they come, so often that the wait nears a target.

The wait is that of the packet which left last (RFC 8033 section 5.2 takes stamps, too), zero once the queue is empty.
The controller works every 15 ms of link time; what is due is worked out before anything changes in the queue, so that
it does not matter when the link is polled. All probabilities are × 2³².
"""

from __future__ import annotations

from emulator.link.compiled import compiled_apart
from emulator.link.draws import PURPOSE_PIE, draw32
from emulator.link.state import (
    AQM_TARGET,
    DIRECTION,
    LANE_BYTES,
    LANE_ECN,
    LANE_HEAD,
    LANE_TAIL,
    PIE_BURST,
    PIE_DELAY,
    PIE_DELAY_BEFORE,
    PIE_NEXT,
    PIE_ODDS,
    PIE_SUM,
    SEED,
    Ints,
)

ONE = 1 << 32
UPDATE_NS = 15_000_000  # T_UPDATE, RFC 8033 section 4.2
MOST_BURST_NS = 150_000_000  # MAX_BURST, RFC 8033 section 4.4
LEAST_BYTES = 2 * 1500  # RFC 8033 section 4.1: no drop while not more than two packets wait
SAFE_ODDS = ONE // 5  # RFC 8033 section 4.1: nor below these odds, while the wait is short
MOST_MARKING_ODDS = ONE // 10  # MAX_ECNTH, RFC 8033 section 5.1: above it, dropped all the same
LEAST_SUM, MOST_SUM = ONE * 85 // 100, ONE * 85 // 10  # RFC 8033 section 5.4
LONGEST_WAIT_US = 100_000_000  # so that products fit

ENTERS, GOES, ENTERS_MARKED = range(3)


@compiled_apart
def pie_update(lanes: Ints, lane: int, now: int) -> None:
    """Works out the updates of the drop probability that are due at `now`; nothing else has changed since the last."""
    row = lanes[lane]
    empty = row[LANE_HEAD] == row[LANE_TAIL]
    while row[PIE_NEXT] <= now:
        if empty:
            row[PIE_DELAY] = 0
        if row[PIE_ODDS] == 0 and row[PIE_DELAY] == 0 and row[PIE_DELAY_BEFORE] == 0:
            row[PIE_BURST] = MOST_BURST_NS
            if empty:
                row[PIE_NEXT] = now + UPDATE_NS  # at rest: the controller begins anew with the next packet
                return
        _update(row)
        row[PIE_NEXT] += UPDATE_NS


@compiled_apart
def _update(row: Ints) -> None:
    """One step of the controller (RFC 8033 sections 4.2, 4.4 and 5.5)."""
    target = row[AQM_TARGET]
    odds, delay, before = row[PIE_ODDS], row[PIE_DELAY], row[PIE_DELAY_BEFORE]
    above = min(LONGEST_WAIT_US, delay // 1000) - target // 1000
    growth = min(LONGEST_WAIT_US, delay // 1000) - min(LONGEST_WAIT_US, before // 1000)
    step = above * ONE // 8_000_000 + growth * ONE // 800_000  # alpha of 1/8 Hz, beta of 5/4 Hz, in µs
    share = 1  # the lower the odds, the smaller the steps
    if odds < ONE // 1_000_000:
        share = 2048
    elif odds < ONE // 100_000:
        share = 512
    elif odds < ONE // 10_000:
        share = 128
    elif odds < ONE // 1000:
        share = 32
    elif odds < ONE // 100:
        share = 8
    elif odds < ONE // 10:
        share = 2
    step = step // share
    if odds >= ONE // 10:
        step = min(step, ONE // 50)
    odds += step
    if delay == 0 and before == 0:
        odds = odds * 98 // 100
    row[PIE_ODDS] = min(ONE, max(0, odds))
    if row[PIE_ODDS] == 0 and delay < target // 2 and before < target // 2:
        row[PIE_BURST] = MOST_BURST_NS
    else:
        row[PIE_BURST] = max(0, row[PIE_BURST] - UPDATE_NS)
    row[PIE_DELAY_BEFORE] = delay


@compiled_apart
def pie_admits(reg: Ints, lanes: Ints, lane: int, number: int, now: int, capable: bool) -> int:
    """What becomes of packet `number`, which comes at `now`: ENTERS, GOES, or ENTERS_MARKED if it is ECN-capable."""
    pie_update(lanes, lane, now)
    row = lanes[lane]
    odds = row[PIE_ODDS]
    if row[PIE_BURST] > 0:
        return ENTERS
    short = row[PIE_DELAY_BEFORE] < row[AQM_TARGET] // 2 and odds < SAFE_ODDS
    if short or row[LANE_BYTES] <= LEAST_BYTES:
        return ENTERS
    if odds == 0:
        row[PIE_SUM] = 0
    row[PIE_SUM] += odds
    if row[PIE_SUM] < LEAST_SUM:
        return ENTERS
    if row[PIE_SUM] < MOST_SUM and draw32(reg[SEED], reg[DIRECTION], PURPOSE_PIE, number) >= odds:
        return ENTERS
    row[PIE_SUM] = 0
    if row[LANE_ECN] != 0 and capable and odds <= MOST_MARKING_ODDS:
        return ENTERS_MARKED
    return GOES
