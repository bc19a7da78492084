"""The planner of any scenario."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import ScenarioError
from emulator.scenario.links import (
    ContactLink,
    FixedLink,
    GeoLink,
    IridiumLink,
    KuiperLink,
    O3bLink,
    OneWebLink,
    StarlinkLink,
    TraceLink,
)
from emulator.scenario.model import Scenario
from emulator.timeline.model import Windows

if TYPE_CHECKING:
    from emulator.orbit.source import Swarm


def windows_for(
    scenario: Scenario, *, elements: Path | None = None, epoch_utc_ns: int, swarm: Swarm | None = None
) -> Windows:
    """The planner of `scenario`: `fixed` is constant, `trace` follows a file, all others the sky.

    `elements` replaces `constellation.elements`. `epoch_utc_ns` is the start of the run, used for checks only (are the
    elements near enough to it, does a satellite ever serve the terminal); no draw depends on it. `swarm`: satellites
    that several terminals share, in place of reading them for each; whether they serve this one is then not looked
    into.
    Raises ScenarioError for elements where none belong and for a track that does not lead through the start,
    ElementsError for elements that cannot be used, TraceError for such a trace,
    CoverageError if no satellite ever serves the terminal.
    """
    if elements is not None and isinstance(scenario.link, FixedLink | TraceLink | GeoLink):
        name, profile = scenario.name or "scenario", scenario.link.profile
        raise ScenarioError([f"{name}: link.profile {profile!r} has no orbits: expected no elements, got {elements}"])
    match scenario.link:
        case FixedLink():
            from emulator.timeline.fixed import FixedWindows

            return FixedWindows(scenario.link)
        case TraceLink():
            from emulator.timeline.traces.windows import TraceWindows

            return TraceWindows(scenario.link, epoch_utc_ns=epoch_utc_ns)
        case GeoLink():
            from emulator.timeline.geo import GeoWindows

            geo = GeoWindows(scenario)
            geo.policy.site.require_track_at(epoch_utc_ns)
            return geo
        case StarlinkLink():
            from emulator.timeline.starlink import StarlinkWindows

            return StarlinkWindows(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns, swarm=swarm)
        case ContactLink():
            from emulator.timeline.contact import ContactWindows

            return ContactWindows(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns)
        case IridiumLink():
            from emulator.timeline.iridium import IridiumWindows

            return IridiumWindows(scenario, elements=elements, epoch_utc_ns=epoch_utc_ns, swarm=swarm)
        case link:
            return _passes(scenario, link, elements, epoch_utc_ns, swarm)


def _passes(
    scenario: Scenario,
    link: O3bLink | OneWebLink | KuiperLink,
    elements: Path | None,
    epoch_utc_ns: int,
    swarm: Swarm | None,
) -> Windows:
    """Systems that differ in who serves, and in little else."""
    from emulator.serving.kuiper import KuiperPolicy
    from emulator.serving.o3b import O3bPolicy
    from emulator.serving.oneweb import OneWebPolicy
    from emulator.timeline.passes import MakePolicy, PassWindows

    make_policy: MakePolicy
    breaks = True
    match link:
        case O3bLink():
            make_policy, breaks = partial(O3bPolicy, link), link.antennas == 1
        case OneWebLink():
            make_policy = OneWebPolicy
        case KuiperLink():
            make_policy = KuiperPolicy
    return PassWindows(
        scenario, link, make_policy, breaks=breaks, elements=elements, epoch_utc_ns=epoch_utc_ns, swarm=swarm
    )
