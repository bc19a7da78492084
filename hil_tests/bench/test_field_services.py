"""Services of the field over links of the field: copies that resume, tunnels that move, calls, QUIC, contacts."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from emulator.scenario import load_scenario
from emulator.scenario.model import OverlayEvent
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_S, parse_utc_ns
from hil_tests.bench.field import PATIENCE_S, connected, receive, run, running
from hil_tests.bench.living import until

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled", "nft"), pytest.mark.usefixtures("nothing_left")]
PEER = Path(__file__).parent / "quic_peer.py"
START = "2025-05-29T23:20:50Z"


@pytest.mark.long
@pytest.mark.needs("rsync")
def test_a_copy_that_is_cut_by_a_change_of_address_resumes_where_it_was(tmp_path: Path) -> None:
    """rsync to a daemon in the datacenter; the public address changes under it, and an outage follows."""
    size = 12_000_000
    original, there = tmp_path / "original", tmp_path / "there"
    there.mkdir()
    original.write_bytes(os.urandom(size))
    settings = f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n[data]\npath = {there}\nread only = no\n"
    (tmp_path / "rsyncd.conf").write_text(settings)
    with running("fixed", "link.rate_mbps=40", "link.delay_ms=30", "access.nat44=true") as bench:
        daemon = ["rsync", "--daemon", "--no-detach", "--config", str(tmp_path / "rsyncd.conf"), "--port", "8730"]
        bench.datacenter.popen(daemon)
        until(lambda: run(bench.terminal, "rsync", f"rsync://{bench.datacenter.ipv4}:8730/").returncode == 0)
        copy = ["rsync", "--append-verify", "--timeout", "20", str(original)]
        copy.append(f"rsync://{bench.datacenter.ipv4}:8730/data/original")
        first = bench.terminal.popen(copy, stderr=subprocess.DEVNULL)
        until(lambda: (there / "original").exists() and (there / "original").stat().st_size > size // 4)
        bench.network.do("new_address")
        assert first.wait(PATIENCE_S) != 0, "the connection of before is lost"
        came = (there / "original").stat().st_size
        assert size // 4 < came < size
        sent = bench.counters().uplink.offered_bytes
        bench.apply(OverlayEvent(kind="outage", at_s=0.3, duration_s=2))
        assert run(bench.terminal, *copy).returncode == 0, "an outage is survived"
        again = bench.counters().uplink.offered_bytes - sent
    assert hashlib.sha256((there / "original").read_bytes()).digest() == hashlib.sha256(original.read_bytes()).digest()
    assert again < size, "what had come before was not sent again"


@pytest.mark.long
@pytest.mark.needs("pg_ctlcluster")
def test_a_database_streams_through_an_outage_and_a_change_of_address() -> None:
    """PostgreSQL: the primary in the datacenter, its standby at the terminal's side, which the server's user owns."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    with tempfile.TemporaryDirectory() as made, running("fixed", "link.delay_ms=30", "access.nat44=true") as bench:
        folder = Path(made)
        shutil.chown(folder, "postgres", "postgres")

        def ask(side: Side, program: str, *arguments: str) -> str:
            done = run(side, *as_owner, str(programs / program), *arguments)
            assert done.returncode == 0, done.stdout
            return done.stdout

        def serve(side: Side, data: Path, port: int) -> None:
            more = ["-k", made, "-p", str(port), "-c", "fsync=off", "-c", "wal_receiver_timeout=2s"]
            more += ["-c", "wal_sender_timeout=2s", "-c", "wal_retrieve_retry_interval=200ms"]
            command = [*as_owner, str(programs / "postgres"), "-D", str(data), *more, "-h", "*"]
            side.popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            ready = [*as_owner, str(programs / "pg_isready"), "-q", "-h", made, "-p", str(port)]
            until(functools.partial(answers, side, *ready))

        def sql(side: Side, port: int, text: str) -> str:
            return ask(side, "psql", "-qAt", "-h", made, "-p", str(port), "-U", "postgres", "-c", text).strip()

        primary, standby = folder / "primary", folder / "standby"
        ask(bench.datacenter, "initdb", "-D", str(primary), "-A", "trust", "-U", "postgres", "--no-sync")
        with (primary / "pg_hba.conf").open("a") as rules:
            rules.write("host replication all 0.0.0.0/0 trust\n")
        serve(bench.datacenter, primary, 5432)
        sql(bench.datacenter, 5432, "create table facts (number int)")
        copy = ["-h", bench.datacenter.ipv4, "-U", "postgres", "-D", str(standby), "-R", "-X", "stream", "--no-sync"]
        ask(bench.terminal, "pg_basebackup", "--checkpoint=fast", *copy)
        serve(bench.terminal, standby, 5433)

        def streamed(rows: int) -> bool:
            return sql(bench.terminal, 5433, "select count(*) from facts") == str(rows)

        fill = "insert into facts select generate_series(1, 1000)"
        sql(bench.datacenter, 5432, fill)
        until(functools.partial(streamed, 1000))
        bench.apply(OverlayEvent(kind="outage", at_s=0, duration_s=6))
        sql(bench.datacenter, 5432, fill)
        assert streamed(1000), "nothing comes through"
        until(functools.partial(streamed, 2000))
        bench.network.do("new_address")
        sql(bench.datacenter, 5432, fill)
        until(functools.partial(streamed, 3000))
        clients = "select count(*) from pg_stat_replication where client_addr = '198.19.0.1' and state = 'streaming'"
        until(lambda: sql(bench.datacenter, 5432, clients) == "1")


def answers(side: Side, *command: str) -> bool:
    return run(side, *command).returncode == 0


@pytest.mark.long
@pytest.mark.needs("wg", "wireguard-go")
def test_a_tunnel_follows_the_terminal_to_another_public_address(tmp_path: Path) -> None:
    """WireGuard in user space at both sides; a TCP connection within it lives through the change of address."""
    keys = {}
    for name in ("wgt", "wgd"):
        private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
        (tmp_path / name).write_text(private)
        (tmp_path / name).chmod(0o600)
        public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
        keys[name] = public.strip()
    with running("fixed", "link.delay_ms=20", "access.nat44=true") as bench:
        for side, name, number, other in ((bench.terminal, "wgt", 2, "wgd"), (bench.datacenter, "wgd", 1, "wgt")):
            side.popen(["wireguard-go", "-f", name], stderr=subprocess.DEVNULL)
            until(functools.partial(answers, side, "wg", "show", name))
            more = ["listen-port", "51820"] if name == "wgd" else []
            peer = ["peer", keys[other], "allowed-ips", "10.99.0.0/24"]
            if name == "wgt":
                peer += ["endpoint", f"{bench.datacenter.ipv4}:51820", "persistent-keepalive", "1"]
            assert run(side, "wg", "set", name, "private-key", str(tmp_path / name), *more, *peer).returncode == 0
            assert run(side, "ip", "address", "add", f"10.99.0.{number}/24", "dev", name).returncode == 0
            assert run(side, "ip", "link", "set", name, "up", "mtu", "1420").returncode == 0
        server = bench.datacenter.namespace.run(functools.partial(socket.socket))
        client = bench.terminal.namespace.run(functools.partial(socket.socket))
        server.bind(("10.99.0.1", 5000))
        server.listen()
        client.settimeout(PATIENCE_S)
        client.connect(("10.99.0.1", 5000))
        accepted, _ = server.accept()
        accepted.settimeout(PATIENCE_S)
        with server, client, accepted:

            def endpoint() -> str:
                return run(bench.datacenter, "wg", "show", "wgd", "endpoints").stdout.split()[1].rpartition(":")[0]

            client.sendall(b"before")
            assert receive(accepted, 6) == b"before"
            assert endpoint() == "198.19.0.0"
            bench.network.do("new_address")
            client.sendall(b"after")
            assert receive(accepted, 5) == b"after"
            assert endpoint() == "198.19.0.1"
            accepted.sendall(b"and back")
            assert receive(client, 8) == b"and back"


@pytest.mark.long
@pytest.mark.needs("sipp")
def test_calls_are_set_up_and_ended_through_handovers() -> None:
    """SIP over UDP by sipp; the link holds for 300 ms and loses for 200 ms, again and again."""
    with running("fixed", "link.delay_ms=25") as bench:
        side = ["-nostdin", "-trace_err", "-error_file", "/dev/null"]
        server = bench.datacenter.popen(
            ["sipp", "-sn", "uas", "-i", bench.datacenter.ipv4, *side], stdout=subprocess.DEVNULL
        )
        for number in range(12):
            bench.apply(OverlayEvent(kind="hold" if number % 2 else "outage", at_s=number / 2, duration_s=0.25))
        calls = ["-m", "20", "-r", "5", "-d", "1500", "-timeout", "60s"]
        done = run(
            bench.terminal, "sipp", "-sn", "uac", "-i", bench.terminal.ipv4, *calls, *side, bench.datacenter.ipv4
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert server.poll() is None
        assert bench.counters().uplink.dropped_packets > 0, "some of it was lost on the way"


def fetch_by_quic(bench: Bench, size: int) -> float:
    """Seconds until `size` bytes have come."""
    command = [sys.executable, str(PEER)]
    server = bench.datacenter.popen(
        [*command, "server", bench.datacenter.ipv4, "4433"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    done = run(bench.terminal, *command, "client", bench.datacenter.ipv4, "4433", str(size))
    server.terminate()
    server.wait()
    server.stdout.close()
    came, seconds = done.stdout.split()
    assert int(came) == size
    return float(seconds)


def fetch_by_tcp(bench: Bench, size: int, congestion: str) -> float:
    client, accepted = connected(bench.terminal, bench.datacenter)
    with client, accepted:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        began = time.monotonic()
        client.sendall(b"?")
        receive(accepted, 1)
        sending = threading.Thread(target=accepted.sendall, args=(bytes(size),))
        sending.start()
        assert len(receive(client, size)) == size
        sending.join()
        return time.monotonic() - began


@pytest.mark.long
def test_quic_passes_the_proxy_by_and_tcp_gains_by_it() -> None:
    """1.5 MB over a geostationary satellite: TCP with cubic and bbr, QUIC; with the proxy and without."""
    size, took = 1_500_000, {}
    for name, overrides in {"end to end": [], "split": ["pep.buffer_bytes=8000000"]}.items():
        with running("geo_dvbs2", *overrides, start_utc_ns=parse_utc_ns(START)) as bench:
            took["quic", name] = fetch_by_quic(bench, size)
            if bench.network.proxy is not None:
                assert [end.accepted for end in bench.network.proxy.counts().values()] == [0, 0]
            for congestion in ("cubic", "bbr"):
                took[congestion, name] = fetch_by_tcp(bench, size, congestion)
            if bench.network.proxy is not None:
                assert [end.accepted for end in bench.network.proxy.counts().values()] == [2, 2]
    print({" ".join(key): round(seconds, 2) for key, seconds in took.items()})
    assert took["cubic", "split"] < 0.8 * took["cubic", "end to end"], "it saves round trips of 0.6 s"


def datagrams_of(side: Side) -> socket.socket:
    made = side.namespace.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM))
    made.setblocking(False)
    return made


@pytest.mark.long
def test_a_contact_is_cut_by_loss_of_signal_and_resumes_at_the_next_pass() -> None:
    """A spacecraft delivers to a TCP and a UDP endpoint in the datacenter, over two passes."""
    scenario = load_scenario("ground_station_contact")
    start_ns = parse_utc_ns(START)
    contacts = windows_for(scenario, epoch_utc_ns=start_ns).contacts(start_ns, start_ns + 12 * 3600 * NS_PER_S)
    first = contacts[0]
    with Bench(scenario, start_utc_ns=first.end_ns - 6 * NS_PER_S) as bench:
        client, accepted = connected(bench.terminal, bench.datacenter)
        far, near = datagrams_of(bench.datacenter), datagrams_of(bench.terminal)
        far.bind((bench.datacenter.ipv4, 6000))
        data = os.urandom(64_000_000)
        came = hashlib.sha256()
        stop = threading.Event()

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        def count() -> None:
            number = 0
            while not stop.wait(0.02):
                near.sendto(number.to_bytes(4, "big"), (bench.datacenter.ipv4, 6000))
                number += 1

        threads = [threading.Thread(target=work) for work in (send, count)]
        for thread in threads:
            thread.start()
        accepted.setblocking(False)

        def take() -> int:
            size = 0
            try:
                while chunk := accepted.recv(1 << 20):
                    came.update(chunk)
                    size += len(chunk)
            except BlockingIOError:
                pass
            return size

        def received() -> list[int]:
            numbers = []
            try:
                while True:
                    numbers.append(int.from_bytes(far.recv(10), "big"))
            except BlockingIOError:
                return numbers

        size, numbers = 0, []
        while bench.utc_ns() < first.end_ns + NS_PER_S:
            size += take()
            numbers += received()
            time.sleep(0.01)
        assert 0 < size < len(data), "loss of signal cuts it"
        assert numbers
        assert received() == []
        assert bench.state().satellite == ""
        bench.operator.jump("next-contact", 0, bench.operator.moment("now"), "test")
        deadline = time.monotonic() + PATIENCE_S
        while size < len(data) and time.monotonic() < deadline:
            size += take()
            time.sleep(0.01)
        later = until(received)
        stop.set()
        for thread in threads:
            thread.join()
        for end in (client, accepted, far, near):
            end.close()
    assert size == len(data)
    assert came.digest() == hashlib.sha256(data).digest()
    assert later[0] > numbers[-1] + 1, "what was sent in between is lost"
