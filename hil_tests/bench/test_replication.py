"""PostgreSQL's streaming, rsync and curl over `replication`: an outage of 60 s, then another public address."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from hil_tests.bench.field import keep, run, running, web_server, within
from hil_tests.bench.living import until

pytestmark = [
    pytest.mark.needs("netns", "tun", "root", "compiled", "nft"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.long,
]
BEFORE, AFTER = "198.19.0.0", "198.19.0.1"  # the public addresses
OUTAGE_S, NEW_ADDRESS_S, END_S = (45.0, 105.0), 130.0, 150.0
COPY_BYTES = 14_000_000  # at 200 kB/s, from before the outage until after the change of address
AS_OWNER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")


@dataclass(frozen=True)
class Databases:
    """A primary in the datacenter, on port 5432, and its standby at the terminal's side, on 5433."""

    bench: Bench
    folder: Path

    @property
    def programs(self) -> Path:
        return max(Path("/usr/lib/postgresql").glob("*/bin"))

    def ask(self, side: Side, program: str, *arguments: str) -> str:
        done = run(side, *AS_OWNER, str(self.programs / program), *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def serve(self, side: Side, data: str, port: int) -> None:
        more = ["-k", str(self.folder), "-p", str(port), "-c", "fsync=off", "-c", "wal_receiver_timeout=10s"]
        more += ["-c", "wal_sender_timeout=10s", "-c", "wal_retrieve_retry_interval=1s", "-h", "*"]
        command = [*AS_OWNER, str(self.programs / "postgres"), "-D", str(self.folder / data), *more]
        side.popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        ready = [*AS_OWNER, str(self.programs / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(port)]
        until(lambda: run(side, *ready).returncode == 0)

    def sql(self, port: int, text: str) -> str:
        side = self.bench.datacenter if port == 5432 else self.bench.terminal
        return self.ask(
            side, "psql", "-qAt", "-h", str(self.folder), "-p", str(port), "-U", "postgres", "-c", text
        ).strip()

    def watch(self, port: int, text: str, every_s: float) -> subprocess.Popen[str]:
        """A session that asks the same again and again, for as long as it lives."""
        side = self.bench.datacenter if port == 5432 else self.bench.terminal
        command = [*AS_OWNER, str(self.programs / "psql"), "-qAt", "-h", str(self.folder), "-p", str(port)]
        told = self.folder / f"watch-{port}"
        with told.open("w") as out:
            session = side.popen(
                [*command, "-U", "postgres"],
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        assert session.stdin is not None
        session.stdin.write(f"{text} \\watch {every_s}\n")
        session.stdin.close()
        return session

    def streaming_from(self, address: str) -> bool:
        found = f"select count(*) from pg_stat_replication where client_addr = '{address}' and state = 'streaming'"
        return self.sql(5432, found) == "1"


@contextlib.contextmanager
def databases(bench: Bench) -> Iterator[Databases]:
    with tempfile.TemporaryDirectory() as made:
        shutil.chown(made, "postgres", "postgres")
        pair = Databases(bench, Path(made))
        pair.ask(bench.datacenter, "initdb", "-D", f"{made}/primary", "-A", "trust", "-U", "postgres", "--no-sync")
        with Path(made, "primary", "pg_hba.conf").open("a") as rules:
            rules.write("host replication all 0.0.0.0/0 trust\n")
        pair.serve(bench.datacenter, "primary", 5432)
        pair.sql(5432, "create table facts (number serial, at timestamptz default clock_timestamp())")
        copy = ["-h", bench.datacenter.ipv4, "-U", "postgres", "-D", f"{made}/standby", "-R", "-X", "stream"]
        pair.ask(bench.terminal, "pg_basebackup", "--checkpoint=fast", "--no-sync", *copy)
        pair.serve(bench.terminal, "standby", 5433)
        yield pair


@pytest.mark.timeout(600)
@pytest.mark.needs("pg_ctlcluster", "rsync", "curl", "apache2")
def test_what_replicates_survives_a_minute_of_silence_and_another_address(tmp_path: Path) -> None:
    """Nothing is lost, nothing starts anew; the standby is behind by the outage, and then no more."""
    served, came, sent = tmp_path / "served", tmp_path / "came", tmp_path / "sent"
    for folder in (served, came, sent):
        folder.mkdir()
    (served / "file").write_bytes(os.urandom(COPY_BYTES))
    (tmp_path / "rsyncd.conf").write_text(
        f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n[data]\npath = {sent}\nread only = no\n"
    )
    slowly = ("SetOutputFilter RATE_LIMIT", "SetEnv rate-limit 200")  # KiB/s
    with (
        running("replication") as bench,
        databases(bench) as pair,
        web_server(bench.datacenter, 8080, {"file": (served / "file").read_bytes()}, *slowly),
    ):
        far = bench.datacenter.ipv4
        bench.datacenter.popen(
            ["rsync", "--daemon", "--no-detach", "--config", str(tmp_path / "rsyncd.conf"), "--port", "8730"]
        )
        until(lambda: run(bench.terminal, "rsync", f"rsync://{far}:8730/").returncode == 0)
        pair.watch(5432, "insert into facts default values", 0.1)
        told = "select extract(epoch from clock_timestamp()), max(number), extract(epoch from max(at)) from facts"
        pair.watch(5433, told, 0.5)
        until(functools.partial(pair.streaming_from, BEFORE))
        began_s = (time.monotonic_ns() - bench.started_monotonic_ns) / 1e9
        assert began_s < OUTAGE_S[0] - 5, "the machine is too slow for this scenario's times"
        fetch = f"curl -fsS -C - --speed-limit 1 --speed-time 5 -o {came}/file http://{far}:8080/file"
        give = f"rsync --append-verify --inplace --bwlimit=200 --timeout 5 {served}/file rsync://{far}:8730/data/file"
        loops = [
            bench.terminal.popen(
                ["sh", "-c", f"n=1; until {line} 2>/dev/null; do n=$((n+1)); sleep 1; done; echo $n"],
                stdout=subprocess.PIPE, text=True,
            )
            for line in (fetch, give)
        ]  # fmt: skip
        sizes: list[tuple[float, int, int]] = []

        def sample() -> bool:
            now_s = (time.monotonic_ns() - bench.started_monotonic_ns) / 1e9
            sizes.append((now_s, size_of(came / "file"), size_of(sent / "file")))
            return now_s > END_S and all(loop.poll() is not None for loop in loops)

        within(2 * END_S, sample, every_s=0.5)
        tries = [int(loop.communicate()[0]) for loop in loops]
        until(functools.partial(pair.streaming_from, AFTER))
        count = pair.sql(5432, "select max(number) from facts")
        until(lambda: int(pair.sql(5433, "select max(number) from facts")) >= int(count))
        gaps = pair.sql(5433, "select max(number) - count(*) - min(number) + 1 from facts")
        utc_s = time.time() - (time.monotonic_ns() - bench.started_monotonic_ns) / 1e9
        rows = [line.split("|") for line in (pair.folder / "watch-5433").read_text().splitlines() if "|" in line]
        bytes_up = bench.counters().uplink.offered_bytes
    lag = [(float(now) - utc_s, float(now) - float(newest)) for now, _, newest in rows if newest]
    keep("replication", lag=lag, sizes=sizes, outage=OUTAGE_S, new_address=NEW_ADDRESS_S, tries=tries)
    wanted = digest(served / "file")
    assert [digest(came / "file"), digest(sent / "file")] == [wanted, wanted]
    assert min(tries) >= 2, "each was cut and went on"
    assert bytes_up < 1.5 * COPY_BYTES, "what had come before was not sent again"
    assert gaps == "0", "not a row is missing"
    worst = max(lag, key=lambda item: item[1])
    print(f"tries of curl and rsync: {tries}; the standby was behind by {worst[1]:.1f} s at most")
    assert 55 < worst[1] < 120, "by the outage, and the time until somebody tries again"
    assert min(behind for at, behind in lag if at > OUTAGE_S[1]) < 2, "it catches up"
    assert all(b <= a for (_, *before), (_, *after) in zip(sizes, sizes[1:], strict=False)
               for b, a in zip(before, after, strict=True)), "no copy begins anew"  # fmt: skip


def size_of(path: Path) -> int:
    """Of a file, or of what rsync or curl have of it so far."""
    return path.stat().st_size if path.exists() else 0


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
