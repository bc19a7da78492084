"""The run store: what was run, with which parameters, and what came of it; one SQLite file.

Each run is written in one transaction that is on the disk when `add` returns: a crash in the middle of a sweep loses
the runs that were going on, and nothing that had finished. Several processes may write to one store.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from emulator.errors import EndpointError

VERSION = 2
APPLICATION = 0x42507275  # "BPru"
BUSY_S = 30.0  # another process writes
DAY_S = 86_400
SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    scenario TEXT NOT NULL,
    seed INTEGER NOT NULL,
    start_utc TEXT NOT NULL,
    version TEXT NOT NULL,
    finished_unix REAL NOT NULL,
    seconds REAL NOT NULL,
    parameters TEXT NOT NULL,
    details TEXT NOT NULL,
    machine TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE figures (
    run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (finished_unix);
CREATE INDEX figures_by_name ON figures (name, value);
"""
MIGRATIONS = {1: "ALTER TABLE runs ADD COLUMN machine TEXT NOT NULL DEFAULT ''"}
"""What makes of a store of a version one of the next: all of it in one transaction, when it is opened."""

Kind = Literal["test", "sweep", "selftest", "demo"]


@dataclass(frozen=True)
class Run:
    """One run that has finished. `key`: what makes it the same run as another; `figures`: its numbers, by name.

    outcome: passed, failed, invalid, skipped, done or error. details: anything else, as plain values. machine: where it
    ran, empty if that is not known. `number` and `finished_unix` are the store's own.
    """

    key: str
    kind: Kind
    name: str
    outcome: str
    scenario: str
    seed: int
    start_utc: str
    version: str
    seconds: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    machine: str = field(default_factory=platform.node)
    finished_unix: float = 0.0
    number: int = 0


ROW = (
    "key, kind, name, outcome, scenario, seed, start_utc, version, finished_unix, seconds, parameters, details, machine"
)
COLUMNS = ("kind", "name", "outcome", "scenario", "seed", "start_utc", "version", "machine")


def default_path() -> Path:
    """$BENTPIPE_STORE, or runs.sqlite in the user's directory of state."""
    if configured := os.environ.get("BENTPIPE_STORE"):
        return Path(configured)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "bentpipe" / "runs.sqlite"


def require_folder(path: Path) -> None:
    """Raises EndpointError if the directory is not there in which a store is to be made."""
    if not path.parent.is_dir():
        raise EndpointError(f"{path}: run store: expected a directory {path.parent}, there is none")


class Store:
    """An open store; use as a context. Made if there is none, unless it is opened to `read`; of directories only the
    default one.

    Raises EndpointError for a file that cannot be opened or written, that is no store, or of a newer version than
    this Bentpipe knows; a store of an older one is brought up to date.
    """

    def __init__(self, path: Path, *, read: bool = False) -> None:
        self.path = path
        if read and not path.is_file():
            raise EndpointError(f"{path}: no run store there; `bentpipe sweep` and pytest --satlink-store make one")
        with self._naming():
            if path == default_path():
                path.parent.mkdir(parents=True, exist_ok=True)
            require_folder(path)
            self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            with self._naming():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if version == 0 and tables == 0:
                for statement in SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
                database.execute(f"PRAGMA application_id = {APPLICATION}")
            elif application != APPLICATION:
                raise EndpointError(f"{self.path}: expected a run store, got another program's database")
            elif not 1 <= version <= VERSION:
                raise EndpointError(
                    f"{self.path}: expected a run store of version {VERSION} or older, got version {version}: "
                    f"use the Bentpipe that made it, or another file"
                )
            elif version < VERSION:
                for older in range(version, VERSION):
                    database.execute(MIGRATIONS[older])
                database.execute(f"PRAGMA user_version = {VERSION}")

    def add(self, run: Run) -> int:
        """Keeps a run, in place of one with the same key, and returns its number.

        Raises EndpointError if it cannot; the store is then as before.
        """
        values = (
            run.key, run.kind, run.name, run.outcome, run.scenario, run.seed, run.start_utc, run.version,
            run.finished_unix or time.time(), run.seconds, json.dumps(dict(run.parameters)),
            json.dumps(dict(run.details)), run.machine,
        )  # fmt: skip
        with self._naming(), self._transaction():
            self._database.execute("DELETE FROM runs WHERE key = ?", (run.key,))
            cursor = self._database.execute(
                f"INSERT INTO runs ({ROW}) VALUES ({', '.join('?' * len(values))})",
                values,
            )
            number = int(cursor.lastrowid or 0)
            self._database.executemany(
                "INSERT INTO figures VALUES (?, ?, ?)",
                [(number, name, value if math.isfinite(value) else None) for name, value in run.figures.items()],
            )
        return number

    def finished(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that have a run here that says something: neither an error nor invalid."""
        found = set()
        with self._naming():
            for key in keys:
                row = self._database.execute(
                    "SELECT 1 FROM runs WHERE key = ? AND outcome NOT IN ('error', 'invalid')", (key,)
                )
                if row.fetchone():
                    found.add(key)
        return found

    def runs(
        self, *, where: Mapping[str, str] | None = None, limit: int | None = None, numbers: Sequence[int] = ()
    ) -> list[Run]:
        """Runs, the latest first: those whose columns (COLUMNS) are like the patterns of `where`, * for anything.

        Raises EndpointError for a column that there is not.
        """
        conditions, values = ["1"], list[Any]()
        for column, pattern in (where or {}).items():
            if column not in COLUMNS:
                raise EndpointError(f"{column}: expected one of {', '.join(COLUMNS)}")
            conditions.append(f"CAST({column} AS TEXT) GLOB ?")
            values.append(pattern)
        if numbers:
            conditions.append(f"id IN ({', '.join('?' * len(numbers))})")
            values += numbers
        text = (
            f"SELECT id, {ROW} FROM runs WHERE {' AND '.join(conditions)} ORDER BY finished_unix DESC, id DESC LIMIT ?"
        )
        with self._naming():
            rows = self._database.execute(text, (*values, -1 if limit is None else limit)).fetchall()
            return [self._run(row) for row in rows]

    def _run(self, row: tuple[Any, ...]) -> Run:
        (
            number, key, kind, name, outcome, scenario, seed, start, version, finished, seconds, parameters, details,
            machine,
        ) = row  # fmt: skip
        figures = self._database.execute("SELECT name, value FROM figures WHERE run = ? ORDER BY name", (number,))
        known = {each: math.nan if value is None else value for each, value in figures}
        return Run(
            key, kind, name, outcome, scenario, seed, start, version, seconds, json.loads(parameters), known,
            json.loads(details), machine, finished, number,
        )  # fmt: skip

    def prune(self, *, keep: int | None = None, days: float | None = None) -> int:
        """Removes all but the latest `keep` runs, and what finished more than `days` ago; returns how many."""
        with self._naming():
            with self._transaction():
                before = self._database.total_changes
                removed = 0
                if days is not None:
                    earliest = time.time() - days * DAY_S
                    removed += self._database.execute("DELETE FROM runs WHERE finished_unix < ?", (earliest,)).rowcount
                if keep is not None:
                    removed += self._database.execute(
                        "DELETE FROM runs WHERE id NOT IN "
                        "(SELECT id FROM runs ORDER BY finished_unix DESC, id DESC LIMIT ?)",
                        (keep,),
                    ).rowcount
            if self._database.total_changes != before:
                self._database.execute("VACUUM")
        return removed

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block, or nothing of it."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has undone it already
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """SQLite's errors, with the file's name."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise EndpointError(f"{self.path}: run store: {error}") from error
        except OSError as error:
            if isinstance(error, EndpointError):
                raise
            raise EndpointError(f"{self.path}: run store: {error.strerror or error}") from error
