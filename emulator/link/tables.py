"""The options as arrays, as compiled code reads them."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from emulator.link import state
from emulator.link.custom import DATA_WORD, MEMORY_WORDS, PACKET_WORDS, STAGE_WORDS, load_stage
from emulator.link.distributions import (
    bit_error_table,
    memory_weights,
    normal_table,
    quantile_table,
    sample_table,
)
from emulator.link.draws import JITTER_ONE, QUANTILES
from emulator.link.fair import NOBODY
from emulator.link.lose import CHAIN_ONE_BITS, LONGEST_MEMORY
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
from emulator.units import NS_PER_MS, NS_PER_S

LONGEST_PACKET = 65_535 + 1000  # IP and the most overhead that a scenario may add
CHAIN_ONE = 1 << CHAIN_ONE_BITS
REMEMBERED = 2.0**-40  # the odds that a chain has not forgotten its beginning after LONGEST_MEMORY steps: never seen
MOST_LOOKED_BACK = 1 << 12  # spells: starts, on average, back to where none lasts; a third of a millisecond
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
    rows = power_of_two(longest + 1)
    flows = sum(lane.flows for lane in lanes if lane.discipline == "fq_codel")
    shape = options.jitter or Jitter()
    weights = memory_weights(shape.correlation)
    made = LinkState(
        ring=np.zeros(options.memory_bytes, np.uint8),
        supers=np.zeros((max(1 << 10, options.memory_bytes >> 8), state.SUPER_COLUMNS), np.int64),
        queue=np.zeros((len(lanes), rows, state.Q_COLUMNS), np.int64),
        lanes=lane_table(lanes),
        rules=rule_table(options.rules),
        matches=match_table(options.rules),
        bounds=port_bounds(options.rules),
        flight=np.zeros((options.flight_packets, state.F_COLUMNS), np.int64),
        overtaken=new_heap(options.flight_packets if options.late or shape.overtakes else 0),
        rows=np.zeros((timeline_rows, state.ROW_COLUMNS), np.int64),
        overlay=np.zeros((2, state.OVERLAY_ROWS, state.O_COLUMNS), np.int64),
        efficiency=NONE if options.efficiency is None else options.efficiency,
        jitter=jitter_table(shape),
        dropped=np.zeros(state.CAUSES, np.int64),
        ledger=np.zeros((options.ledger_events, state.L_COLUMNS), np.int64),
        flows=np.zeros((flows, state.FLOW_COLUMNS), np.int64),
        chain=chain_table(options),
        spells=np.zeros((0, 2), np.int64) if options.spells is None else spell_table(options.spells),
        doomed=np.array(sorted(set(options.lost_packets)), np.int64),
        bit_errors=NONE if options.bit_error_rate == 0 else bit_error_table(options.bit_error_rate, LONGEST_PACKET),
        normal=np.zeros((2, 0), np.int64) if len(weights) == 0 else normal_table(),
        weights=weights,
        opportunities=NONE if options.opportunities is None else np.array(options.opportunities.instants_ns, np.int64),
        requests=np.zeros(len(lanes) * rows if options.request_volume else 0, np.int64),
        words=np.zeros(0 if options.stage is None else STAGE_WORDS, np.int64),
        reg=np.zeros(state.REGISTERS, np.int64),
    )
    made.flows[:, (state.FLOW_FIRST, state.FLOW_LAST, state.FLOW_NEXT)] = NOBODY
    _fill_registers(made, options)
    return made


def new_heap(packets: int) -> Ints:
    """Room for as many packets that have been overtaken."""
    return np.zeros((packets, state.HEAP_COLUMNS), np.int64)


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
    for place in (state.CHAIN_AT, state.SPELL_FROM, state.SPELL_NEXT, state.BUCKET_AT, state.OPPORTUNITY_AT):
        reg[place] = -NEVER
    reg[state.SPOIL_ODDS], reg[state.COPY_ODDS] = odds(options.spoilt), odds(options.copied)
    reg[state.LATE_ODDS], reg[state.LATE_NS] = odds(options.late), options.late_ns
    reg[state.JITTER_OVERTAKES] = options.jitter is not None and options.jitter.overtakes
    if options.bursts is not None:
        reg[state.CHAIN_BIN] = options.bursts.bin_ns
    if options.markov is not None:
        reg[state.CHAIN_BIN] = options.markov.step_ns
    if options.spells is not None:
        reg[state.SPELL_GAP], reg[state.SPELL_LOSS] = options.spells.gap_ns, odds(options.spells.loss)
        reg[state.SPELL_LONGEST] = made.spells[:, 1].max()
    if options.bucket is not None:
        reg[state.BUCKET_RATE], reg[state.BUCKET_FULL] = options.bucket.rate_bps, options.bucket.burst_bytes * 8 * 10**9
        reg[state.BUCKET_LEVEL] = reg[state.BUCKET_FULL]
    if options.opportunities is not None:
        reg[state.OPPORTUNITY_BYTES] = options.opportunities.packet_bytes
    if options.stage is not None:
        folder = Path(options.stage.folder) if options.stage.folder else None
        reg[state.STAGE_CODE] = load_stage(options.stage.name, folder)
        reg[state.STAGE_ADDRESS], reg[state.STAGE_DATA] = made.words.ctypes.data, made.words[DATA_WORD:].ctypes.data
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
    return sample_table(shape.samples)


def chain_table(options: LinkOptions) -> Ints:
    """The Markov chain of a loss that comes in bursts, (states, states + 1); without states if there is none.

    Row: the odds of each following state and all before it, × 2⁶², and the loss within the state, × 2³².
    Raises ValueError for a chain that forgets where it began so slowly that it cannot be looked up, or never.
    """
    if options.bursts is not None:
        bursts = options.bursts
        enter, leave = (bursts.bin_ns * CHAIN_ONE // mean for mean in (bursts.gap_ns, bursts.length_ns))
        good = [CHAIN_ONE - enter, CHAIN_ONE, 0]
        bad = [leave, CHAIN_ONE, odds(bursts.loss)]
        table, name = np.array([good, bad], np.int64), "bursts"
    elif options.markov is not None:
        table, name = _markov_table(options.markov), "markov"
    else:
        return np.zeros((0, 1), np.int64)
    if remembered(table, LONGEST_MEMORY) > REMEMBERED:
        raise ValueError(f"{name}: expected a chain that forgets its beginning within {LONGEST_MEMORY} steps")
    return table


def _markov_table(markov: Markov) -> Ints:
    states = len(markov.losses)
    table = np.zeros((states, states + 1), np.int64)
    for state_, row in enumerate(markov.transitions):
        shares = [Fraction(share) for share in row]
        reached = [part / sum(shares) for part in accumulate(shares)]  # what rounding leaves belongs to all
        table[state_, :states] = [round(part * CHAIN_ONE) for part in reached]
        table[state_, states] = odds(markov.losses[state_])
    return table


def remembered(chain: Ints, steps: int) -> float:
    """The odds that a chain, after so many steps, is not in one state yet that does not depend on where it began.

    One draw leads all states at once; which of them are still reached is a Markov chain of sets of states.
    """
    states = len(chain)
    edges = sorted({0, *chain[:, :states].ravel().tolist()})
    leads = np.zeros((1 << states, 1 << states))
    for low, high in pairwise(edges):
        follows = [int(np.searchsorted(chain[one, :states], low, side="right")) for one in range(states)]
        for some in range(1 << states):
            after = {follows[one] for one in range(states) if some >> one & 1}
            if len(after) > 1:
                leads[some, sum(1 << one for one in after)] += (high - low) / CHAIN_ONE
    return float(np.linalg.matrix_power(leads, steps)[-1].sum())


def spell_table(spells: Spells) -> Ints:
    """Lengths of spells, (lengths, 2): the odds of each and all before it, × 2³², and the length, at least 1 ns.

    Raises ValueError where they come so densely that one would have to go back too far for an instant without any.
    """
    if spells.lengths_ns:
        weights = spells.weights or (1,) * len(spells.lengths_ns)
        lengths = [max(1, length) for length in spells.lengths_ns]
    else:
        weights = (1,) * QUANTILES
        table = quantile_table(spells.shape, spells.spread).tolist()
        lengths = [max(1, share * spells.length_ns // JITTER_ONE) for share in table]
    reached = [part * LOSS_ONE // sum(weights) for part in accumulate(weights)]
    shares = zip([0, *reached[:-1]], reached, lengths, strict=True)
    rows = [(share, length) for before, share, length in shares if share > before]
    mean = sum(weight * length for weight, length in zip(weights, lengths, strict=True)) / sum(weights)
    longest = max(length for _, length in rows)
    if _looked_back(spells.gap_ns, mean, longest) > MOST_LOOKED_BACK:
        enough = spells.gap_ns
        while _looked_back(enough, mean, longest) > MOST_LOOKED_BACK:
            enough += 1 + enough // 1000
        raise ValueError(
            f"bursts: expected every_s of at least {1.001 * enough / NS_PER_S:.4g} with lengths of "
            f"{mean / NS_PER_MS:.4g} ms in the mean and {longest / NS_PER_MS:.4g} ms at most, "
            f"got {spells.gap_ns / NS_PER_S:.4g}"
        )
    return np.array(rows, np.int64)


def _looked_back(gap_ns: int, mean_ns: float, longest_ns: int) -> float:
    """How many starts one has to go back, at most and on average, to an instant that none before it would reach.

    Instants that are the longest length apart depend on different starts; each is such an instant with the odds of an
    M/G/∞ queue to be empty, e to the minus starts within the mean length.
    """
    return longest_ns / gap_ns * math.exp(min(100.0, mean_ns / gap_ns))
