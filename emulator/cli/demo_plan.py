"""When a demo does what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.errors import CoverageError
from emulator.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from emulator.scenario import Scenario
    from emulator.timeline.model import Contact

SLOT_S = 15.0
DEFAULT_S = 45.0
BOUNDARIES = 3  # that a demo of the default length crosses
BEFORE_FIRST_BOUNDARY_S = 2.0  # less of the slot before it, and the boundary does not count
AFTER_LAST_BOUNDARY_S = 4.0  # so that the last slot is seen, too
OUTAGE_S = 1.5
FADE_S = 5.0
CLEARANCE_S = 2.0  # between what we do to the link and a slot boundary: what hurt shall be told apart
PROBE_INTERVAL_NS = 2 * NS_PER_MS
PROBE_BITS = 52 * 8  # of a probe with its headers
PROBE_SHARE = 0.1  # of the slower direction, that probes may take at most: a light load
CONTACT_LEAD_S = 2.0  # of a demo, before the contact in it
CONTACT_STEP_NS = 12 * 3600 * NS_PER_S
CONTACT_WITHIN_NS = 10 * 86_400 * NS_PER_S
CALM_S = 4.0  # before the transfer: probes that meet no queue, slot boundaries left out


@dataclass(frozen=True)
class Plan:
    """When a demo does what, seconds from its start."""

    duration_s: float
    transfer_s: tuple[float, float]
    outage_s: tuple[float, float]
    fade_s: tuple[float, float]
    query_s: float
    inject_s: float


def plan_demo(first_boundary_s: float | None, duration_s: float | None) -> Plan:
    """`first_boundary_s`: seconds to the next slot boundary, None for a link without slots.

    Without a duration, the demo lasts 45 s, or until three boundaries and four seconds are past (at most 51 s).
    """
    if duration_s is None:
        duration_s = DEFAULT_S
        if first_boundary_s is not None:
            first_seen_s = first_boundary_s + (SLOT_S if first_boundary_s < BEFORE_FIRST_BOUNDARY_S else 0.0)
            duration_s = max(duration_s, first_seen_s + (BOUNDARIES - 1) * SLOT_S + AFTER_LAST_BOUNDARY_S)
    scale = min(1.0, duration_s / DEFAULT_S)
    outage, fade, clearance = OUTAGE_S * scale, FADE_S * scale, CLEARANCE_S * scale
    return Plan(
        duration_s=duration_s,
        transfer_s=(max(0.15 * duration_s, min(CALM_S, 0.3 * duration_s)), 0.88 * duration_s),
        outage_s=_within_a_slot(0.40 * duration_s, outage, clearance, first_boundary_s),
        fade_s=_within_a_slot(0.66 * duration_s, fade, clearance, first_boundary_s),
        query_s=0.05 * duration_s,
        inject_s=0.25 * duration_s,
    )


def probe_interval_ns(*rates_bps: int) -> int:
    """Time between two probes, whole ms: 2 ms, or longer where the slower direction would feel that; 0: no limit."""
    slowest_bps = min((rate_bps for rate_bps in rates_bps if rate_bps > 0), default=0)
    if slowest_bps == 0:
        return PROBE_INTERVAL_NS
    light_ms = -(-PROBE_BITS * 1000 // round(PROBE_SHARE * slowest_bps)) if slowest_bps >= 1000 else 1000
    return max(PROBE_INTERVAL_NS, min(light_ms, 1000) * NS_PER_MS)


def _within_a_slot(
    wanted_s: float, length_s: float, clear_s: float, first_boundary_s: float | None
) -> tuple[float, float]:
    """(start, end) as near to `wanted_s` as a slot lets it be, `clear_s` from its ends."""
    start_s = wanted_s
    if first_boundary_s is not None:
        slot_s = first_boundary_s + (wanted_s - first_boundary_s) // SLOT_S * SLOT_S
        start_s = min(max(wanted_s, slot_s + clear_s), slot_s + SLOT_S - clear_s - length_s)
    return start_s, start_s + length_s


def next_contact(scenario: Scenario, utc_ns: int, least_s: float) -> Contact:
    """The next contact of a spacecraft with a station that begins after `utc_ns` and lasts so long.

    Raises CoverageError if none does within ten days, and what planning the scenario raises.
    """
    from emulator.timeline.build import windows_for

    windows = windows_for(scenario, epoch_utc_ns=utc_ns)
    for begin_ns in range(utc_ns, utc_ns + CONTACT_WITHIN_NS, CONTACT_STEP_NS):
        end_ns = begin_ns + CONTACT_STEP_NS + round(least_s * NS_PER_S)
        for contact in windows.contacts(begin_ns, end_ns):
            if contact.start_ns > begin_ns and contact.end_ns - contact.start_ns >= least_s * NS_PER_S:
                return contact
    name = scenario.name or "scenario"
    raise CoverageError(f"{name}: expected a contact of {least_s:g} s or more within 10 days, found none: --duration")
