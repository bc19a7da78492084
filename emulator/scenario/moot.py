"""Keys of a valid scenario that have no effect, as it stands: somebody may have meant something else.

They are told and not refused, for a scenario may be a template: `--set` and sweeps change the key that they need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from emulator.scenario.impairments import QueueKeys
from emulator.scenario.links import PlainLink, TraceLink, direction_keys
from emulator.scenario.model import Scenario, TrafficClass

DIRECTIONS: tuple[Literal["uplink", "downlink"], ...] = ("uplink", "downlink")
DISCIPLINES_OF = {
    "queue_target_ms": ("codel", "fq_codel", "pie"),
    "queue_interval_ms": ("codel", "fq_codel"),
    "queue_flows": ("fq_codel",),
    "ecn": ("codel", "fq_codel", "pie"),
}


def moot_keys(scenario: Scenario) -> list[str]:
    """A line for each: the key, and why it has no effect."""
    return [*_of_the_link(scenario), *_of_the_classes(scenario.classes)]


def _of_the_link(scenario: Scenario) -> Iterator[str]:
    link = scenario.link
    effective = {direction: direction_keys(link, direction) for direction in DIRECTIONS}
    moot = {direction: dict(_moot(keys, scenario)) for direction, keys in effective.items()}
    if isinstance(link, PlainLink):
        for key in (*DISCIPLINES_OF, "jitter"):
            users = [direction for direction in DIRECTIONS if getattr(getattr(link, direction), key) is None]
            if getattr(link, key) and users and all(key in moot[direction] for direction in users):
                yield f"link.{key}: no effect: {moot[users[0]][key]}"
    for direction in DIRECTIONS:
        said = getattr(link, direction)
        for key, why in moot[direction].items():
            if getattr(said, key):
                yield f"link.{direction}.{key}: no effect: {why}"


def _moot(keys: Any, scenario: Scenario) -> Iterator[tuple[str, str]]:
    yield from _of_another_discipline(keys)
    jitters = isinstance(scenario.link, TraceLink) or any(event.kind == "jitter" for event in scenario.overlay)
    if keys.jitter is not None and not keys.jitter_ms and not jitters:
        yield "jitter", "it is the shape of jitter_ms, which is 0"


def _of_another_discipline(keys: QueueKeys) -> Iterator[tuple[str, str]]:
    discipline = getattr(keys, "queue_discipline")  # noqa: B009 (each table that has a queue declares its own)
    for key, disciplines in DISCIPLINES_OF.items():
        if getattr(keys, key) and discipline not in disciplines:
            known = " or ".join(repr(one) for one in disciplines)
            yield key, f"expected queue_discipline {known}, got {discipline!r}"


def _of_the_classes(classes: tuple[TrafficClass, ...]) -> Iterator[str]:
    taken: Mapping[str, int] = {}
    for number, one in enumerate(classes):
        for key, why in _of_another_discipline(one):
            yield f"classes[{number}].{key}: no effect: {why}"
        ways = DIRECTIONS if one.direction == "both" else (one.direction,)
        if all(way in taken for way in ways):
            yield f"classes[{number}]: no effect: classes[{taken[ways[0]]}] stands before it and takes every packet"
        elif not (one.protocols or one.dscp or one.ports or one.networks):
            taken = {**dict.fromkeys(ways, number), **taken}
