"""The options as arrays, as compiled code reads them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from emulator.link import state
from emulator.link.custom import MEMORY_WORDS, PACKET_WORDS, load_stage
from emulator.link.distributions import (
    bit_error_table,
    memory_weights,
    normal_table,
    quantile_table,
    sample_table,
)
from emulator.link.draws import JITTER_ONE
from emulator.link.fair import NOBODY
from emulator.link.lose import chain_state
from emulator.link.options import (
    CODEL_TARGET_NS,
    DISCIPLINES,
    TARGET_NS,
    Jitter,
    LaneOptions,
    LinkOptions,
    Markov,
    Rule,
    Spells,
)
from emulator.link.state import NEVER, LinkState
from emulator.timeline.model import LOSS_ONE, Ints

LONGEST_PACKET = 65_535 + 1000  # IP and the most overhead that a scenario may add
LONGEST_OBLIVION = 1 << 14  # steps; far fewer than a chain is followed back
DENSEST = 6  # spells: how many could begin, on average, while the longest lasts; the search grows as e to this
NONE = np.zeros(0, np.int64)


def power_of_two(least: int) -> int:
    """The smallest power of two that is `least` or more."""
    return 1 << max(0, least - 1).bit_length()


def odds(share: float) -> int:
    """A probability × 2³²."""
    return round(share * LOSS_ONE)


def new_state(options: LinkOptions, timeline_rows: int) -> LinkState:
    """Arrays for a link of these options, constants filled in and nothing under way."""
    lanes = options.lanes or (LaneOptions(options.queue_packets),)
    longest = max(lane.queue_packets for lane in lanes)
    flows = sum(lane.flows for lane in lanes if lane.discipline == "fq_codel")
    shape = options.jitter or Jitter()
    weights = memory_weights(shape.correlation)
    made = LinkState(
        ring=np.zeros(options.memory_bytes, np.uint8),
        supers=np.zeros((max(1 << 10, options.memory_bytes >> 8), state.SUPER_COLUMNS), np.int64),
        queue=np.zeros((len(lanes), power_of_two(longest + 1), state.Q_COLUMNS), np.int64),
        lanes=lane_table(lanes),
        rules=rule_table(options.rules),
        matches=match_table(options.rules),
        bounds=port_bounds(options.rules),
        flight=np.zeros((options.flight_packets, state.F_COLUMNS), np.int64),
        rows=np.zeros((timeline_rows, state.ROW_COLUMNS), np.int64),
        overlay=np.zeros((2, state.OVERLAY_ROWS, state.O_COLUMNS), np.int64),
        efficiency=NONE if options.efficiency is None else options.efficiency,
        jitter=jitter_table(shape),
        dropped=np.zeros(state.CAUSES, np.int64),
        ledger=np.zeros((options.ledger_events, state.L_COLUMNS), np.int64),
        flows=np.zeros((flows, state.FLOW_COLUMNS), np.int64),
        chain=chain_table(options),
        spells=NONE if options.spells is None else spell_table(options.spells),
        doomed=np.array(sorted(set(options.lost_packets)), np.int64),
        bit_errors=NONE if options.bit_error_rate == 0 else bit_error_table(options.bit_error_rate, LONGEST_PACKET),
        normal=np.zeros((2, 0), np.int64) if len(weights) == 0 else normal_table(),
        weights=weights,
        opportunities=NONE if options.opportunities is None else np.array(options.opportunities.instants_ns, np.int64),
        words=np.zeros(0 if options.stage is None else PACKET_WORDS + MEMORY_WORDS, np.int64),
        reg=np.zeros(state.REGISTERS, np.int64),
    )
    made.flows[:, (state.FLOW_FIRST, state.FLOW_LAST, state.FLOW_NEXT)] = NOBODY
    _fill_registers(made, options)
    return made


def check_options(options: LinkOptions) -> None:
    """Raises ValueError or ScenarioError if no link can be made of the options; takes no memory to speak of."""
    small = [replace(lane, queue_packets=1) for lane in options.lanes]
    new_state(replace(options, lanes=tuple(small), memory_bytes=1 << 10, flight_packets=1, ledger_events=0), 1)


def _fill_registers(made: LinkState, options: LinkOptions) -> None:
    """The constants of the link, and where nothing has happened yet."""
    reg = made.reg
    reg[state.OVERHEAD_BYTES], reg[state.EGRESS_RATE] = options.overhead_bytes, options.egress_rate_bps
    reg[state.ETHERNET], reg[state.LONGEST] = options.ethernet, options.longest_packet
    reg[state.FRAME], reg[state.GRANT] = options.frame_ns, options.grant_ns
    reg[state.REQUEST], reg[state.REQUEST_KEPT] = options.request_ns, options.request_kept_ns
    if options.request_volume:
        reg[state.REQUEST_KEPT] = -NEVER
    reg[state.EFFICIENCY_ZERO], reg[state.JITTER_BIN] = options.efficiency_zero, options.jitter_bin_ns
    for place in (state.CH_FROM, state.CH_UNTIL, state.LAST_DUE, state.FREE, state.JITTER_AT):
        reg[place] = -NEVER
    for place in (state.CHAIN_AT, state.SPELL_AT, state.BUCKET_AT, state.OPPORTUNITY_AT):
        reg[place] = -NEVER
    reg[state.SPOIL_ODDS], reg[state.COPY_ODDS] = odds(options.spoilt), odds(options.copied)
    reg[state.LATE_ODDS], reg[state.LATE_NS] = odds(options.late), options.late_ns
    reg[state.JITTER_OVERTAKES] = options.jitter is not None and options.jitter.overtakes
    if options.bursts is not None:
        reg[state.CHAIN_BIN] = options.bursts.bin_ns
    if options.markov is not None:
        reg[state.CHAIN_BIN] = options.markov.step_ns
        _expect_oblivion(made)
    if options.spells is not None:
        reg[state.SPELL_BIN], reg[state.SPELL_LOSS] = options.spells.bin_ns, odds(options.spells.loss)
        reg[state.SPELL_ODDS] = options.spells.bin_ns * LOSS_ONE // options.spells.gap_ns
        reg[state.SPELL_LONGEST] = made.spells.max()
    if options.bucket is not None:
        reg[state.BUCKET_RATE], reg[state.BUCKET_FULL] = options.bucket.rate_bps, options.bucket.burst_bytes * 8 * 10**9
        reg[state.BUCKET_LEVEL] = reg[state.BUCKET_FULL]
    if options.opportunities is not None:
        reg[state.OPPORTUNITY_BYTES] = options.opportunities.packet_bytes
    if options.stage is not None:
        folder = Path(options.stage.folder) if options.stage.folder else None
        reg[state.STAGE_CODE] = load_stage(options.stage.name, folder)
        reg[state.STAGE_WORDS], reg[state.RING_ADDRESS] = made.words.ctypes.data, made.ring.ctypes.data
        if len(options.stage.values) > MEMORY_WORDS:
            raise ValueError(f"stage: expected at most {MEMORY_WORDS} values, got {len(options.stage.values)}")
        made.words[PACKET_WORDS : PACKET_WORDS + len(options.stage.values)] = options.stage.values
    has = {
        state.HAS_LOSSES: any(len(table) for table in (made.chain, made.spells, made.doomed, made.bit_errors)),
        state.HAS_DAMAGE: options.spoilt or options.copied or options.late,
        state.HAS_STAGE: options.stage is not None,
        state.HAS_BUCKET: options.bucket is not None,
        state.HAS_OPPORTUNITIES: options.opportunities is not None,
        state.HAS_OVERTAKING: options.late or reg[state.JITTER_OVERTAKES],
    }
    reg[state.FEATURES] = sum(bit for bit, wanted in has.items() if wanted)


def lane_table(options: tuple[LaneOptions, ...]) -> Ints:
    """The lanes as compiled code reads them."""
    table = np.zeros((len(options), state.LANE_COLUMNS), np.int64)
    first_flow = 0
    for row, lane in zip(table, options, strict=True):
        row[state.LANE_LIMIT] = lane.queue_packets
        row[state.LANE_LIMIT_BYTES] = lane.queue_bytes
        row[state.LANE_LIMIT_NS] = lane.longest_wait_ns
        row[state.LANE_DISCIPLINE] = DISCIPLINES[lane.discipline]
        row[state.LANE_ECN] = lane.ecn
        row[state.AQM_TARGET] = lane.target_ns or TARGET_NS.get(lane.discipline, CODEL_TARGET_NS)
        row[state.AQM_INTERVAL] = lane.interval_ns
        row[state.PIE_NEXT] = -NEVER
        if lane.discipline == "fq_codel":
            row[state.FAIR_FIRST], row[state.FAIR_FLOWS] = first_flow, lane.flows
            row[state.FAIR_QUANTUM] = lane.quantum_bytes
            for place in ("FREE", "NEW_FIRST", "NEW_LAST", "OLD_FIRST", "OLD_LAST"):
                row[getattr(state, f"FAIR_{place}")] = NOBODY
            first_flow += lane.flows
    return table


def rule_table(rules: tuple[Rule, ...]) -> Ints:
    """The rules as compiled code reads them."""
    table = np.zeros((len(rules), state.RULE_COLUMNS), np.int64)
    for row, rule in zip(table, rules, strict=True):
        row[state.RULE_LANE] = rule.lane
        version, row[state.RULE_BITS], address = rule.network
        row[state.RULE_VERSION] = version
        words = 1 if version == 4 else 4
        for word in range(words):
            row[state.RULE_ADDRESS + word] = (address >> 32 * (words - 1 - word)) & 0xFFFFFFFF
    return table


def port_bounds(rules: tuple[Rule, ...]) -> Ints:
    """The ports from which on another set of rules fits, rising."""
    edges = {edge for rule in rules if rule.ports[0] >= 0 for edge in (rule.ports[0], rule.ports[1] + 1)}
    return np.array(sorted(edges), np.int64)


def match_table(rules: tuple[Rule, ...]) -> Ints:
    """Which rules fit a protocol, a DSCP, and a port between two bounds, as bits."""
    bounds = port_bounds(rules).tolist()
    words = -(-len(rules) // state.RULES_PER_WORD)
    table = np.zeros((state.MATCH_PORTS + len(bounds) + 1, words), np.int64)
    for index, rule in enumerate(rules):
        word, bit = index // state.RULES_PER_WORD, 1 << index % state.RULES_PER_WORD
        fits = np.zeros(len(table), bool)
        fits[: state.MATCH_DSCP] = rule.protocol < 0
        fits[state.MATCH_DSCP : state.MATCH_NO_PORTS] = rule.dscp < 0
        fits[state.MATCH_NO_PORTS :] = rule.ports[0] < 0
        if rule.protocol >= 0:
            fits[rule.protocol] = True
        if rule.dscp >= 0:
            fits[state.MATCH_DSCP + rule.dscp] = True
        if rule.ports[0] >= 0:
            first, last = (bounds.index(edge) + 1 for edge in (rule.ports[0], rule.ports[1] + 1))
            fits[state.MATCH_PORTS + first : state.MATCH_PORTS + last] = True
        table[fits, word] |= bit
    return table


def jitter_table(shape: Jitter) -> Ints:
    """Quantiles of the jitter, of mean JITTER_ONE."""
    if not shape.samples:
        return quantile_table(shape.shape, shape.spread)
    mean = math.fsum(shape.samples) / len(shape.samples)
    return sample_table([sample / mean for sample in shape.samples])


def chain_table(options: LinkOptions) -> Ints:
    """The Markov chain of a loss that comes in bursts, (states, states + 1); without states if there is none.

    Row: the odds of each following state and all before it, × 2³², and the loss within the state.
    """
    if options.bursts is not None:
        bursts = options.bursts
        enter, leave = (bursts.bin_ns * LOSS_ONE // mean for mean in (bursts.gap_ns, bursts.length_ns))
        good = [LOSS_ONE - enter, LOSS_ONE, 0]
        bad = [leave, LOSS_ONE, odds(bursts.loss)]
        return np.array([good, bad], np.int64)
    if options.markov is None:
        return np.zeros((0, 1), np.int64)
    return _markov_table(options.markov)


def _markov_table(markov: Markov) -> Ints:
    states = len(markov.losses)
    table = np.zeros((states, states + 1), np.int64)
    for state_, row in enumerate(markov.transitions):
        reached = 0.0
        for following, share in enumerate(row):
            reached += share
            table[state_, following] = min(LOSS_ONE, odds(reached))
        table[state_, states - 1] = LOSS_ONE
        table[state_, states] = odds(markov.losses[state_])
    return table


def _expect_oblivion(made: LinkState) -> None:
    """Raises ValueError for a chain that does not forget where it began, or so slowly that it cannot be looked up."""
    reg = made.reg.copy()
    for trial in range(4):
        time_bin = trial * 10**6
        ends = set()
        for first in range(len(made.chain)):
            reg[state.CHAIN_AT], reg[state.CHAIN_STATE] = time_bin - LONGEST_OBLIVION, first
            ends.add(int(chain_state(reg, made.chain, time_bin)))
        if len(ends) > 1:
            raise ValueError(f"markov: expected a chain that forgets its beginning within {LONGEST_OBLIVION} steps")


def spell_table(spells: Spells) -> Ints:
    """Lengths of spells in bins, at least one."""
    if spells.lengths_ns:
        unit = spells.bin_ns
        table = sample_table([length / unit for length in spells.lengths_ns], spells.weights)
    else:
        table = quantile_table(spells.shape, spells.spread) * (spells.length_ns // spells.bin_ns)
    bins = np.maximum(1, (table + JITTER_ONE // 2) // JITTER_ONE)
    if int(bins.max()) * spells.bin_ns > DENSEST * spells.gap_ns:
        raise ValueError(
            f"bursts: expected a mean gap of at least 1/{DENSEST} of the longest burst, "
            f"{bins.max() * spells.bin_ns / 1e6:.0f} ms"
        )
    return bins
