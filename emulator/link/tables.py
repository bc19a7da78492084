"""The options as arrays, as compiled code reads them."""

from __future__ import annotations

import numpy as np

from emulator.link import state
from emulator.link.options import DISCIPLINES, Bursts, LaneOptions, Rule
from emulator.timeline.model import LOSS_ONE, Ints


def power_of_two(least: int) -> int:
    """The smallest power of two that is `least` or more."""
    return 1 << max(0, least - 1).bit_length()


def lane_table(options: tuple[LaneOptions, ...]) -> Ints:
    """The lanes as compiled code reads them."""
    table = np.zeros((len(options), state.LANE_COLUMNS), np.int64)
    for row, lane in zip(table, options, strict=True):
        row[state.LANE_LIMIT] = lane.queue_packets
        row[state.LANE_LIMIT_BYTES] = lane.queue_bytes
        row[state.LANE_DISCIPLINE] = DISCIPLINES[lane.discipline]
        row[state.CODEL_TARGET] = lane.target_ns
        row[state.CODEL_INTERVAL] = lane.interval_ns
    return table


def rule_table(rules: tuple[Rule, ...]) -> Ints:
    """The rules as compiled code reads them."""
    table = np.zeros((len(rules), state.RULE_COLUMNS), np.int64)
    for row, rule in zip(table, rules, strict=True):
        row[state.RULE_LANE] = rule.lane
        row[state.RULE_PROTOCOL] = rule.protocol
        row[state.RULE_DSCP] = rule.dscp
        row[state.RULE_PORT_FIRST], row[state.RULE_PORT_LAST] = rule.ports
    return table


def chain_table(bursts: Bursts | None) -> Ints:
    """The Markov chain of a loss that comes in bursts, (states, states + 1); without states if there is none.

    Row: the odds of each following state and all before it, × 2³², and the loss within the state.
    """
    if bursts is None:
        return np.zeros((0, 1), np.int64)
    enter, leave = (bursts.bin_ns * LOSS_ONE // mean for mean in (bursts.gap_ns, bursts.length_ns))
    good = [LOSS_ONE - enter, LOSS_ONE, 0]
    bad = [leave, LOSS_ONE, round(bursts.loss * LOSS_ONE)]
    return np.array([good, bad], np.int64)
