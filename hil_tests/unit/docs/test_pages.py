"""Every page of the project: links lead somewhere, command lines are ones that Bentpipe takes, scenarios are valid."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from emulator.cli.main import COMMANDS, bentpipe
from emulator.scenario import load_scenario
from hil_tests.unit.docs.pages import CHECKOUT, PAGES, anchors, blocks, links, name_of, shell_lines
from tools.reference_pages import WRONG_COMMAND_LINE

OPERATORS = set("();<>|&")
ELSEWHERE = ("http://", "https://", "mailto:")


def dead(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    there = page.parent / path if path else page
    return not there.exists() or (bool(anchor) and anchor not in anchors(there))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not target.startswith(ELSEWHERE) and dead(page, target)] == []


def command_lines(line: str) -> Iterator[list[str]]:
    """The arguments of each `bentpipe` in a line of shell."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found: list[str] | None = None
    for word in [*words, ";"]:
        if set(word) <= OPERATORS:
            if found is not None:
                yield found
            found = None
        elif found is not None:
            found.append(word)
        elif word == "bentpipe":
            found = []


def is_taken(arguments: list[str]) -> bool:
    """Whether Bentpipe would begin to do it. Of a command's bare name, or a pattern of it, only that it exists."""
    name, *rest = arguments
    if name not in COMMANDS:
        return name.startswith("-")
    if not rest or any(word.startswith("[") or "…" in word for word in rest):
        return True
    command = bentpipe.get_command(click.Context(bentpipe), name)
    assert command is not None
    try:
        command.make_context(name, rest)
    except (click.exceptions.Exit, click.MissingParameter):  # --help; and `run --dish`, of which the text speaks
        return True
    except click.ClickException:
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_one_that_bentpipe_takes(page: Path) -> None:
    shown = [words for line in shell_lines(page) if "bentpipe " in f"{line} " for words in command_lines(line) if words]
    wrong = [words for words in shown if not is_taken(words) and words != shlex.split(WRONG_COMMAND_LINE)[1:]]
    assert wrong == []


def test_a_wrong_command_line_would_be_found() -> None:
    line = "bentpipe plan fixed --durations 5m | head; bentpipe dance; bentpipe shell fixed -- sh -c 'bentpipe x'"
    assert [is_taken(words) for words in command_lines(line)] == [False, False, True]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_scenario_shown_is_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, language="toml"):
        path = tmp_path / f"{page.stem}_{block.line}.toml"
        path.write_text(block.text, encoding="utf-8")
        load_scenario(path)


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [CHECKOUT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        targets = (target.partition("#")[0] for target in links(page) if not target.startswith(ELSEWHERE))
        found = {(page.parent / target).resolve() for target in targets if target.endswith(".md")}
        todo += [path for path in found if path.exists() and path not in reached]
    lost = {page for page in PAGES if page.is_relative_to(CHECKOUT / "docs")} - reached
    assert sorted(map(name_of, lost)) == []
