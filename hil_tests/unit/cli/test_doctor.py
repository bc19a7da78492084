"""`bentpipe doctor` against the machine that it stands on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emulator.cli import checks, doctor
from emulator.cli.checks import CHECKS, Finding, examine
from emulator.cli.probe import Probe, probe
from emulator.errors import EmulationError, ToolMissingError
from emulator.ports.nft import find_nft

HEALTHY = Probe(
    namespace_fault="",
    user_namespace_fault="",
    tun_fault="",
    udp_segmentation=True,
    stamps_fault="",
    transmit_queue_packets=10_000,
    ipv6=True,
    nft_fault="",
    tap_fault="",
    card_fault="",
    realtime_fault="",
)


def consult(*arguments: str) -> Result:
    return CliRunner().invoke(doctor.doctor, list(arguments), standalone_mode=False)


def finding(name: str) -> Finding:
    return next(found for found in examine() if found.name == name)


def test_the_exit_status_says_whether_a_shell_can_work_here() -> None:
    result = consult("--json")
    report = json.loads(result.output)
    blocked = any(found["essential"] and found["verdict"] == "missing" for found in report["findings"])
    assert report["shell_works"] is not blocked
    assert result.return_value == int(blocked)


def test_each_finding_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = list(examine())
    monkeypatch.setattr(checks, "examine", lambda: findings)
    lines = consult().output.splitlines()
    assert len(lines) == len(findings) + 1
    for found, line in zip(findings, lines, strict=False):
        assert line.startswith(found.verdict)
        assert found.name in line
        assert found.finding in line
    assert [found["name"] for found in json.loads(consult("--json").output)["findings"]] == [f.name for f in findings]


def on_a_terminal(columns: int) -> list[str]:
    """The lines of `bentpipe doctor` on a terminal so wide, its colours left out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"TERM": "dumb"}
    command = [sys.executable, "-m", "emulator.cli.main", "doctor"]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while more := os.read(ours, 4096):
            said += more
    except OSError:  # EIO: the other end is closed
        pass
    child.wait()
    os.close(ours)
    return said.decode().splitlines()


def test_on_a_narrow_terminal_each_finding_is_a_plain_line() -> None:
    verdicts = tuple(doctor.COLOURS)
    *narrow, last = on_a_terminal(80)
    assert last.startswith("bentpipe shell ")
    assert len(narrow) == len(list(examine()))
    assert all(line.startswith(verdicts) for line in narrow)
    assert any(line.split()[:2] == ["found", "remedy"] for line in on_a_terminal(200))


def test_names_are_unique() -> None:
    names = [found.name for found in examine()]
    assert len(set(names)) == len(names) >= len(CHECKS)


@pytest.mark.needs("tun")
def test_where_a_tun_interface_can_be_made_a_shell_works() -> None:
    assert consult().return_value == 0


@pytest.mark.needs("uso")
def test_udp_segmentation_is_found_where_it_is() -> None:
    assert finding("UDP segmentation offload").verdict == "ok"


@pytest.mark.needs("tun")
def test_probing_leaves_no_interface_behind() -> None:
    before = set(Path("/sys/class/net").iterdir())
    probe.cache_clear()
    probe()
    assert set(Path("/sys/class/net").iterdir()) == before


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"namespace_fault": "refused", "tun_fault": "refused"}, "network namespaces"),
        ({"tun_fault": "/dev/net/tun: No such device"}, "TUN interface"),
    ],
)
def test_what_a_bench_cannot_do_without_is_named_with_a_remedy(
    fault: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill = Probe(**{**{field: getattr(HEALTHY, field) for field in Probe.__dataclass_fields__}, **fault})
    monkeypatch.setattr(checks, "probe", lambda: ill)
    assert finding(name).verdict == "missing"
    assert finding(name).remedy
    result = consult()
    assert result.return_value == 1
    assert result.output.splitlines()[-1].startswith("bentpipe shell cannot work on this machine: ")
    assert name in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"udp_segmentation": False}, "UDP segmentation offload"),
        ({"transmit_queue_packets": 500}, "txqueuelen"),
        ({"stamps_fault": "Operation not permitted"}, "arrival stamps at TUN and TAP"),
        ({"tap_fault": "no"}, "TAP interface"),
        ({"card_fault": "no"}, "network cards inline"),
        ({"ipv6": False}, "IPv6"),
        ({"nft_fault": "nft is not installed"}, "address translation"),
        ({"realtime_fault": "[Errno 1] Operation not permitted"}, "real-time priority"),
    ],
)
def test_what_a_bench_can_do_without_only_limits_it(
    fault: dict[str, object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Probe(**{**{field: getattr(HEALTHY, field) for field in Probe.__dataclass_fields__}, **fault})
    monkeypatch.setattr(checks, "probe", lambda: limited)
    assert finding(name).verdict == "limited"
    assert consult().return_value == 0


def test_a_remedy_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ToolMissingError) as caught:
        find_nft()
    monkeypatch.setattr(checks, "probe", lambda: replace(HEALTHY, nft_fault=str(caught.value)))
    found = finding("address translation")
    assert "apt-get" not in found.finding
    assert found.remedy == "apt-get install nftables"
    monkeypatch.setattr(checks, "probe", lambda: replace(HEALTHY, nft_fault="nft -f -: Operation not supported"))
    assert finding("address translation").remedy == "a kernel with nf_tables and NAT"


def test_a_machine_too_ill_to_be_asked_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Probe:
        raise EmulationError("probing this machine failed")

    monkeypatch.setattr(checks, "probe", fail)
    assert consult().return_value == 1


def test_a_runtime_directory_that_cannot_be_had_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(open_to_all))
    assert finding("runtime directory").finding != str(open_to_all)


@pytest.mark.parametrize("program", checks.CLIENTS)
def test_a_client_that_is_not_installed_is_named_with_its_package(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    found = next(client for client in checks.check_clients() if client.name == f"client {program}")
    assert found.verdict == "missing"
    assert found.remedy == f"apt-get install {checks.CLIENTS[program]}"


@pytest.mark.parametrize(
    ("switch", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ],
)
def test_the_remedy_is_the_switch_that_is_off(
    switch: str, value: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_read", lambda path: value if path == f"/proc/sys/{switch}" else None)
    assert checks.user_namespace_remedy() == f"as root: {remedy}"
