"""From records to rows: which rounds count, what is in doubt, what is promised before a run."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from emulator.testing.performance.figures import FIGURES
from emulator.testing.performance.measures import TRIALS, chosen_trials, describe, takes_s
from emulator.testing.performance.names import FLOWS, MEASURES, QUICK, SIZES, STAGES, USUAL
from emulator.testing.performance.places import Settings
from emulator.testing.performance.rows import Row, ending, rows
from emulator.testing.performance.run import Report, expected_s
from emulator.testing.performance.table import footnotes, markdown, render

Record = dict[str, Any]
FAILED: Record = {"error": "it broke"}
DEFAULT = Settings(rounds=3, seconds=3.0, tool="iperf3")
ONE_ROUND = Settings(rounds=1, seconds=3.0, tool="iperf3")


def tcp(gbps: float, *, late_us: int | None = 3) -> Record:
    return {
        "goodput_bps": gbps * 1e9,
        "retransmitted": 0,
        "link": {
            "delivered_bps": gbps * 1e9,
            "loop_cpu_ns_per_packet": 500.0,
            "other_cpu_share": 0.04,
            "lateness_us": {"p50": late_us, "p99": late_us, "p99.9": late_us},
        },
        "memory": {"before_bytes": 10_000_000, "peak_bytes": 60_000_000, "ceiling_bytes": 100_000_000},
    }


def udp(sent: int = 100_000, lost: int = 0, left_out: int = 0, no_room: int = 0) -> Record:
    return {
        "sent": sent,
        "received": sent - lost - no_room,
        "lost": lost,
        "left_out": left_out,
        "no_room": no_room,
        "seconds": 2.0,
        "sent_per_s": sent / 2.0,
        "link": {"loop_cpu_ns_per_packet": 4000.0},
    }


def flows(cost: float) -> Record:
    return {
        "flows": {str(count): {"goodput_bps": 1e9, "retransmitted": 7 * (count == 1000)} for count in FLOWS},
        "cost": {str(count): cost for count in FLOWS},
    }


def limit(rate: int, *, lost: int) -> Record:
    return {"packets_per_s": rate, "steps": [{"packets_per_s": rate, "sent": rate, "lost": lost, "sent_per_s": rate}]}


def whole_run(rounds: int = 3) -> dict[str, list[Record]]:
    records = {
        "tcp": tcp(10),
        "flows": flows(1.2),
        "small-flows": flows(20),
        "gigabit": tcp(0.99),
        "all-stages": tcp(0.97),
        "stages": {"ns": dict.fromkeys(STAGES, 100.0)},
        "sizes": {"sizes": {str(size): udp() for size in SIZES}},
        "ten-gigabit": tcp(9.5),
        "paced": udp() | {"lateness_us": {"p50": 0, "p99": 40, "p99.9": 300}},
        "udp": udp(),
        "limit": limit(150_000, lost=0),
        "probed": udp() | {"error_us": {"p50": 30.0, "p99": 120.0}},
        "delay": {"error_us": {"p50": 20.0, "p99": 90.0}},
        "start": {"seconds": 1.4},
        "fixture": {"ms": 60.0, "longest_ms": 80.0, "tests": 10},
        "report": {"seconds": 3.0, "cores_s": 3.0, "page_bytes": 800_000},
        "sweep": {"seconds": 11.0, "cores_s": 20.0, "runs": 200, "cores": 2},
        "batches": {"goodput_bps": 12e9},
        "inject": {"packets_per_s": 70_000.0},
        "felt": {"reaction_ms": {"p50": 5.6, "p99": 9.0, "longest": 12.0}},
    }
    records["gigabit"] |= {"lost_share": 0.0, "link_lost": 0}
    return {key: [records[key.split("/")[0]]] * rounds for key in TRIALS}


def found(rounds: dict[str, list[Record]], key: str) -> Row:
    return next(row for row in rows(rounds) if row.key == key)


def report(rounds: dict[str, list[Record]]) -> Report:
    facts = {"cpus": 2, "cpu_model": "any", "kernel": "6", "python": "3", "packages": {}, "user": "root", "iperf3": "3"}
    load = {"load_average": [0.0, 0.0, 0.0], "busy_cpus": 0.0, "stolen_share": 0.0}
    return Report(DEFAULT, facts, load, rounds, [], load, 1.0)


def test_a_whole_run_gives_every_row_once() -> None:
    keys = [row.key for row in rows(whole_run())]
    assert keys == [figure.key for figure in FIGURES]
    assert len(set(keys)) == len(keys)


def test_every_trial_is_in_a_measure_and_in_a_row() -> None:
    used = {figure.value.trial for figure in FIGURES} | {figure.baseline.trial for figure in FIGURES if figure.baseline}
    assert used == set(TRIALS) == {key for keys in MEASURES.values() for key in keys}
    assert all(describe(key) for key in TRIALS)


def test_nothing_measured_gives_no_rows() -> None:
    assert rows({}) == []


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_a_round_counts_where_neither_the_value_nor_its_baseline_failed(fates: list[tuple[bool, bool]]) -> None:
    rounds = {
        "tcp/bench": [tcp(number + 1) if ours else FAILED for number, (ours, _) in enumerate(fates)],
        "tcp/forwarding": [tcp(2 * (number + 1)) if theirs else FAILED for number, (_, theirs) in enumerate(fates)],
    }
    good = [number + 1 for number, (ours, theirs) in enumerate(fates) if ours and theirs]
    matching = [row for row in rows(rounds) if row.key == "tcp.of_offloads_on"]
    if not good:
        assert matching == []
        return
    assert matching[0].value.values == tuple(good)
    assert matching[0].ratio is not None
    assert set(matching[0].ratio.values) == {0.5}


def test_one_lossy_round_among_three_is_a_loss() -> None:
    rounds = whole_run() | {"udp/bench": [udp(), udp(lost=1), udp()]}
    assert found(rounds, "udp.lost").met is False
    assert found(whole_run(), "udp.lost").met is True


def test_a_generator_that_was_late_leaves_the_loss_in_doubt() -> None:
    rounds = whole_run() | {"udp/bench": [udp(sent=80_000, left_out=20_000)] * 3}
    row = found(rounds, "udp.lost")
    assert row.met is None
    assert "80%" in row.doubt
    assert any("in doubt" in line for line in footnotes(report(rounds)))


def test_one_size_that_was_sent_too_late_leaves_the_loss_of_all_sizes_in_doubt() -> None:
    sizes = {str(size): udp() for size in SIZES} | {"512": udp(sent=10_000, left_out=90_000)}
    rounds = whole_run() | {"sizes/bench": [{"sizes": sizes}] * 3}
    assert found(rounds, "sizes.lost_64").met is None
    assert found(whole_run(), "sizes.lost_64").met is True


def test_what_flows_sent_again_is_told_beside_them() -> None:
    assert found(whole_run(), "flows.carried_1000").note == "21 segments were sent again"
    assert found(whole_run(), "flows.carried_1").note == ""


def test_a_thousand_flows_are_judged_by_what_they_cost_the_kernel() -> None:
    assert found(whole_run(), "flows.cost_1000").met is True  # 1.2 against 1.2
    assert found(whole_run() | {"flows/bench": [flows(2)] * 3}, "flows.cost_1000").met is False
    assert found(whole_run(), "flows.small_cost_1000").met is None


def test_stubs_that_cost_nothing_are_compared_with_the_same_load_without_them() -> None:
    assert found(whole_run(), "stubs.share").met is True
    slowed = whole_run() | {"gigabit/stubs": [tcp(0.9)] * 3}
    assert found(slowed, "stubs.share").met is False
    assert found(whole_run(), "stubs.lost").met is True
    assert (
        found(
            whole_run() | {"paced/stubs": [udp(lost=1) | {"lateness_us": {"p50": 0, "p99": 1}}] * 3}, "stubs.lost"
        ).met
        is False
    )


def test_what_found_no_room_at_the_receiver_is_no_loss_of_the_link_and_is_told() -> None:
    row = found(whole_run() | {"udp/bench": [udp(no_room=40)] * 3}, "udp.lost")
    assert row.met is True
    assert row.note.startswith("120 more")


def test_a_link_that_carried_nothing_has_no_lateness() -> None:
    rounds = whole_run() | {"gigabit/bench": [tcp(0.99, late_us=None)] * 3}
    assert not any(row.key.startswith("gigabit.lateness") for row in rows(rounds))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"packets_per_s": 200_000, "lost": 3, "sent": 200_000, "sent_per_s": 2e5}, "3 of 200,000 were lost"),
        ({"packets_per_s": 200_000, "lost": 0, "sent": 150_000, "sent_per_s": 1.5e5}, "could not send"),
        ({"packets_per_s": 250_000, "lost": 0, "sent": 250_000, "sent_per_s": 2.5e5}, "nothing above"),
    ],
)
def test_a_search_says_what_ended_it(step: Record, why: str) -> None:
    assert why in ending([step])


def test_a_report_is_json_without_numbers_that_json_has_not() -> None:
    told = json.loads(json.dumps(report(whole_run()).as_json(), allow_nan=False))
    assert [row["key"] for row in told["rows"]] == [figure.key for figure in FIGURES]
    assert {row["met"] for row in told["rows"]} <= {True, False, None}


def test_a_page_has_the_table_that_a_terminal_has() -> None:
    made = report(whole_run())
    lines = markdown(made).splitlines()
    width = lines[0].count("|")
    assert [line.count("|") for line in lines[: 2 + len(made.rows())]] == [width] * (2 + len(made.rows()))
    assert lines[-len(footnotes(made)) :] == footnotes(made)
    printed = io.StringIO()
    Console(width=1000, file=printed).print(render(made))
    shown = " ".join(printed.getvalue().split())
    assert all(" ".join(field.split()) in shown for line in lines[2:] for field in line.strip("| ").split(" | "))


def test_a_failure_is_in_the_report_and_takes_nothing_else_with_it() -> None:
    rounds = whole_run() | {"tcp/zmq": [FAILED] * 3}
    made = report(rounds)
    assert made.failures == ["tcp through the link over ZeroMQ: it broke"]
    assert not any(row.key.startswith("tcp.zmq") for row in made.rows())
    assert found(rounds, "tcp.of_offloads_on").ratio is not None
    assert render(made) is not None


@given(st.lists(st.sampled_from(sorted(MEASURES)), min_size=1, max_size=8))
def test_trials_run_once_a_round_and_in_one_order(measures: list[str]) -> None:
    chosen = chosen_trials(measures)
    assert chosen == [key for key in TRIALS if key in {wanted for name in measures for wanted in MEASURES[name]}]
    assert chosen == chosen_trials([*reversed(measures), *measures])


def test_the_time_that_is_promised_is_the_time_that_is_allowed() -> None:
    assert expected_s(chosen_trials(USUAL), DEFAULT) <= 600
    assert expected_s(chosen_trials(QUICK), ONE_ROUND) <= 60
    assert all(takes_s(key, DEFAULT) > 0 for key in TRIALS)
