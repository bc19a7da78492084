"""Sweeps: the same case, the same result; a worker that dies costs its case an attempt, and the others nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import BentpipeError, EmulationError, ScenarioError
from emulator.taps.replay import warm_up
from emulator.testing.store import Store
from emulator.testing.sweeps.case import UNKNOWN, Fates, figures_of, run_case
from emulator.testing.sweeps.crew import _Worker, run_sweep, work_here, work_on_cluster
from emulator.testing.sweeps.matrix import Case, Load, expand, parse_parameter, parse_seeds
from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2026-01-01T00:00:00Z")
LOAD = Load(packets=400, packet_bytes=100)
CHECKOUT = Path(__file__).parents[3]


def cases(*scenarios: str, seeds: int = 2, **parameters: list[str]) -> list[Case]:
    return expand(
        scenarios or ("fixed",),
        seeds=range(seeds),
        starts_utc_ns=[START_NS],
        parameters={key.replace("__", "."): values for key, values in parameters.items()},
        duration_ns=20 * NS_PER_S,
        load=LOAD,
    )


def test_a_matrix_has_every_combination_once_and_every_key_is_another() -> None:
    matrix = cases("fixed", seeds=3, link__delay_ms=["1", "2"], link__loss=["0.1", "0.2"])
    assert len(matrix) == len({case.key for case in matrix}) == 12


def test_every_fault_of_a_matrix_is_told_before_anything_runs() -> None:
    with pytest.raises(ScenarioError) as caught:
        cases("fixed", link__delay_ms=["1", "-4"], link__loss=["0.1", "7"])
    assert len([line for line in caught.value.problems if "delay_ms" in line]) == 1
    assert any("link.loss" in line for line in caught.value.problems)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20)), min_size=1, max_size=5))
def test_seeds_are_read_as_they_are_written(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" if more else str(first) for first, more in ranges)
    assert parse_seeds(text) == [seed for first, more in ranges for seed in range(first, first + more + 1)]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1-9999999999"])
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["", "key", "=1", "key=", "key=1,,2"])
def test_what_is_no_parameter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="KEY="):
        parse_parameter(text)
    assert parse_parameter("link.delay_ms=1, 2") == ("link.delay_ms", ["1", "2"])


def test_the_same_seed_has_the_same_drops_and_another_seed_has_others() -> None:
    first, other = cases("starlink_2025")
    once, again, different = run_case(first), run_case(first), run_case(other)
    assert once.figures == again.figures
    assert once.details == again.details
    assert once.details["digest"] != different.details["digest"]
    assert once.outcome == "done"


def test_a_fixed_link_is_what_it_says() -> None:
    (case,) = cases("fixed", seeds=1, link__delay_ms=["40"], link__loss=["0.1"], link__rate_mbps=["0"])
    figures = run_case(case).figures
    for direction in ("uplink", "downlink"):
        assert figures[f"{direction}.delay_p50_ms"] == figures[f"{direction}.delay_max_ms"] == 40
        assert 4 < figures[f"{direction}.loss_percent"] < 17
        assert figures[f"{direction}.sent"] == 400


def test_a_load_that_is_more_than_the_link_carries_waits_and_is_dropped() -> None:
    case = Case("fixed", ("link.delay_ms=5", "link.rate_mbps=0.01", "link.queue_packets=10"), 1, START_NS,
                10 * NS_PER_S, Load(200, 1000))  # fmt: skip
    run = run_case(case)
    assert list(run.details["drops"]["uplink"]) == ["QUEUE"]
    assert run.figures["uplink.lost"] > 150
    assert run.figures["uplink.delay_max_ms"] > 8000


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=60), st.integers(1, 10**9))
def test_figures_of_fates(causes: list[int], delay_ns: int) -> None:
    cause = np.array(causes)
    sent = np.arange(len(cause), dtype=np.int64) * NS_PER_MS
    figures = figures_of(Fates(sent, cause, np.where(cause == 0, delay_ns, UNKNOWN)))
    assert figures["lost"] == sum(each > 0 for each in causes)
    assert figures["sent"] == len(causes)
    if 0 in causes:
        assert figures["delay_p50_ms"] == pytest.approx(delay_ns / NS_PER_MS)
        assert figures["longest_gap_s"] >= 0


def test_a_worker_that_dies_costs_its_case_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of six cases one kills whoever works on it; a worker killed from outside is made up for."""
    matrix = cases(seeds=6)
    (tmp_path / "killer.py").write_text(
        "import os, signal\n"
        "from emulator.testing.sweeps import case\n"
        "run = case.run_case\n"
        "def kills(one):\n"
        "    if one.seed == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return run(one)\n"
        "case.run_case = kills\n"
    )
    (tmp_path / "sitecustomize.py").write_text("import os\nif os.environ.get('KILLER'):\n    import killer\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{CHECKOUT}")
    monkeypatch.setenv("KILLER", "1")
    with Store(tmp_path / "runs") as store:
        outcomes = work_here(matrix, 2)
        errors = run_sweep(matrix, lambda _: outcomes, store.add)
        assert list(errors) == [matrix[3].key]
        assert "SIGKILL" in errors[matrix[3].key]
        assert store.finished([case.key for case in matrix]) == {case.key for case in matrix if case.seed != 3}


def test_ctrl_c_is_not_for_a_worker_that_has_only_begun() -> None:
    case = cases()[0]
    worker = _Worker()
    try:
        assert worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGINT)
        worker.give(case, 1)
        assert worker.take()[2] is not None
    finally:
        worker.end()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "emulator.cli.main", *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT)}


def test_a_sweep_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    store = tmp_path / "runs.sqlite"
    sweep = command("sweep", "fixed", "--duration", "20s", "--packets", 400, "--jobs", 1, "--store", store, "--json")
    first = subprocess.run([*sweep, "--seeds", "1-3"], env=environment(), capture_output=True, text=True, check=True)
    assert len(json.loads(first.stdout)) == 3
    again = subprocess.run([*sweep, "--seeds", "1-4"], env=environment(), capture_output=True, text=True, check=True)
    assert "3 of them" in again.stderr
    results = json.loads(again.stdout)
    assert results[:3] == json.loads(first.stdout)
    shown = subprocess.run(
        command("runs", "--store", store, "--where", "seed=4", "--json"),
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(shown.stdout) == [results[3]]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_is_compiled_is_told_once(tmp_path: Path) -> None:
    cache = {"BENTPIPE_CACHE_DIR": str(tmp_path / "cache")}
    sweep = command("sweep", "fixed", "--duration", "20s", "--packets", 400, "--store", tmp_path / "runs", "--again")
    told = [
        subprocess.run(sweep, env=environment() | cache, capture_output=True, text=True, check=True).stderr
        for _ in range(2)
    ]
    assert ["compiling" in line for line in told] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (("sweep", "fixed", "--seeds", "x"), 2, "seeds"),
        (("sweep", "fixed", "--vary", "link.delay_ms=1,-5"), 65, "link.delay_ms"),
        (("sweep", "fixed", "--store", "/proc/none/runs"), 71, "/proc/none"),
        (("runs", "--store", "none"), 71, "none"),
        (("sweep",), 2, "SCENARIO"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], status: int, named: str
) -> None:
    result = subprocess.run(
        command(*arguments),
        env=environment() | {"BENTPIPE_STORE": str(tmp_path / "s")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (status, "")
    assert named in result.stderr


def test_no_scheduler_is_an_error_of_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.testing.sweeps.crew.CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(EmulationError, match=str(port)):
        list(work_on_cluster(cases(), f"tcp://127.0.0.1:{port}"))
    assert issubclass(EmulationError, BentpipeError)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler and two workers, each a process of its own."""
    folder = str(directory)
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=environment(), cwd=folder, stderr=subprocess.PIPE, text=True
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        assert scheduler.stderr is not None
        address = next(line for line in scheduler.stderr if "Scheduler at:" in line).split()[-1]
        workers = [
            start("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                  "--local-directory", folder)
            for _ in range(2)
        ]  # fmt: skip
        for worker in workers:
            assert worker.stderr is not None
            for line in worker.stderr:
                if "Registered to:" in line:
                    break
        yield address, workers


@pytest.mark.long
def test_a_sweep_over_a_cluster_survives_a_worker_killed(tmp_path: Path) -> None:
    matrix = cases("starlink_2025", seeds=12)
    warm_up()  # or each worker would
    with cluster(tmp_path) as (address, workers), Store(tmp_path / "runs") as store:
        told: list[int] = []

        def tell(done: int) -> None:
            told.append(done)
            if done == 2:
                workers[0].kill()

        errors = run_sweep(matrix, lambda some: work_on_cluster(some, address), store.add, tell)
        assert errors == {}
        assert len(store.finished([case.key for case in matrix])) == 12
    assert told == list(range(1, 13))


@pytest.mark.needs("netns", "tun")
def test_a_sweep_in_real_time_goes_through_benches_and_says_what_it_does_not_prove(tmp_path: Path) -> None:
    """On a machine that is too busy its runs are invalid, and the same command does them again."""
    store = tmp_path / "runs.sqlite"
    sweep = command("sweep", "fixed", "--real", "--duration", "1s", "--packets", 100, "--seeds", 1, "--set",
                    "link.delay_ms=40", "--store", store, "--json")  # fmt: skip
    ran = subprocess.run(sweep, env=environment(), capture_output=True, text=True, check=False)
    (run,) = json.loads(ran.stdout)
    assert (run["parameters"]["time"], run["outcome"], ran.returncode) in (("real", "done", 0), ("real", "invalid", 75))
    for direction in ("uplink", "downlink"):
        assert run["figures"][f"{direction}.sent"] > 0
        assert run["figures"][f"{direction}.delay_p50_ms"] >= 40
    with Store(store) as kept:
        kept.add(replace(kept.runs()[0], outcome="invalid", details={"faults": ["too late"]}))
        assert kept.finished([run["key"]]) == set()
    again = subprocess.run(sweep, env=environment(), capture_output=True, text=True, check=False)
    assert "1 to do" in again.stderr
    assert len(json.loads(again.stdout)) == 1
