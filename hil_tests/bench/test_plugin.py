"""The plugin in a small project of somebody else: benches, verdicts, deadlines, a broken bench, xdist."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.errors import InterfaceError
from emulator.link.compiled import cache_directory
from emulator.scenario import load_scenario
from emulator.taps.pcapng import read_capture
from emulator.testing.record import load_record
from emulator.testing.store import Store
from hil_tests.bench.wires import CARDS, wires

pytestmark = pytest.mark.needs("netns", "tun", "ping")

INVALID_STATUS = 75
CONFIGS = Path(__file__).parents[2] / "configs"
PROJECT = ("-p", "emulator.testing.plugin", "-p", "no:cacheprovider", "--bench", "fixed", "--satlink-lateness", "5000")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.Pytester]:
    """An empty project; its benches are its own, in a directory whose name leaves room for those of sockets."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    if cache_directory is not None:  # a project of pytester has a home of its own
        monkeypatch.setenv("BENTPIPE_CACHE_DIR", str(cache_directory.parents[1]))
    with tempfile.TemporaryDirectory(prefix="bp-") as runtime:
        monkeypatch.setenv("BENTPIPE_RUNTIME_DIR", runtime)
        yield pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*PROJECT, *arguments, timeout=150)


def test_tests_of_ten_lines_meet_their_links(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import threading

        import pytest
        from emulator.testing.plugin.processes import DeadlineExceeded
        from emulator.testing.verdicts import NotProven, delay_ms, recovery_s, reordered_percent

        @pytest.mark.satlink(set=["link.delay_ms=40"], seed=5, start="2026-01-01T00:00:13Z", needs=["ping"])
        def test_ping_takes_80_ms(satlink, terminal, datacenter):
            finished = terminal.run("ping", "-c", "3", "-i", "0.2", datacenter.ipv4)
            assert "3 received" in finished.stdout
            assert float(finished.stdout.split("min/avg/max/mdev = ")[1].split("/")[0]) >= 80
            assert satlink.seed == 5
            assert satlink.counters().uplink.offered_packets == 3

        @pytest.mark.satlink(needs="no-such-program-here")
        def test_is_skipped(satlink):
            raise AssertionError

        def test_server_and_deadline(satlink, terminal, datacenter, tmp_path):
            with datacenter.start("python3", "-u", "-m", "http.server", "8000", cwd=tmp_path) as server:
                server.expect("Serving HTTP")
                (tmp_path / "file").write_text("hello")
                fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
                assert "hello" in terminal.run("python3", "-c", fetch, f"http://{datacenter.ipv4}:8000/file").stdout
            assert not server.running

        # a process that will not end is ended and named
        STUBBORN = "trap '' TERM; echo up; sleep 60 & wait; sleep 60"

        def test_stubborn(terminal, monkeypatch):
            monkeypatch.setattr("emulator.testing.plugin.processes.GRACE_S", 0.2)
            process = terminal.start("sh", "-c", STUBBORN)
            process.expect("up")
            with pytest.raises(DeadlineExceeded, match="SIGTERM did not end it within 0.2 s, SIGKILL did"):
                process.wait(0)
            assert process.stop().status == -9

        def test_deadline(terminal):
            process = terminal.start("sh", "-c", "echo before; exec sleep 50")
            process.expect("before")
            with pytest.raises(DeadlineExceeded, match="(?s)sleep 50.*within 0.3 s.*before"):
                process.wait(0.3)
            with pytest.raises(DeadlineExceeded, match="sleep 51: expected its end within 0 s"):
                terminal.run("sleep", "51", deadline_s=0)

        def test_expectation(terminal):
            with pytest.raises(DeadlineExceeded, match="ended with status 3"):
                terminal.start("sh", "-c", "exit 3").expect("ready")

        def test_status(terminal):
            with pytest.raises(AssertionError, match="(?s)exit status 4.*oops"):
                terminal.run("sh", "-c", "echo oops >&2; exit 4")
            assert terminal.run("sh", "-c", "exit 4", check=False).status == 4

        # what was measured is judged
        @pytest.mark.satlink("fixed", set=["link.delay_ms=20"])
        def test_delay(satlink):
            with satlink.measuring(interval_ms=5) as measured:
                satlink.apply("outage", 0.3, at_s=0.2)
                threading.Event().wait(2.5)
            record = measured.record
            assert record.events[0].kind == "outage"
            assert record.evidence.conserved
            satlink.require(delay_ms([record] * 6, "uplink").between(20, 400))
            satlink.require(reordered_percent([record] * 6, "downlink").at_most(2))
            assert 0 < recovery_s(record, "uplink").interval.estimate < 2
            with pytest.raises(NotProven):
                satlink.require(delay_ms([record] * 6, "uplink").at_most(19))

        @pytest.mark.satlink("starlink_2025")
        def test_both(dish, serial_stub, terminal):
            connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)"
            terminal.run("python3", "-c", connect, dish.host, str(dish.port))
            import serial
            with serial.Serial(serial_stub("nmea"), 9600, timeout=30) as line:
                assert line.readline().startswith(b"$GP")
        """
    )
    kept = ("--satlink-report", "reports", "--satlink-store", "runs.sqlite")
    result = run(project, "-rA", f"--junitxml={project.path}/junit.xml", *kept)
    result.assert_outcomes(passed=8, skipped=1)
    result.stdout.fnmatch_lines(["verdict: delay uplink p50: 20* ms (95% sure: *: passed"])
    result.stdout.fnmatch_lines(["bentpipe: *, bench fixed, seed of each link, at most * benches at once"])
    with Store(project.path / "runs.sqlite", read=True) as store:
        runs = {each.name.partition("::")[2]: each for each in store.runs()}
    assert runs["test_ping_takes_80_ms"].seed == 5
    assert "--satlink-seed 5" in runs["test_ping_takes_80_ms"].details["repeat"]
    assert "--bench fixed" in runs["test_delay"].details["repeat"]
    assert "--bench starlink_2025" in runs["test_both"].details["repeat"]  # not that of tests without a mark
    page = Path(runs["test_delay"].details["reports"][0]).read_text()
    assert "delay uplink p50" in page
    report = (project.path / "junit.xml").read_text()
    assert '<property name="satlink_seed" value="5" />' in report
    assert '<property name="satlink_start" value="2026-01-01T00:00:13' in report
    assert f'<property name="satlink_repeat" value="{runs["test_ping_takes_80_ms"].details["repeat"]}" />' in report


def test_a_failure_says_how_to_repeat_it_and_what_was_done(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.satlink(seed=7)
        def test_fails(satlink, terminal, datacenter):
            satlink.apply("outage", 60.0)
            terminal.run("ping", "-c", "2", "-i", "0.2", "-W", "1", datacenter.ipv4)

        def test_passes(satlink, terminal, datacenter):
            terminal.run("ping", "-c", "1", datacenter.ipv4)

        def test_is_refused(satlink):
            with satlink.measuring(probes=False):
                satlink.apply("fade", 1.0, fade=6)

        @pytest.mark.satlink(set=["link.los=0.1"])
        def test_has_no_link(satlink):
            raise AssertionError
        """
    )
    result = run(project, "--satlink-start", "2026-01-01T00:00:13Z", "--satlink-report", "kept")
    result.assert_outcomes(failed=2, passed=1, errors=1)
    capture, _ = sorted(project.path.glob("kept/*/packets.pcapng"))  # of those that failed
    assert capture.parent.name.endswith("test_fails")
    assert sum(frame.packet is not None for frame in read_capture(capture)) == 2
    assert "uplink: 2 packets offered, 0 delivered, 2 dropped (command 2), 0 under way" in result.stdout.str()
    pages = sorted(project.path.glob("kept/*/report.html"))
    assert [page.parent.name.partition(".py_")[2] for page in pages] == ["test_fails", "test_is_refused"]
    for page in pages:  # one of a whole test, one of what was measured until it failed
        record = load_record(page.with_name("run.json"))
        assert record.outcome == "failed"
        assert html.escape(record.repeat, quote=False) in page.read_text()
        assert record.repeat.endswith("--satlink-start 2026-01-01T00:00:13.000000000Z")
    assert f"capture: {capture}" in result.stdout.str()
    text = result.stdout.str()
    assert "ScenarioError: --set link.los=0.1: unknown key: did you mean link.loss?" in text
    assert "ScenarioError: apply: fade: unknown key: did you mean fade_db?" in text
    assert "def apply(" not in text, "a refusal is one line, to which frames of Bentpipe's add nothing"
    assert "0 received" in text
    assert re.search(r"proof: (\d+ packets? left late by p50|no packet crossed)", text)
    assert re.search(r"done to the link: 2026-01-01T00:00:\S+Z  outage, 60 s, both", text)
    repeat = next(line for line in result.stdout.lines if line.startswith("repeat: "))
    assert repeat.startswith(
        "repeat: pytest test_a_failure_says_how_to_repeat_it_and_what_was_done.py::test_fails --bench fixed "
        "--satlink-seed 7 --satlink-start 2026-01-01T00:00:13.000000000Z"
    )
    again = run(project, *repeat.removeprefix("repeat: pytest ").split())
    again.assert_outcomes(failed=1)


def test_what_fell_behind_is_invalid_and_neither_passed_nor_failed(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import dataclasses

        def test_would_pass(satlink, terminal, datacenter):
            terminal.run("ping", "-c", "1", datacenter.ipv4)
            satlink.limits = dataclasses.replace(satlink.limits, lateness_p99_us=-1)

        def test_would_fail(satlink, terminal, datacenter):
            terminal.run("ping", "-c", "1", datacenter.ipv4)
            satlink.limits = dataclasses.replace(satlink.limits, lateness_p99_us=-1)
            raise ZeroDivisionError
        """
    )
    result = run(project, "-p", "xdist", "-n", "0")
    assert result.ret == INVALID_STATUS
    result.stdout.fnmatch_lines(
        ["*invalid: nothing is proven*", "*test_would_fail: invalid: the emulation fell behind*"]
    )
    result.stdout.fnmatch_lines(["*2 invalid*"])


def test_what_a_link_sends_twice_is_not_missing(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.satlink(set=["link.uplink.duplicate=0.5"])
        def test_pings(satlink, terminal, datacenter):
            terminal.run("ping", "-c", "20", "-i", "0.01", datacenter.ipv4)
            assert satlink.counters().uplink.copied_packets > 0
        """
    )
    run(project).assert_outcomes(passed=1)


def test_a_full_disk_takes_the_report_and_not_the_result(project: pytest.Pytester) -> None:
    project.makepyfile("def test_fine(satlink): pass")
    result = run(project, "--satlink-store=/dev/full")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bentpipe: not kept: *test_fine: /dev/full: run store: *"])


def test_a_broken_bench_is_latched(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        def test_scenario_of_its_own_is_wrong(request):
            from emulator.errors import ScenarioError
            request.node.add_marker(pytest.mark.satlink("no-such-scenario"))
            with pytest.raises(ScenarioError):
                request.getfixturevalue("satlink")

        def test_fine(satlink):
            pass

        def test_breaks(satlink):
            satlink.bench._relay._shared[:] = 0
            from emulator.errors import EmulationError
            satlink.bench._failure = EmulationError("planning the link failed: the planner died")

        def test_cannot_be_trusted(satlink):
            raise AssertionError
        """
    )
    result = run(project, "-rs")
    result.stdout.fnmatch_lines(
        ["*the bench is broken: since *test_breaks: planning the link failed: the planner died"]
    )
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 2
    assert outcomes["skipped"] == 1


SAME_TESTS = """
    import threading

    def test_ping(satlink, terminal, datacenter):
        finished = terminal.run("ping", "-c", "3", "-i", "0.2", datacenter.ipv4)
        assert "3 received" in finished.stdout
        assert float(finished.stdout.split("min/avg/max/mdev = ")[1].split("/")[0]) >= 80
        assert satlink.counters().uplink.delivered_packets >= 3

    def test_outage(satlink, terminal, datacenter):
        with datacenter.start("sh", "-c", "echo I am $BENTPIPE_DATACENTER; exec sleep 60") as process:
            process.expect(f"I am {datacenter.ipv4}")
        satlink.apply("outage", 30)
        threading.Event().wait(0.1)
        assert terminal.run("ping", "-c", "1", "-W", "1", datacenter.ipv4, check=False).status == 1
"""


OTHER_CLOCK = """
    def test_another_machine_has_another_clock(satlink):
        import pytest
        from emulator.errors import EmulationError
        with pytest.raises(EmulationError, match="the datacenter's side is another machine.*use `bentpipe probe`"):
            satlink.measure(1.0)
"""


def test_the_same_tests_run_between_network_cards(project: pytest.Pytester) -> None:
    """Veth pairs stand for cards and cables; one host is a namespace here, the other is reached as by ssh."""
    project.makepyfile(SAME_TESTS + OTHER_CLOCK)
    with wires() as found:
        lab = project.path / "lab.toml"
        far = f'["nsenter", "--net={found.datacenter.space.path}", "sh", "-c"]'
        lab.write_text(
            f"""
            [link]
            profile = "fixed"
            [ports]
            kind = "nic"
            terminal = "{CARDS[0]}"
            datacenter = "{CARDS[1]}"
            [ports.terminal_host]
            namespace = "{found.terminal.space.path}"
            ipv4 = "{found.terminal.ipv4}"
            [ports.datacenter_host]
            ipv4 = "{found.datacenter.ipv4}"
            remote = {far}
            """
        )
        arguments = "--bench", str(lab), "--satlink-set", "link.delay_ms=40"
        found.middle.run(lambda: run(project, *arguments)).assert_outcomes(passed=3)


def test_a_host_in_a_namespace_that_there_is_not_is_named() -> None:
    """Without a project: pytester unloads what is imported meanwhile, and Numba's registries cannot be loaded twice."""
    cards = [f"ports.{side}={card}" for side, card in zip(("terminal", "datacenter"), CARDS, strict=True)]
    nowhere = load_scenario("fixed", ["ports.kind=nic", *cards, "ports.terminal_host.namespace=no-such"])
    said = r"ports\.terminal_host\.namespace 'no-such': expected a network"
    with wires() as found, pytest.raises(InterfaceError, match=said):
        found.middle.run(Bench(nowhere).__enter__)


@pytest.mark.long
def test_and_without_cards(project: pytest.Pytester) -> None:
    project.makepyfile(SAME_TESTS)
    run(project, "--satlink-set", "link.delay_ms=40").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--satlink-start", "soon"), "--satlink-start"),
        (("--satlink-cores", "0"), "--satlink-cores"),
        (("--satlink-capture", "all"), "--satlink-report"),
        (("--bench", str(CONFIGS / "fixed.toml")), f"expected --bench={CONFIGS}"),
    ],
)
def test_a_wrong_command_line_is_refused(project: pytest.Pytester, arguments: tuple[str, ...], named: str) -> None:
    result = run(project, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert named in result.stderr.str()


@pytest.mark.long
def test_workers_share_the_budget_and_the_channel_is_the_same(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        @pytest.mark.satlink("starlink_2025", seed=3, start="2026-01-01T00:00:20Z")
        def test_parallel(satlink, terminal, datacenter, number, tmp_path_factory):
            terminal.run("ping", "-c", "1", "-W", "2", datacenter.ipv4, check=False)
            future = satlink.bench.timeline_at(satlink.start_utc_ns).downlink
            kept = tmp_path_factory.getbasetemp().parent / f"{number}.channel"
            kept.write_text(repr((future.delay_ns.tolist(), future.rate_bps.tolist())))
        """
    )
    result = run(project, "-n", "2", "--satlink-cores", "1", "--basetemp", str(project.path / "base"))
    result.assert_outcomes(passed=4)
    channels = {path.read_text() for path in project.path.rglob("*.channel")}
    assert len(channels) == 1
