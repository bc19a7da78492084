"""The README, the tutorial and the tests of the page on testing, executed as a reader would: what is shown works, and
prints what stands below it.

Blocks marked `sh` run in the order of the page, in one directory. One that begins with `# until Ctrl-C` runs beside the
others, until its section ends. A `text` block behind it is what it prints, line by line: `…` stands for anything, and
each number for any number; other lines may be between.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from hil_tests.unit.docs.pages import CHECKOUT, blocks, inline_code

TUTORIAL, README, TESTING = (CHECKOUT / name for name in ("docs/tutorial.md", "README.md", "docs/testing.md"))
BESIDE = "# until Ctrl-C\n"
LIMIT_S = 120

# What a reader has on the path; benches begin at a moment without outages, a second into a slot, so that each time the
# same happens to them.
BENTPIPE = """#!/bin/sh
case $1 in shell | run) command=$1; shift; set -- "$command" --start 2026-01-01T00:00:13Z "$@" ;; esac
exec {python} -m emulator.cli.main "$@"
"""
PYTHON = """#!/bin/sh
exec {python} "$@"
"""
# The plugin is there without its name where Bentpipe is installed; a busy machine proves nothing, and is let off here.
PYTEST = """#!/bin/sh
unset PYTEST_ADDOPTS
exec {python} -m pytest -p emulator.testing.plugin -p no:cacheprovider --satlink-lateness 5000 "$@"
"""

pytestmark = pytest.mark.needs("netns", "tun", "ping")


class Reader:
    """Somebody at a desk: a directory, a `bentpipe` on the path, benches of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "desk"
        programs = directory / "bin"
        for path in (self.directory, programs):
            path.mkdir()
        for name, text in (("bentpipe", BENTPIPE), ("pytest", PYTEST), ("python", PYTHON)):
            program = programs / name
            program.write_text(text.format(python=shlex.quote(sys.executable)))
            program.chmod(0o755)
        self._environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
            "PYTHONPATH": str(CHECKOUT),
            "BENTPIPE_RUNTIME_DIR": str(directory / "run"),
        }

    def start(self, text: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-e", "-c", text],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, text: str) -> str:
        """What a block printed on both streams; it has succeeded."""
        with ending(self.start(text)) as process:
            output, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, f"status {process.returncode} of\n{text}\n{output}"
        return output

    @contextlib.contextmanager
    def beside(self, text: str, expected: str) -> Iterator[None]:
        """Runs a block until the end of this one; begins when it has printed what is expected."""
        process = self.start(text)
        assert process.stdout is not None
        with process.stdout as output:
            rest = threading.Thread(target=output.read)  # so that its pipe never fills
            with ending(process):
                seen, wanted = "", patterns(expected)
                while missing(wanted, seen) and (line := output.readline()):
                    seen += line
                assert missing(wanted, seen) is None, f"{text}\nprints\n{seen}"
                rest.start()
                yield
            rest.join()


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ctrl-C for what still runs at the end."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(LIMIT_S)


def patterns(expected: str) -> list[str]:
    """A regular expression for each line; spaces may be more or fewer."""
    found = []
    for line in expected.splitlines():
        words = re.escape(" ".join(line.split())).replace("\\ ", " ").replace(" ", r"\s+")
        words = re.sub(r"\d+(\\\.\d+)?", r"\\d+(?:\\.\\d+)?", words)
        found.append(words.replace("…", ".*"))
    return [pattern for pattern in found if pattern != ".*"]


def missing(wanted: Iterable[str], output: str) -> str | None:
    """The first pattern that no line behind the one before it matches."""
    lines = iter(output.splitlines())
    for pattern in wanted:
        if not any(re.fullmatch(pattern, line.strip()) for line in lines):
            return pattern
    return None


@pytest.fixture
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("docs"))


def sections(page: Path) -> Iterator[list[tuple[str, str]]]:
    """(block of shell, what it prints) in order, section by section."""
    text = page.read_text(encoding="utf-8")
    heads = [text.count("\n", 0, match.start()) + 1 for match in re.finditer(r"^## ", text, re.MULTILINE)]
    shown = [block for block in blocks(page) if block.language in {"sh", "text"}]
    for first, end in zip(heads, [*heads[1:], sys.maxsize], strict=True):
        here = [block for block in shown if first < block.line < end]
        yield [
            (block.text, after.text if after and after.language == "text" else "")
            for block, after in pairwise([*here, None])
            if block and block.language == "sh"
        ]


@pytest.mark.needs("curl")
def test_the_tutorial_works_from_top_to_bottom(reader: Reader) -> None:
    done = 0
    for section in sections(TUTORIAL):
        with contextlib.ExitStack() as stack:
            for text, expected in section:
                if text.startswith(BESIDE):
                    stack.enter_context(reader.beside(text, expected))
                else:
                    output = reader.run(text)
                    lacking = missing(patterns(expected), output)
                    assert lacking is None, f"{text}\nprints no line that matches {lacking}, but\n{output}"
                done += 1
    assert done == len(blocks(TUTORIAL, language="sh")) > 9


@pytest.mark.needs("iperf3")
def test_the_five_things_of_the_readme_work(reader: Reader) -> None:
    lines = [code for code in inline_code(README) if code.startswith("bentpipe ")]
    assert len(lines) >= 6
    with contextlib.ExitStack() as stack:
        for line in lines:
            command = shlex.split(line)[1]
            if command == "run":
                stack.enter_context(reader.beside(line, "bentpipe: starlink_2025, …"))
            elif command != "bench":  # a minute of load; hil_tests/performance measures
                reader.run(line)


@pytest.mark.parametrize("scenario", ["starlink_2025", "fixed"])
def test_the_verdicts_of_the_page_on_testing_are_passed(reader: Reader, scenario: str) -> None:
    """As they stand there, on a link that has the delay that they demand."""
    shown = [block.text for block in blocks(TESTING, language="python") if "def test_" in block.text]
    assert len(shown) == 1
    (reader.directory / "test_link.py").write_text(shown[0], encoding="utf-8")
    told = reader.run(f"pytest -rA --bench={scenario} --satlink-start 2026-01-01T00:00:13Z test_link.py")
    assert "1 passed" in told
    assert re.search(r"verdict: delay downlink p95: .* sure: [\d.]+ to [\d.]+\), demanded at most 60 ms: passed", told)
    assert re.search(r"verdict: recovery downlink: 0\.\d+ s \(too short for an interval: 1 outage, 6 needed\)", told)


def test_what_is_shown_is_compared_with_what_is_printed() -> None:
    printed = "one  1.25 ms\nbetween\ntwo (x)\n"
    assert missing(patterns("one 3 ms\ntwo (x)\n"), printed) is None
    assert missing(patterns("…\ntwo …"), printed) is None
    for other in ("two (x)\none 3 ms", "one 3 s", "two", "one … ms\ntwo (y)"):
        assert missing(patterns(other), printed) is not None
