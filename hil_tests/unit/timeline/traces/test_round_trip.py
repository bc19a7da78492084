"""What is written as a trace and read again is the same Timeline, as far as the format can say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Channel, Timeline
from emulator.timeline.save import save_npz
from emulator.timeline.table import COLUMNS, csv_lines, table
from emulator.timeline.traces.files import FORMATS, Format, format_of, read_trace, written
from emulator.timeline.traces.rows import ReadOptions, channel, timeline
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from hil_tests.unit.timeline.laws import same, same_channel

START_NS = parse_utc_ns("2025-10-03T10:00:00Z")
WIDE = ReadOptions(gap_ns=10**18)

ROW = st.tuples(
    st.integers(0, 10**10),  # delay
    st.integers(0, 10**12),  # rate
    st.integers(0, LOSS_ONE),
    st.integers(0, 10**9),  # jitter
    st.integers(-3000, 10_000),  # C/N
    st.sampled_from([(Gate.PASS, Cause.NONE), (Gate.HOLD, Cause.HANDOVER), (Gate.DROP, Cause.OBSTRUCTION)]),
)


def column(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Directions that change together, as a trace has them, at any nanosecond of any time."""
    spans = draw(st.lists(st.integers(1, 10**12), min_size=1, max_size=8))
    starts = draw(st.integers(0, 4 * 10**18)) + np.cumsum([0, *spans]).astype(np.int64)
    ways = []
    for _ in range(2):
        rows = draw(st.lists(ROW, min_size=len(spans), max_size=len(spans)))
        delay, rate, loss, jitter, cn, gates = zip(*rows, strict=True)
        slopes = [draw(st.integers(-delay[i] * NS_PER_S // (span + NS_PER_S), 10**6)) for i, span in enumerate(spans)]
        ways.append(
            channel(
                starts[:-1],
                column(list(delay)),
                delay_slope_ns_per_s=column(slopes),
                rate_bps=column(list(rate)),
                loss=column(list(loss)),
                jitter_ns=column(list(jitter)),
                cn_centidb=column(list(cn)),
                gate=column([gate for gate, _ in gates]),
                cause=column([cause for _, cause in gates]),
            )
        )
    return timeline(ways[0], ways[1], int(starts[-1]))


def again(line: Timeline, file_format: Format, path: Path, **how: object) -> Timeline:
    path.write_text(written(line, file_format, **how))  # type: ignore[arg-type]
    return read_trace(path, WIDE)


@given(line=timelines())
@settings(max_examples=60)
def test_csv_keeps_everything(tmp_path_factory: pytest.TempPathFactory, line: Timeline) -> None:
    assert same(again(line, "csv", tmp_path_factory.mktemp("trace") / "x.csv"), line)


def probed(delays: list[int | None], start_ns: int, step_ns: int) -> Timeline:
    """What a probe sees of a link with these delays; None for a probe that is lost."""
    starts = start_ns + np.arange(len(delays), dtype=np.int64) * step_ns
    filled, last = [], next(delay for delay in delays if delay is not None)
    for delay in delays:
        last = last if delay is None else delay
        filled.append(last)
    one = channel(starts, column(filled), loss=column([LOSS_ONE * (delay is None) for delay in delays]))
    return timeline(one, one, int(starts[-1]) + step_ns)


PROBES = st.lists(st.one_of(st.none(), st.integers(0, 10**6)), min_size=1, max_size=60).filter(
    lambda delays: delays[0] is not None and delays[-1] is not None  # ping does not tell of those at its edges
)
STARTS_US = st.integers(10**12, 4 * 10**15)


@given(delays_us=PROBES, start_us=STARTS_US, step_ms=st.sampled_from([10, 100, 1000]))
@settings(max_examples=60)
@pytest.mark.parametrize("file_format", ["ping", "irtt"])
def test_probes_keep_delays_and_losses(
    tmp_path_factory: pytest.TempPathFactory,
    file_format: Format,
    delays_us: list[int | None],
    start_us: int,
    step_ms: int,
) -> None:
    delays = [None if delay is None else delay * 1000 for delay in delays_us]
    step_ns = step_ms * NS_PER_MS if len(delays) > 1 else NS_PER_S  # one probe alone says nothing of a step
    line = probed(delays, start_us * 1000, step_ns)
    read = again(line, file_format, tmp_path_factory.mktemp("trace") / "x", interval_ns=step_ns)
    starts = read.uplink.start_ns
    assert np.abs(starts - line.uplink.start_ns).max() <= 1, "what was lost lies on a line between its neighbours"
    assert np.array_equal(read.uplink.delay_ns, line.uplink.delay_ns)
    assert np.array_equal(read.uplink.loss, line.uplink.loss)
    assert same_channel(read.uplink, read.downlink)
    assert abs(read.end_ns - line.end_ns) <= 1


@given(
    rows=st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(0, 10**10), st.integers(0, 10**12), st.integers(0, LOSS_ONE - 2)),
        min_size=1,
        max_size=20,
    ),
    jitter_ns=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_theaterq_keeps_one_direction(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, int]], jitter_ns: int
) -> None:
    keeps_us, delay, rate, loss = zip(*rows, strict=True)
    edges = np.cumsum([0, *keeps_us]).astype(np.int64) * 1000
    one = channel(
        edges[:-1],
        column(list(delay)),
        rate_bps=column(list(rate)),
        loss=column(list(loss)),
        jitter_ns=np.full(len(rows), jitter_ns),
    )
    line = timeline(one, one, int(edges[-1]))
    assert same(again(line, "theaterq", tmp_path_factory.mktemp("trace") / "x"), line)


@given(counts=st.lists(st.integers(0, 400), min_size=1, max_size=40), tail_ms=st.integers(1, 100))
@settings(max_examples=60)
def test_mahimahi_keeps_the_packets_of_each_bin(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], tail_ms: int
) -> None:
    """A trace ends with an opportunity, and so does ours."""
    folder = tmp_path_factory.mktemp("trace")
    end_ms = 100 * len(counts) + tail_ms
    lines = [100 * index + 1 + 99 * number // count for index, count in enumerate(counts) for number in range(count)]
    (folder / "given").write_text("".join(f"{at}\n" for at in [*lines, end_ms]))
    line = read_trace(folder / "given", WIDE)
    read = again(line, "mahimahi", folder / "x", direction="uplink")
    assert same(read, line)
    sent = line.uplink.rate_bps * np.diff(line.uplink.start_ns, append=line.end_ns) / 12_000 / NS_PER_S
    assert np.allclose(sent, [*counts, 1], atol=1e-6)
    assert ((line.uplink.gate == Gate.HOLD) == (line.uplink.rate_bps == 0)).all()


@given(
    samples=st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 1)), min_size=1, max_size=50).filter(
        lambda samples: samples[0][1] < 1
    )
)
@settings(max_examples=60)
def test_a_dish_keeps_its_seconds(tmp_path_factory: pytest.TempPathFactory, samples: list[tuple[int, float]]) -> None:
    delay, share = zip(*samples, strict=True)
    shut = np.array(share) == 1
    one = channel(
        np.arange(len(samples), dtype=np.int64) * NS_PER_S,
        column([half * 1000 for half in delay]),
        loss=column([round(part * LOSS_ONE) if part < 1 else 0 for part in share]),
        gate=np.where(shut, Gate.DROP, Gate.PASS),
        cause=np.where(shut, Cause.NO_PINGS, Cause.NONE),
    )
    line = timeline(one, one, len(samples) * NS_PER_S)
    read = again(line, "dish", tmp_path_factory.mktemp("trace") / "x")
    through = (1 - read.uplink.loss / LOSS_ONE) ** 2 * (read.uplink.gate == Gate.PASS)
    assert np.allclose(through, (1 - line.uplink.loss / LOSS_ONE) ** 2 * ~shut, atol=1e-8)
    alive = read.uplink.gate == Gate.PASS
    assert np.array_equal(read.uplink.delay_ns[alive], line.uplink.delay_ns[alive])
    assert (read.start_ns, read.end_ns) == (line.start_ns, line.end_ns)


def plan() -> Timeline:
    windows = windows_for(load_scenario("starlink_2025"), epoch_utc_ns=START_NS)
    return windows.window(START_NS, START_NS + 40 * NS_PER_S)


def test_a_plan_as_csv_is_the_plan_at_every_nanosecond(tmp_path: Path) -> None:
    line = plan()
    read = again(line, "csv", tmp_path / "x.csv")
    times = np.random.default_rng(1).integers(line.start_ns, line.end_ns, 3000).tolist()
    for way in ("uplink", "downlink"):
        for at_ns in (*times, *getattr(line, way).start_ns[1:].tolist()):
            given_, got = getattr(line, way).at(at_ns), getattr(read, way).at(at_ns)
            assert abs(given_.delay_ns - got.delay_ns) <= 1
            assert given_.rate_bps == got.rate_bps
            assert (given_.loss, given_.gate, given_.cause) == (got.loss, got.gate, got.cause)
    assert same(again(read, "csv", tmp_path / "y.csv"), read)


def test_the_table_of_a_plan_is_a_trace(tmp_path: Path) -> None:
    line = plan()
    rows = table(line)
    (tmp_path / "plan.csv").write_text(",".join(COLUMNS) + "\n" + "".join(csv_lines(rows)))
    read = read_trace(tmp_path / "plan.csv")
    assert np.array_equal(read.uplink.start_ns, rows["utc"].astype(np.int64))
    assert np.abs(read.uplink.delay_ns / NS_PER_MS - rows["uplink_delay_ms"]).max() < 1e-6
    with (tmp_path / "plan.npz").open("wb") as file:
        save_npz(file, line, rows)
    assert same(read_trace(tmp_path / "plan.npz"), line)


def test_every_format_has_a_name_for_files() -> None:
    names = {
        format_of(Path(f"x{suffix}"))
        for suffix in (".csv", ".up", ".theaterq", ".ping", ".irtt.json", ".dish.json", ".npz")
    }
    assert names == set(FORMATS)


def test_a_constant_channel_is_a_trace_of_one_row(tmp_path: Path) -> None:
    one = Channel.constant(START_NS, delay_ns=20 * NS_PER_MS, rate_bps=10**8)
    line = timeline(one, one, START_NS + NS_PER_S)
    assert same(again(line, "csv", tmp_path / "x.csv"), line)
