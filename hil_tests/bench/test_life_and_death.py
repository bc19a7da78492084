"""However a bench ends, nothing of it stays: no process, no interface, no namespace, no directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.bench import Bench, opening
from emulator.bench import bench as bench_module
from emulator.bench.planner import AHEAD_NS
from emulator.errors import EmulationError, InterfaceError
from emulator.scenario import load_scenario
from emulator.scenario.links import FixedLink
from emulator.timeline.fixed import FixedWindows
from emulator.timeline.model import Timeline, Windows
from hil_tests.bench.living import PATIENCE_S, World, children, finished, line, new_world, processes_in, until
from hil_tests.capabilities import other_user

pytestmark = pytest.mark.needs("netns", "tun")
FAMILY = """
exec 9>$ALIVE
readlink /proc/self/ns/net
setsid sleep 1000 &
(setsid sh -c 'sleep 1000 & exec sleep 1000' &)
sh -c 'trap "" TERM INT HUP; while :; do sleep 1000; done' &
echo ready
exec sleep 1000
"""
Ending = Callable[[subprocess.Popen[str]], None]


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as one:
        yield one


def to_all(number: signal.Signals) -> Ending:
    """As the keyboard, or a terminal that is closed, sends it."""
    return lambda process: os.killpg(process.pid, number)


def to_it(number: signal.Signals) -> Ending:
    return lambda process: process.send_signal(number)


TERM = pytest.param(to_it(signal.SIGTERM), 143, id="TERM")
INTERRUPT = pytest.param(to_all(signal.SIGINT), 130, id="INT")
HANG_UP = pytest.param(to_all(signal.SIGHUP), 129, id="HUP")
KILL = pytest.param(to_it(signal.SIGKILL), -9, id="KILL")
KILL_ALL = pytest.param(to_all(signal.SIGKILL), -9, id="KILL-all")


def cases() -> Iterator[Any]:
    """Every ending where both sides are this machine's, and the telling ones elsewhere."""
    for name, options, endings in (
        ("machine", (), (TERM, INTERRUPT, HANG_UP, KILL, KILL_ALL)),
        ("isolated", ("--isolate",), (TERM,)),
        ("zmq", ("--isolate", "--fabric", "zmq"), (TERM, KILL, KILL_ALL)),
    ):
        for ending in endings:
            marks = [] if options else [pytest.mark.needs("root")]
            yield pytest.param(options, *ending.values, id=f"{name}-{ending.id}", marks=marks)


@pytest.mark.parametrize(("options", "ending", "status"), list(cases()))
def test_it_takes_everybody_with_it(world: World, options: tuple[str, ...], ending: Ending, status: int) -> None:
    process = world.shell(FAMILY, *options)
    namespace = line(process)
    assert line(process) == "ready"
    assert namespace.startswith("net:[")
    until(lambda: len(processes_in(namespace)) >= 5)  # who is ready has forked, his children perhaps not yet
    assert world.leftovers()
    ending(process)
    assert process.wait(PATIENCE_S) == status
    if status == -9:  # nobody was left to clear up: the next start does
        assert finished(world.bentpipe("clean")).returncode == 0
    assert world.everybody_is_gone()
    until(lambda: not processes_in(namespace))
    assert world.leftovers() == []


def test_a_next_start_clears_up_after_a_killed_one(world: World) -> None:
    process = world.shell(FAMILY, "--isolate")
    line(process)
    assert line(process) == "ready"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)
    (left,) = world.leftovers()
    following = world.shell("echo ready; read line", "--isolate", "--quiet")
    assert line(following) == "ready"
    assert left not in world.leftovers()
    assert len(world.leftovers()) == 1
    assert world.everybody_is_gone()


def test_clean_says_what_it_removes_and_leaves_the_living_alone(world: World) -> None:
    living = world.shell("echo ready; read line", "--isolate", "--quiet")
    assert line(living) == "ready"
    (alive,) = world.leftovers()
    killed = world.shell("echo ready; read line", "--isolate", "--quiet")
    assert line(killed) == "ready"
    killed.kill()
    killed.wait(PATIENCE_S)
    (dead,) = set(world.leftovers()) - {alive}
    assert f"removed runtime directory of bench {dead}" in finished(world.bentpipe("clean")).stdout
    assert finished(world.bentpipe("clean")).stdout == "nothing to remove\n"
    assert world.leftovers() == [alive]
    assert living.poll() is None


def test_a_command_that_ignores_sigterm_is_given_a_grace_and_then_ended(world: World) -> None:
    process = world.shell("exec 9>$ALIVE; trap '' TERM; echo ready; while :; do sleep 1000; done", "--isolate")
    assert line(process) == "ready"
    process.terminate()
    assert process.wait(PATIENCE_S) == 143
    assert world.everybody_is_gone()
    assert world.leftovers() == []


def test_a_command_may_end_itself_in_order_when_asked_to(world: World) -> None:
    """While it does, the link still carries packets."""
    goodbye = "ping -c 1 $BENTPIPE_DATACENTER >/dev/null && echo said goodbye; exit 0"
    tidy = f"trap '{goodbye}' TERM; echo ready; while :; do sleep 0.01; done"
    process = world.shell(tidy, "--isolate")
    assert line(process) == "ready"
    process.terminate()
    assert line(process) == "said goodbye"
    assert process.wait(PATIENCE_S) == 143


def test_a_killed_guardian_leaves_nobody_behind(world: World) -> None:
    process = world.shell(FAMILY, "--isolate")
    line(process)
    assert line(process) == "ready"
    (guardian,) = children(process.pid)
    os.kill(guardian, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 137
    assert world.everybody_is_gone()
    assert world.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["a directory", "a description"])
def test_an_end_in_the_middle_of_a_start_leaves_nothing(world: World, number: signal.Signals, stage: str) -> None:
    process = world.shell("echo never", "--isolate", "--datacenter-cmd", "exec sleep 1000")
    wanted = "*-*" if stage == "a directory" else "*-*/bench.json"
    until(lambda: list(world.runtime.glob(wanted)) or process.poll() is not None)
    process.send_signal(number)
    status = process.wait(PATIENCE_S)
    assert status in (-number, 128 + number)
    finished(world.bentpipe("clean"))  # a signal may come at the very instant at which a directory is made
    assert world.leftovers() == []


@pytest.mark.needs("root")
class TestCollisions:
    """In the machine's own namespace, benches share names and addresses."""

    def test_three_at_the_same_instant_do_not_collide(self, world: World) -> None:
        show = "echo $BENTPIPE_TERMINAL $BENTPIPE_DATACENTER $BENTPIPE_TERMINAL6"
        show += "; ping -q -c 1 $BENTPIPE_DATACENTER >&2 && echo reached; read line"
        processes = [world.shell(show) for _ in range(3)]
        addresses = [tuple(line(process).split()) for process in processes]
        assert [line(process) for process in processes] == ["reached"] * 3
        for column in zip(*addresses, strict=True):
            assert len(set(column)) == 3
        assert world.interfaces() == ["bp0", "bp1", "bp2"]
        for process in processes:
            process.communicate("\n", timeout=PATIENCE_S)
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert world.leftovers() == []

    def test_an_address_that_somebody_else_has_is_left_to_him(self, world: World) -> None:
        first = line(world.shell("echo $BENTPIPE_DATACENTER; read line"))
        elsewhere = {"BENTPIPE_RUNTIME_DIR": str(world.directory / "elsewhere")}  # whose locks are not seen here
        show = "echo $BENTPIPE_DATACENTER; read line"
        second = line(world.bentpipe("shell", "fixed", "--", "sh", "-c", show, environment=elsewhere))
        assert first != second

    @pytest.mark.parametrize("name", ["lo", "bpbusy"])
    def test_a_busy_name_is_told_and_the_other_lives_on(self, world: World, name: str) -> None:
        busy = ("--set", f"ports.datacenter_interface={name}")
        holder = world.shell(
            "echo ready; read line; ping -q -c 1 $BENTPIPE_DATACENTER >&2 && echo reached",
            *(busy if name != "lo" else ()),
        )
        assert line(holder) == "ready"
        held = world.leftovers()
        result = world.run("echo never", *busy)
        assert (result.returncode, result.stdout) == (73, "")
        assert f"interface {name}: expected a free name" in result.stderr
        assert world.leftovers() == held
        out, _ = holder.communicate("\n", timeout=PATIENCE_S)
        assert out == "reached\n"

    @pytest.mark.needs("ip")
    def test_an_interface_removed_from_outside_ends_the_bench(self, world: World) -> None:
        process = world.shell(
            "exec 9>$ALIVE; echo ready; exec sleep 1000", "--set", "ports.datacenter_interface=bpgone"
        )
        assert line(process) == "ready"
        world.inside(lambda: subprocess.run(["ip", "link", "del", "bpgone"], check=True))
        result = finished(process)
        assert result.returncode == 75
        assert "lost its datacenter's interface" in result.stderr
        assert world.everybody_is_gone()
        assert world.leftovers() == []


@pytest.mark.needs("ip")
@pytest.mark.parametrize("fabric", ["direct", "zmq"])
def test_an_interface_that_the_command_removes_ends_the_bench(world: World, fabric: str) -> None:
    result = world.run("exec 9>$ALIVE; ip link del ut0; exec sleep 1000", "--isolate", "--fabric", fabric)
    assert result.returncode == 75
    assert "lost its terminal's interface" in result.stderr
    assert world.everybody_is_gone()
    assert world.leftovers() == []


def test_an_end_of_the_fabric_that_dies_ends_the_bench(world: World) -> None:
    process = world.shell("exec 9>$ALIVE; echo ready; exec sleep 1000", "--isolate", "--fabric", "zmq")
    assert line(process) == "ready"
    ends = [pid for pid in children(process.pid) if b"end_part" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ends) == 2
    os.kill(ends[0], signal.SIGKILL)
    result = finished(process)
    assert result.returncode == 75
    assert "terminal's end of the fabric has ended with status -9" in result.stderr
    assert world.everybody_is_gone()
    assert world.leftovers() == []


class Refused(Exception):
    """What the tests below make a start fail with."""


def refuse(*_: object, **__: object) -> Any:
    raise Refused


@pytest.mark.needs("root")
class TestInProcess:
    @pytest.fixture(autouse=True)
    def alone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", str(world.runtime))
        self.world = world

    def belongings(self) -> tuple[int, int, list[str]]:
        return threading.active_count(), len(os.listdir("/proc/self/fd")), self.world.leftovers()

    @pytest.mark.parametrize(
        ("place", "fabric"),
        [
            ("windows_for", "direct"),
            ("RuntimeDirectory", "direct"),
            ("Namespace.create", "direct"),
            ("TunPort.__init__", "direct"),
            ("TunPort.add_address", "direct"),
            ("Side.__init__", "direct"),
            ("link_options", "direct"),
            ("Relay.start", "direct"),
            ("make_relay", "zmq"),
            ("FabricRelay.start", "zmq"),
            ("Overlay.add", "direct"),
            pytest.param("Overlay.add", "zmq", marks=pytest.mark.long),
            ("RuntimeDirectory.describe", "direct"),
        ],
    )
    def test_a_start_that_fails_anywhere_leaves_nothing(
        self, place: str, fabric: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scenario = load_scenario("fixed")

        def start() -> None:
            with Bench(scenario, isolate=False, fabric=fabric):
                pass

        self.world.inside(start)  # whatever is made once is made now
        before = self.belongings()
        owner, _, name = place.rpartition(".")
        module = next(one for one in (bench_module, opening) if hasattr(one, owner or name))
        monkeypatch.setattr(getattr(module, owner) if owner else module, name, refuse)
        with pytest.raises(Refused):
            self.world.inside(start)
        assert self.belongings() == before

    def test_the_second_port_may_fail_when_the_first_is_there(self) -> None:
        def start() -> None:
            with Bench(load_scenario("fixed", ["ports.datacenter_interface=lo"]), isolate=False):
                pass

        before = self.belongings()
        with pytest.raises(InterfaceError):
            self.world.inside(start)
        assert self.belongings() == before

    def test_planning_that_fails_is_told_to_whoever_asks(self) -> None:
        class Ending(Windows):
            """Knows the first minute, and not the next."""

            def window(self, start_ns: int, end_ns: int) -> Timeline:
                if start_ns >= 1000 * 10**9 + AHEAD_NS:
                    raise Refused("no more")
                return FixedWindows(FixedLink()).window(start_ns, end_ns)

        with Bench(load_scenario("fixed"), windows=Ending(), start_utc_ns=1000 * 10**9) as bench:

            def failed() -> bool:
                try:
                    bench.counters()
                except EmulationError as error:
                    return re.search("planning.*no more", str(error)) is not None
                return False

            until(failed)

    def test_leaving_twice_is_leaving_once(self) -> None:
        bench = Bench(load_scenario("fixed"))
        with bench:
            process = bench.terminal.popen(["sleep", "1000"])
        assert process.returncode == -signal.SIGTERM
        bench.__exit__(None, None, None)
        assert self.belongings()[2] == []

    def test_processes_of_both_sides_end_with_it(self) -> None:
        with Bench(load_scenario("fixed")) as bench:
            processes = [side.popen(["sleep", "1000"]) for side in (bench.terminal, bench.datacenter) for _ in range(3)]
            begin = time.monotonic()
        assert [process.returncode for process in processes] == [-signal.SIGTERM] * 6
        assert time.monotonic() - begin < PATIENCE_S


COMPILING_S = 500  # of which some 20 are work


@pytest.mark.timeout(COMPILING_S + 60)
@pytest.mark.needs("other-user", "user-namespaces", "ping")
def test_an_ordinary_user_has_a_bench_of_his_own() -> None:
    """Isolated, without being asked to; and with nothing left of it."""
    user = other_user()
    assert user is not None
    quickly_compiled = {**user.options["env"], "NUMBA_OPT": "0"}  # his Python, hence his cache, is not ours
    result = user.with_tun(
        [
            user.python,
            "-B",
            "-m",
            "emulator.cli.main",
            "shell",
            "fixed",
            "--realtime",
            "--",
            "sh",
            "-c",
            "id -u; ping -q -c 2 -i 0.2 $BENTPIPE_DATACENTER && ping -q -c 1 $BENTPIPE_DATACENTER6; exit 5",
        ],
        env=quickly_compiled,
        timeout=COMPILING_S,
    )
    assert result.returncode == 5, result.stderr
    assert result.stdout.splitlines()[0] == "0", "root, of a user namespace of his own"
    assert result.stdout.count(" 0% packet loss") == 2
    assert "the bench is isolated" in result.stderr
    assert "real-time priority was refused" in result.stderr
    assert not [path for path in Path(f"/tmp/bentpipe-{user.uid}").iterdir() if path.is_dir()]
