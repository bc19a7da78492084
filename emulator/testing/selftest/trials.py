"""What is measured, on links whose truth is known: by ping, irtt and iperf3 where they are installed, by own probes.

Each trial runs a bench of its own and gives figures with what is allowed; nothing here decides alone: an emulation that
fell behind makes its trial invalid.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emulator.errors import EmulationError
from emulator.scenario import load_scenario
from emulator.testing.intervals import quantile_interval, share_interval
from emulator.testing.measure import DELAY_BOUND_NS, delay_verdict
from emulator.testing.plugin.processes import DeadlineExceeded
from emulator.testing.plugin.satlink import Satlink
from emulator.testing.record import DIRECTIONS
from emulator.testing.verdicts import Figure, Verdict, reordered_percent
from emulator.testing.verdicts.evidence import in_words
from emulator.units import NS_PER_MS, NS_PER_US

DELAY_MS = 20.0
RATE_MBPS = 20.0
LOSS = 0.05
UDP_PAYLOAD, UDP_HEADERS = 1400, 28
FLOOR_SHARE = 0.1  # of the round trips: the link's own delay is the least of them, a busy machine makes some late
TOOL_MS = 1.0  # what a program in user space may add to a round trip
LIMIT_S = 30.0


@dataclass(frozen=True)
class Result:
    """One line of the certificate. verdict None: nothing was measured, and `fault` says why.

    floor: the least that is allowed is what was commanded, below which nothing can be that is right.
    """

    what: str
    tool: str
    commanded: str
    verdict: Verdict | None
    fault: str = ""
    proof: str = ""
    floor: bool = False


@dataclass(frozen=True)
class Trial:
    """Measurements that share a bench. `seconds`: about how long it takes."""

    name: str
    overrides: tuple[str, ...]
    seconds: float
    run: Callable[[Satlink], Iterator[Result]]


@contextmanager
def _bench(overrides: Sequence[str]) -> Iterator[Satlink]:
    from emulator.bench import Bench

    with (
        tempfile.TemporaryDirectory(prefix="bentpipe-") as folder,
        Bench(load_scenario("fixed", overrides)) as bench,
    ):
        yield Satlink(bench, Path(folder), title="selftest")


def perform(trial: Trial) -> list[Result]:
    """The results of a trial, with the proof of its bench; verdicts are invalid if the emulation fell behind."""
    with _bench(trial.overrides) as link:
        results = list(trial.run(link))
        faults, proof = link.faults(), in_words(link.evidence())
    return [
        replace(each, verdict=_with_faults(each.verdict, faults) if each.verdict is not None else None, proof=proof)
        for each in results
    ]


def _with_faults(verdict: Verdict, faults: tuple[str, ...]) -> Verdict:
    figure = Figure(
        verdict.name, verdict.interval, verdict.unit, verdict.repetitions, faults, of=verdict.of, fewest=verdict.fewest
    )
    return figure.between(verdict.least, verdict.most)


def _by(tool: str, what: str, commanded: str, measure: Callable[[], Verdict], *, floor: bool = False) -> Result:
    """What an installed program measured; a program that fails is a fault of this line, and of no other."""
    if tool != "own probe" and shutil.which(tool) is None:
        return Result(what, tool, commanded, None, f"{tool} is not installed")
    try:
        return Result(what, tool, commanded, measure(), floor=floor)
    except (AssertionError, DeadlineExceeded, EmulationError, ValueError, KeyError) as error:
        return Result(what, tool, commanded, None, f"{tool}: {error}".splitlines()[0])


def delay(link: Satlink) -> Iterator[Result]:
    """20 ms each way."""
    far, told = link.datacenter.ipv4, f"{DELAY_MS:g} ms"

    def ping() -> Verdict:
        said = link.terminal.run("ping", "-n", "-c", "60", "-i", "0.03", far, deadline_s=LIMIT_S).stdout
        times = [float(each) for each in re.findall(r"time=([\d.]+) ms", said)]
        figure = Figure("round trip, p10", quantile_interval(times, FLOOR_SHARE), "ms", len(times))
        return figure.between(2 * DELAY_MS, 2 * DELAY_MS + TOOL_MS)

    yield _by("ping", "round-trip delay", f"{2 * DELAY_MS:g} ms", ping, floor=True)
    yield from _irtt(link, far, told)
    record = link.measure(3.0)
    for direction in DIRECTIONS:
        found = delay_verdict(record.probes(direction))
        if found.floor_error is None or not found.enough:
            yield Result(f"delay error, {direction}", "own probe", "0 µs", None, "too few probes arrived")
            continue
        error = found.floor_error
        in_us = type(error)(error.estimate / NS_PER_US, error.low / NS_PER_US, error.high / NS_PER_US, error.confidence)
        figure = Figure("error, least of each 0.2 s, median", in_us, "µs", found.floors)
        bound = DELAY_BOUND_NS / NS_PER_US
        yield Result(f"delay error, {direction}", "own probe", "0 µs", figure.between(-bound, bound))


def _irtt(link: Satlink, far: str, told: str) -> Iterator[Result]:
    columns: dict[str, list[float]] = {}

    def measure() -> None:
        with link.datacenter.start("irtt", "server", "-b", f"{far}:2112") as server:
            server.expect("listener", LIMIT_S)
            client = ("irtt", "client", "-i", "20ms", "-d", "2s", "-o", "-", "-Q", f"{far}:2112")
            report = json.loads(link.terminal.run(*client, deadline_s=LIMIT_S).stdout)
        for trip in report["round_trips"]:
            for direction, key in (("uplink", "send"), ("downlink", "receive")):
                if key in trip["delay"]:
                    columns.setdefault(direction, []).append(trip["delay"][key] / NS_PER_MS)

    def verdict(direction: str) -> Verdict:
        if not columns:
            measure()
        values = columns[direction]
        figure = Figure("one way, p10", quantile_interval(values, FLOOR_SHARE), "ms", len(values))
        return figure.between(DELAY_MS, DELAY_MS + TOOL_MS)

    for direction in DIRECTIONS:
        measured = functools.partial(verdict, direction)
        yield _by("irtt", f"one-way delay, {direction}", told, measured, floor=True)


def rate(link: Satlink) -> Iterator[Result]:
    """20 Mbit/s, offered twice as much."""
    far = link.datacenter.ipv4
    payload = RATE_MBPS * UDP_PAYLOAD / (UDP_PAYLOAD + UDP_HEADERS)

    def iperf3() -> Verdict:
        with link.datacenter.start("iperf3", "-s", "-1", "--forceflush") as server:
            server.expect("listening", LIMIT_S)
            load = ("-u", "-b", f"{2 * RATE_MBPS:g}M", "-l", str(UDP_PAYLOAD), "-t", "4", "-i", "0.25", "-R", "-J")
            report = json.loads(link.terminal.run("iperf3", "-c", far, *load, deadline_s=LIMIT_S).stdout)
        rates = [each["sum"]["bits_per_second"] / 1e6 for each in report["intervals"]][2:-1]
        figure = Figure("payload received", quantile_interval(rates, 0.5), "Mbit/s", len(rates))
        return figure.between(0.97 * payload, 1.03 * payload)

    yield _by("iperf3", "rate, downlink", f"{payload:.2f} Mbit/s of payload", iperf3)


def loss(link: Satlink) -> Iterator[Result]:
    """5 % in each direction, each packet on its own; nothing overtakes."""
    far = link.datacenter.ipv4
    both = 1 - (1 - LOSS) ** 2

    def ping() -> Verdict:
        said = link.terminal.run("ping", "-n", "-q", "-c", "1500", "-i", "0.002", far, deadline_s=LIMIT_S).stdout
        sent, back = (int(each) for each in re.findall(r"(\d+) packets transmitted, (\d+) received", said)[0])
        figure = Figure("lost, there or back", _percent(sent - back, sent), "%", sent)
        return figure.between(100 * both - 3, 100 * both + 3)

    yield _by("ping", "loss, there and back", f"{100 * both:.2f} %", ping)
    record = link.measure(5.0, interval_ms=1.0)
    for direction in DIRECTIONS:
        missing = np.array(record.probes(direction).delay_ns, np.int64) < 0
        figure = Figure("lost", _percent(int(missing.sum()), len(missing)), "%", len(missing))
        verdict = figure.between(100 * LOSS - 1.5, 100 * LOSS + 1.5)
        yield Result(f"loss, {direction}", "own probe", f"{100 * LOSS:g} %", verdict)
    for direction in DIRECTIONS:
        reordered = reordered_percent(record, direction).at_most(0.2)
        yield Result(f"reordering, {direction}", "own probe", "none", reordered)


def _percent(hits: int, count: int):  # type: ignore[no-untyped-def]
    share = share_interval(hits, count)
    return type(share)(100 * share.estimate, 100 * share.low, 100 * share.high, share.confidence)


def clock(link: Satlink) -> Iterator[Result]:
    """Simulated UTC beside the machine's own clock, read thirty times."""
    differences = []
    for _ in range(30):
        before_ns, simulated_ns, after_ns = time.time_ns(), link.bench.utc_ns(), time.time_ns()
        differences.append((simulated_ns - before_ns - (after_ns - before_ns) / 2) / NS_PER_US)
    figure = Figure("simulated − machine's", quantile_interval(differences, 0.5), "µs", len(differences))
    yield Result("clock", "CLOCK_REALTIME", "0 µs", figure.between(-1000, 1000))


TRIALS = (
    Trial("delay", (f"link.delay_ms={DELAY_MS}", "link.rate_mbps=0"), 9.0, delay),
    Trial("rate", ("link.delay_ms=5", f"link.rate_mbps={RATE_MBPS}", "link.queue_packets=100"), 6.0, rate),
    Trial("loss", ("link.delay_ms=5", "link.rate_mbps=0", f"link.loss={LOSS}"), 11.0, loss),
    Trial("clock", ("link.delay_ms=5",), 0.5, clock),
)
