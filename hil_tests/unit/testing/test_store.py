"""The run store: what was added is there, whatever happens afterwards; strangers' files are left alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import EndpointError
from emulator.testing.store import APPLICATION, Run, Store, default_path

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


def run(key: str, **more: object) -> Run:
    values = {"kind": "sweep", "name": "n", "outcome": "done", "scenario": "fixed", "seed": 1, "start_utc": "", **more}
    return Run(key=key, version="0", seconds=1.0, **values)  # type: ignore[arg-type]


@settings(max_examples=20)
@given(
    key=names,
    figures=st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    parameters=st.dictionaries(names, names, max_size=3),
)
def test_a_run_comes_back_as_it_was_added(
    tmp_path_factory: pytest.TempPathFactory, key: str, figures: dict[str, float], parameters: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("store") / "runs.sqlite"
    with Store(path) as store:
        store.add(run(key))
        number = store.add(run(key, figures=figures, parameters=parameters, seed=2**63 - 1))
    with Store(path, read=True) as store:
        (found,) = store.runs()
        assert (found.number, found.key, found.figures, found.parameters) == (number, key, figures, parameters)
        assert found.seed == 2**63 - 1
        assert store.finished([key, key + "x"]) == {key}


def test_runs_are_found_by_their_columns_the_latest_first(tmp_path: Path) -> None:
    with Store(tmp_path / "runs") as store:
        for number in range(6):
            store.add(run(f"k{number}", scenario="geo" if number % 2 else "fixed", finished_unix=1000.0 + number))
        assert [each.key for each in store.runs(where={"scenario": "g*"})] == ["k5", "k3", "k1"]
        assert [each.key for each in store.runs(limit=2)] == ["k5", "k4"]
        with pytest.raises(EndpointError, match="colour"):
            store.runs(where={"colour": "red"})


def test_retention_removes_the_oldest_and_their_figures(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    with Store(path) as store:
        for number in range(9):
            store.add(run(f"k{number}", figures={"a": 1.0}, finished_unix=1000.0 + number))
        store.add(run("today"))
        assert store.prune(keep=4) == 6
        assert store.prune(days=1) == 3
        assert [each.key for each in store.runs()] == ["today"]
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM figures").fetchone() == (0,)
    database.close()


def test_an_error_is_not_finished(tmp_path: Path) -> None:
    with Store(tmp_path / "runs") as store:
        store.add(run("k", outcome="error"))
        assert store.finished(["k"]) == set()


def add_and_die(path: Path) -> None:
    store = Store(path)
    for number in range(5):
        store.add(run(f"k{number}"))
    store._database.execute("BEGIN IMMEDIATE")
    store._database.execute("DELETE FROM runs")
    os._exit(9)


def test_a_crash_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    process = multiprocessing.get_context("spawn").Process(target=add_and_die, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    with Store(path) as store:
        assert len(store.runs()) == 5


def test_a_full_disk_is_named_and_what_was_finished_stays(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    with Store(path) as store:
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages + 4}")
        number = fill(store)
        assert 0 < number == len(store.runs())
        with pytest.raises(EndpointError, match="runs: run store: database or disk is full"):
            store.add(run("one more", details={"text": "x" * 20_000}))
    with Store(path) as store:
        store.add(run("later"))
        assert len(store.runs()) == number + 1


def fill(store: Store) -> int:
    """How many runs the disk had room for."""
    for number in range(100):
        if store._database.execute("SELECT count(*) FROM runs").fetchone()[0] < number:
            return number - 1
        with contextlib.suppress(EndpointError):
            store.add(run(f"k{number}", details={"text": "x" * 2000}))
    raise AssertionError("the disk is never full")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: path.write_bytes(b"no database at all, but text" * 50), "not a database"),
        (lambda path: strangers(path, 0, 1), "another program"),
        (lambda path: strangers(path, APPLICATION, 99), "version 99"),
        (lambda path: path.mkdir(), "run store"),
    ],
)
def test_a_file_that_is_no_store_of_ours_is_refused_and_left_alone(tmp_path: Path, make: object, named: str) -> None:
    path = tmp_path / "runs"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(EndpointError, match=named) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


VERSION_1 = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, name TEXT NOT NULL, outcome TEXT NOT NULL,
    scenario TEXT NOT NULL, seed INTEGER NOT NULL, start_utc TEXT NOT NULL, version TEXT NOT NULL,
    finished_unix REAL NOT NULL, seconds REAL NOT NULL, parameters TEXT NOT NULL, details TEXT NOT NULL
) STRICT;
CREATE TABLE figures (
    run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, name TEXT NOT NULL, value REAL, PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (finished_unix);
CREATE INDEX figures_by_name ON figures (name, value);
INSERT INTO runs VALUES (7, 'old', 'sweep', 'n', 'done', 'fixed', 3, '', '0', 1.5, 2.5, '{"a": 1}', '{"b": 2}');
INSERT INTO figures VALUES (7, 'loss', 0.25);
PRAGMA user_version = 1;
"""


def test_a_store_of_an_older_version_is_brought_up_to_date_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    database = sqlite3.connect(path)
    database.executescript(VERSION_1 + f"PRAGMA application_id = {APPLICATION};")
    database.close()
    for _ in range(2):
        with Store(path) as store:
            store.add(run("new", machine="lab-3"))
            (old,) = store.runs(where={"name": "n", "machine": ""})
            assert (old.number, old.key, old.figures, old.details) == (7, "old", {"loss": 0.25}, {"b": 2})
            (new,) = store.runs(where={"machine": "lab*"})
            assert new.key == "new"


def strangers(path: Path, application: int, version: int) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (x)")
    database.execute(f"PRAGMA application_id = {application}")
    database.execute(f"PRAGMA user_version = {version}")
    database.commit()
    database.close()


def test_of_directories_only_the_default_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "nowhere" / "runs.sqlite"
    with pytest.raises(EndpointError, match="expected a directory") as caught:
        Store(elsewhere)
    assert str(elsewhere.parent) in str(caught.value)
    assert not elsewhere.parent.exists()
    monkeypatch.setenv("BENTPIPE_STORE", str(elsewhere))
    with Store(default_path()) as store:
        store.add(run("one"))
    assert elsewhere.is_file()


def test_reading_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="no run store"):
        Store(tmp_path / "none", read=True)
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("BENTPIPE_STORE", "/x/y")
    assert default_path() == Path("/x/y")
    monkeypatch.delenv("BENTPIPE_STORE")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_path() == Path("/state/bentpipe/runs.sqlite")
