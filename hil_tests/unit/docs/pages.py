"""What tests read out of Markdown pages: fenced blocks, links, headings, command lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block. `language` may be empty; `line` is where its first line stands, counted from 1."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    """A page as a test's id."""
    return str(page.relative_to(CHECKOUT))


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order; those of one language if it is given."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match[1])
        lines = "".join(line[indent:] if line.strip() else line for line in match[3].splitlines(keepends=True))
        found.append(Block(match[2], lines, text.count("\n", 0, match.start(3)) + 1))
    return [block for block in found if language in (None, block.language)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page."""
    return _LINK.findall(_CODE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """What `page.md#…` can name: a heading in lower case, without punctuation, spaces as hyphens."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the text of a page; one that goes on over a line's end has it as a space."""
    return [re.sub(r"\s*\n\s*", " ", code) for code in _CODE.findall(prose(page))]


def shell_lines(page: Path) -> Iterator[str]:
    """Every line of shell that a page shows, continued lines joined, comments taken off: in blocks and in the text."""
    for block in blocks(page):
        if block.language in {"sh", "console"}:
            for line in block.text.replace("\\\n", " ").splitlines():
                yield re.sub(r"(^|\s)#.*$", "", line).strip().removeprefix("$ ")
    yield from inline_code(page)
