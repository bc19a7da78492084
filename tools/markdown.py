"""What the pages that are made from the code are written with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar in a field does not end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(field.replace("|", "\\|") for field in line) + " |" for line in lines] + [""]


def joined(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def paragraph(text: str) -> list[str]:
    return [" ".join(text.split()), ""] if text else []
