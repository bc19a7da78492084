"""`bentpipe shell`: the command notices nothing but the link, and whoever called it gets what the command gave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.bench.living import World, finished, line, new_world

pytestmark = pytest.mark.needs("netns", "tun")
ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7))
while True:
    data, peer = server.recvfrom(100)
    server.sendto(data, peer)
"""
ASK = """
import os, signal, socket, sys
interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
print("ready", flush=True)
sys.stdin.readline()
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(30)
asking.sendto(b"still there", (os.environ["BENTPIPE_DATACENTER"], 7))
print(len(interrupted), asking.recv(100).decode(), flush=True)
"""


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as one:
        yield one


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -INT $$", 130),
    ],
)
def test_the_exit_status_is_the_commands(world: World, command: str, status: int) -> None:
    assert world.run(command, "--isolate").returncode == status
    assert world.leftovers() == []


def test_a_step_that_the_bench_did_not_live_to_see_is_told(world: World) -> None:
    script = 'script=[{at="0s", action="mark", label="first"}, {at="86400s", action="mark", label="last"}]'
    told = world.run("true", "--isolate", "--set", script)
    assert told.returncode == 0
    assert "script[0] 0s: first: " in told.stderr
    assert "script[1] 86400s: last: pending: the bench ended before" in told.stderr


def test_stdout_is_the_commands_alone_and_the_rest_is_on_stderr(world: World) -> None:
    result = world.run("echo out; echo err >&2", "--datacenter-cmd", "echo server; echo server-err >&2")
    assert result.returncode == 0
    assert result.stdout == "out\n"
    told = [said for said in result.stderr.splitlines() if said.startswith("bentpipe: ")]
    assert set(result.stderr.splitlines()) - set(told) == {"err", "server", "server-err"}
    assert any(said.startswith("bentpipe: uplink: ") for said in told)


def test_quiet_is_quiet(world: World) -> None:
    world.run("true", "--isolate")  # whatever is compiled, and told, once
    result = world.run("echo err >&2", "--isolate", "--quiet")
    assert (result.stdout, result.stderr) == ("", "err\n")


def test_stdin_environment_and_directory_are_the_callers(world: World, tmp_path: Path) -> None:
    process = world.shell("cat; pwd; echo $ALIVE", "--isolate", "--quiet", cwd=tmp_path)
    out, _ = process.communicate("typed\n", timeout=60)
    assert out.splitlines() == ["typed", str(tmp_path), str(world.fifo)]


@pytest.mark.needs("ping", "ipv6")
@pytest.mark.parametrize("isolate", [("--isolate",), pytest.param((), marks=pytest.mark.needs("root"))])
def test_both_ips_reach_the_datacenter_and_not_before_the_delay(world: World, isolate: tuple[str, ...]) -> None:
    result = world.run(
        "echo $BENTPIPE_TERMINAL $BENTPIPE_DATACENTER $BENTPIPE_TERMINAL6 $BENTPIPE_DATACENTER6 && "
        "ping -4 -n -c 2 -i 0.1 $BENTPIPE_DATACENTER && ping -6 -n -c 2 -i 0.1 $BENTPIPE_DATACENTER6",
        *isolate,
        "--set",
        "link.delay_ms=15",
    )
    assert result.returncode == 0, result.stderr
    terminal, datacenter, terminal6, datacenter6 = result.stdout.split("\n", 1)[0].split()
    assert len({terminal, datacenter, terminal6, datacenter6}) == 4
    assert result.stdout.count(" 0% packet loss") == 2
    times = [float(found) for found in re.findall(r"time=([\d.]+) ms", result.stdout)]
    assert len(times) == 4
    assert min(times) >= 30.0
    assert "uplink: 4 packets offered, 4 delivered, 0 dropped, 0 under way" in result.stderr


@pytest.mark.needs("root")
def test_the_datacenters_side_is_this_machine_or_with_isolate_is_not(world: World) -> None:
    ours = str(Path("/proc/self/ns/net").readlink())
    seen = []
    for isolate in ((), ("--isolate",)):
        process = world.shell("readlink /proc/self/ns/net; read line", *isolate, "--quiet")
        seen.append((line(process), len(world.leftovers())))
        process.communicate("\n", timeout=30)
        assert process.returncode == 0
    assert ours not in {namespace for namespace, _ in seen}, "the command itself is always on the other side"
    assert [count for _, count in seen] == [2, 1], "a directory each, and an interface of this machine for the first"
    assert world.leftovers() == []


def test_a_server_listens_before_the_command_starts(world: World) -> None:
    server = "exec python3 -m http.server --bind $BENTPIPE_DATACENTER 8000"
    fetch = (
        "import os, urllib.request as u; print(u.urlopen(f'http://{os.environ[\"BENTPIPE_DATACENTER\"]}:8000/').status)"
    )
    (world.directory / "fetch.py").write_text(fetch)
    result = world.run(f"exec python3 {world.directory}/fetch.py", "--datacenter-cmd", server)
    assert (result.returncode, result.stdout) == (0, "200\n"), result.stderr


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (["no-such-command"], 127, "no-such-command: command not found"),
        (["/etc/passwd"], 126, "/etc/passwd: expected an executable file"),
    ],
)
def test_a_command_that_cannot_be_started_is_told_before_anything_starts(
    world: World, command: list[str], status: int, message: str
) -> None:
    result = finished(world.bentpipe("shell", "fixed", "--", *command))
    assert (result.returncode, result.stderr, result.stdout) == (status, f"bentpipe: {message}\n", "")
    assert not world.runtime.exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("link.delay_ms=-1", "link.delay_ms"),
        ("link.colour=red", "link.colour"),
        ("link.loss=2", "link.loss"),
        ("ports.mtu=100", "ports.mtu"),
        ("ports.ipv4_network=nonsense", "ports.ipv4_network"),
    ],
)
def test_an_override_that_cannot_be_is_a_line_with_its_key(world: World, override: str, key: str) -> None:
    result = finished(world.bentpipe("shell", "fixed", "--set", override, "--", "touch", str(world.directory / "ran")))
    assert result.returncode == 65
    (told,) = result.stderr.splitlines()
    assert told.startswith("bentpipe: ")
    assert key in told
    assert not (world.directory / "ran").exists()
    assert not world.runtime.exists()


@pytest.mark.parametrize(
    "arguments",
    [["fixed"], ["fixed", "--fabric", "carrier-pigeon", "--", "true"], ["fixed", "--duration", "soon", "--", "true"]],
)
def test_a_wrong_command_line_is_2(world: World, arguments: list[str]) -> None:
    result = finished(world.bentpipe("shell", *arguments))
    assert result.returncode == 2
    assert not world.runtime.exists()


def test_a_network_too_small_for_a_bench_is_told_and_leaves_nothing(world: World) -> None:
    result = world.run("true", "--isolate", "--set", "ports.ipv4_network=10.0.0.0/31")
    assert result.returncode == 73
    assert "ports.ipv4_network 10.0.0.0/31" in result.stderr
    assert world.leftovers() == []


@pytest.mark.parametrize("fabric", ["direct", "zmq"])
def test_a_runtime_directory_too_deep_for_sockets_is_told_in_one_line(world: World, fabric: str) -> None:
    deep = world.directory / ("deep" * 25)
    result = finished(
        world.bentpipe(
            *("shell", "fixed", "--isolate", "--quiet", "--fabric", fabric, "--", "echo", "never"),
            environment={"BENTPIPE_RUNTIME_DIR": str(deep)},
        )
    )
    assert (result.returncode, result.stdout) == (71, "")
    assert "BENTPIPE_RUNTIME_DIR" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert [path for path in deep.iterdir() if path.is_dir()] == []


def test_a_duration_ends_the_command_as_timeout_does(world: World) -> None:
    result = world.run(
        "trap 'echo ended; exit 0' TERM; while :; do sleep 0.01; done", "--isolate", "--duration", "0.3s"
    )
    assert (result.returncode, result.stdout) == (124, "ended\n")
    assert "CMD was ended after 0.3 s (--duration)" in result.stderr


def test_the_keyboards_interrupt_is_the_commands(world: World) -> None:
    process = world.shell("echo ready; exec sleep 1000", "--isolate", "--quiet")
    assert line(process) == "ready"
    os.killpg(process.pid, signal.SIGINT)
    assert finished(process).returncode == 130
    assert world.leftovers() == []


def test_a_command_that_survives_an_interrupt_keeps_its_server(world: World) -> None:
    """As an interactive shell or a REPL does: what the keyboard sends to the group must not end the datacenter."""
    for name, code in (("echo", ECHO), ("ask", ASK)):
        (world.directory / name).write_text(code)
    server = f"exec python3 {world.directory}/echo"
    process = world.shell(f"exec python3 {world.directory}/ask", "--quiet", "--datacenter-cmd", server)
    assert line(process) == "ready"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate("go\n", timeout=60)
    assert (out, process.returncode) == ("1 still there\n", 0), err


def test_a_reader_that_goes_away_does_not_hang_it(world: World) -> None:
    process = world.shell("while :; do echo y; done", "--isolate", "--quiet")
    assert line(process) == "y"
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_bench_inside_a_bench_is_a_bench(world: World) -> None:
    """Two links in a row is what one may want; the inner one's processes are its own."""
    inner = "emulator.cli.main shell fixed --isolate --quiet --set ports.terminal_interface=inner0"
    result = world.run(
        f"exec python3 -m {inner} -- sh -c 'echo $BENTPIPE_TERMINAL; exit 9'".replace(
            "python3", os.path.realpath("/proc/self/exe")
        ),
        "--isolate",
        "--quiet",
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode, result.stdout) == (9, "198.18.0.2\n"), result.stderr
