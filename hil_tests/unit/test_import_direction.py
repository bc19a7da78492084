"""Imports point left only: the order of the rooms, and who may know the firmware."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent

# Left may not import right. timeline's model and causes are the meeting point: what is right of timeline uses them.
ROOMS = (
    ("units", "errors", "child", "output"),
    ("scenario",),
    ("orbit",),
    ("serving",),
    ("radio",),
    ("timeline",),
    ("link",),
    ("ports",),
    ("taps",),
    ("terminal",),
    ("bench",),
    ("control",),
    ("testing",),
    ("cli",),
)
PLACE = {room: place for place, rooms in enumerate(ROOMS) for room in rooms}
FIRMWARE_MAY_IMPORT = {"terminal", "units", "errors"}
FIRMWARE_REGISTRY = "firmware_stubs.registry"  # all that a bench may know of it: stubs are chosen by name


def imported_modules(source: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import of a source text, those inside functions and TYPE_CHECKING too.

    A type that may not be imported at run time is knowledge of the wrong room all the same. `from emulator import link`
    yields `emulator.link`; import_module("…") with a literal counts as an import.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (
                (node.lineno, argument.value)
                for argument in node.args[:1]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def room_of(dotted: str) -> str | None:
    """`emulator.link.queue.Queue` → `link`; None for what is no room (other packages, `emulator.__version__`)."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "emulator" and len(parts) > 1 and parts[1] in PLACE else None


def may_see_firmware(room: str | None, dotted: str) -> bool:
    """The registry is open from bench on; testing and cli, which serve a stub without a bench, may see all of it."""
    if room is None or PLACE[room] < PLACE["bench"]:
        return False
    return PLACE[room] >= PLACE["testing"] or f"{dotted}.".startswith(f"{FIRMWARE_REGISTRY}.")


def wrong_imports(path: Path, source: str) -> list[str]:
    """Every import of the file at `path` (relative to the checkout) that points the wrong way, as `file:line: …`."""
    package = ".".join(path.parent.parts)
    here = path.parts[1].removesuffix(".py") if path.parts[0] == "emulator" and path.name != "__init__.py" else None
    if path.parts[0] == "emulator" and len(path.parts) > 2:
        here = path.parts[1]
    wrong = []
    for line, dotted in imported_modules(source, package):
        room = room_of(dotted)
        if path.parts[0] == "firmware_stubs":
            bad = room is not None and room not in FIRMWARE_MAY_IMPORT
        elif dotted.split(".")[0] == "firmware_stubs":
            bad = not may_see_firmware(here, dotted)
        else:
            bad = here is not None and room is not None and PLACE[room] > PLACE[here]
        if bad:
            wrong.append(f"{path}:{line}: {dotted}")
    return wrong


def sources() -> list[Path]:
    found = [path for package in ("emulator", "firmware_stubs") for path in (CHECKOUT / package).rglob("*.py")]
    return sorted(path.relative_to(CHECKOUT) for path in found)


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_point_left_only(path: Path) -> None:
    assert wrong_imports(path, (CHECKOUT / path).read_text()) == []


@pytest.mark.parametrize("path", sources(), ids=str)
def test_every_room_has_its_place_in_the_order(path: Path) -> None:
    room = path.parts[1].removesuffix(".py") if path.parts[0] == "emulator" else "units"
    assert room in PLACE or room == "__init__"


@pytest.mark.parametrize(
    "source",
    [
        "import emulator.bench",
        "from emulator import bench",
        "from emulator.bench.runtime import remove_leftovers",
        "from ..bench import runtime",
        "def lazy():\n    from emulator.bench import Bench",
        "if TYPE_CHECKING:\n    from emulator.bench import Bench",
        "import importlib\nimportlib.import_module('emulator.bench')",
        "import firmware_stubs.nmea",
    ],
)
def test_a_wrong_import_is_found_in_every_form(source: str) -> None:
    assert wrong_imports(Path("emulator/link/queue.py"), source) != []


@pytest.mark.parametrize(
    "source", ["from emulator.link import queue", "import emulator.units", "from . import stage", "import numpy"]
)
def test_a_right_import_is_let_through(source: str) -> None:
    assert wrong_imports(Path("emulator/link/queue.py"), source) == []


def test_the_firmware_knows_the_terminal_and_no_other_room() -> None:
    assert wrong_imports(Path("firmware_stubs/nmea.py"), "from emulator.terminal.state import Terminal") == []
    assert wrong_imports(Path("firmware_stubs/nmea.py"), "from emulator.bench import Bench") != []


def test_a_bench_knows_the_registry_of_the_firmware_and_nothing_else_of_it() -> None:
    assert wrong_imports(Path("emulator/bench/stubs.py"), "from firmware_stubs.registry import find") == []
    assert wrong_imports(Path("emulator/bench/stubs.py"), "from firmware_stubs.nmea import Receiver") != []
