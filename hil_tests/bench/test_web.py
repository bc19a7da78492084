"""A page over `web`, a geostationary satellite: DNS (dnsmasq), HTTPS (Apache, curl), QUIC (aioquic); split and not."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench
from hil_tests.bench.field import keep, run, running, web_server
from hil_tests.bench.living import until

pytestmark = [
    pytest.mark.needs("netns", "tun", "root", "compiled", "nft"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.long,
]
PEER = Path(__file__).parent / "quic_peer.py"
NAME, SIZE = "www.example", 1_500_000  # RFC 2606
PUBLIC = "198.19.0.0/28"
RUNS = 3  # the middle one counts
SERVERS = {"TCP cubic": "cubic", "TCP bbr": "bbr", "QUIC cubic": ""}


def browse(bench: Bench, names: Path, *command: str) -> dict[str, Any]:
    """A program at the terminal's side that asks the datacenter's name server, and what it says in the end."""
    line = f'mount --bind {names} /etc/resolv.conf && exec "$@"'
    done = run(bench.terminal, "unshare", "--mount", "sh", "-ec", line, "sh", *command)
    assert done.returncode == 0, done.stdout
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["size_download"] == SIZE
    return told


def fetch(bench: Bench, folder: Path, congestion: str) -> dict[str, Any]:
    """The page by TCP, with this congestion control at the server, or by QUIC."""
    names = folder / "resolv.conf"
    if not congestion:
        return browse(bench, names, sys.executable, str(PEER), "client", NAME, "4433", str(SIZE))
    (route,) = json.loads(run(bench.datacenter, "ip", "-json", "route", "show", PUBLIC).stdout)
    changed = ["ip", "route", "replace", PUBLIC, "via", route["gateway"], "dev", route["dev"], "congctl", congestion]
    assert run(bench.datacenter, *changed).returncode == 0
    curl = ["curl", "-sS", "--cacert", str(folder / "certificate"), "-o", str(folder / "came"), "-w", "%{json}"]
    return browse(bench, names, *curl, f"https://{NAME}:8443/page")


@contextlib.contextmanager
def served(bench: Bench, folder: Path) -> Iterator[None]:
    """The datacenter's name server and web servers."""
    far = bench.datacenter.ipv4
    (folder / "resolv.conf").write_text(f"nameserver {far}\n")
    files = folder / "certificate", folder / "key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-out", str(files[0]), "-keyout", str(files[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    answers = ["--no-resolv", "--no-hosts", f"--address=/{NAME}/{far}", f"--listen-address={far}", "--bind-interfaces"]
    bench.datacenter.popen(["dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--pid-file=", *answers])
    quic = bench.datacenter.popen(
        [sys.executable, str(PEER), "server", far, "4433", *map(str, files)], stdout=subprocess.PIPE, text=True
    )
    assert quic.stdout is not None
    assert quic.stdout.readline() == "ready\n"
    quic.stdout.close()
    until(functools.partial(knows_the_name, bench, folder))
    names = {"page": os.urandom(SIZE), **{file.name: file.read_bytes() for file in files}}
    encrypted = ["SSLEngine on", "SSLProtocol TLSv1.3", "SSLCertificateFile {folder}/certificate", "Protocols h2"]
    with web_server(bench.datacenter, 8443, names, *encrypted, "SSLCertificateKeyFile {folder}/key"):
        yield


def knows_the_name(bench: Bench, folder: Path) -> bool:
    line = f"mount --bind {folder / 'resolv.conf'} /etc/resolv.conf && getent hosts {NAME}"
    return run(bench.datacenter, "unshare", "--mount", "sh", "-ec", line).returncode == 0


@pytest.mark.needs("curl", "apache2", "dnsmasq")
def test_a_page_by_tcp_and_by_quic_split_and_not(tmp_path: Path) -> None:
    """TCP gains by the proxy, whatever the server's congestion control; QUIC and DNS pass it by."""
    took: dict[str, dict[str, dict[str, Any]]] = {}
    for way, overrides in {"end to end": [], "split": ["pep.buffer_bytes=8000000"]}.items():
        folder = tmp_path / way.replace(" ", "-")
        folder.mkdir()
        with running("web", *overrides) as bench, served(bench, folder):
            took[way] = {}
            for server, congestion in SERVERS.items():
                runs = sorted((fetch(bench, folder, congestion) for _ in range(RUNS)), key=total)
                took[way][server] = runs[RUNS // 2]
            if bench.network.proxy is not None:
                counts = bench.network.proxy.counts()
                assert [end.accepted for end in counts.values()] == [2 * RUNS, 2 * RUNS], "TCP alone"
    keep("web", took=took, size=SIZE)
    for way, servers in took.items():
        for server, told in servers.items():
            steps = [told[f"time_{step}"] for step in ("namelookup", "connect", "appconnect", "starttransfer", "total")]
            print(f"{server}, {way}: name, TCP, TLS, first byte, last byte after {steps} s")
            assert steps == sorted(steps)
            assert steps[0] > 0.6, "the name server is a round trip away"
    for server in ("TCP cubic", "TCP bbr"):
        plain, split = took["end to end"][server], took["split"][server]
        assert plain["time_connect"] - plain["time_namelookup"] > 0.6
        assert split["time_connect"] - split["time_namelookup"] < 0.3, "the terminal's end answers"
        assert total(split) < 0.85 * total(plain)
    assert total(took["split"]["QUIC cubic"]) > 0.8 * total(took["end to end"]["QUIC cubic"]), "nothing is won there"


def total(told: dict[str, Any]) -> float:
    return float(told["time_total"])
