"""Plans that an operator has a hand in: a satellite or a gateway that is pinned, a handover that is forced."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from emulator.errors import EmulationError
from emulator.serving.pins import Pin
from emulator.timeline.model import Windows
from emulator.timeline.sky import Phase, SkyWindows
from emulator.timeline.splice import SplicedWindows
from emulator.units import NS_PER_S


def pinned(windows: Windows, satellite: str | None = None, gateway: str | None = None) -> Windows:
    """The plan in which none but these serve, by name; where they cannot, nobody does. None: as the policy likes.

    Raises EmulationError for a name that the link does not know, or a link that has no choice.
    """
    if satellite is None and gateway is None:
        return windows
    sky = _sky(windows)
    return sky.steered(
        Pin(_index(sky.satellites, satellite, "satellite"), _index(sky.gateways, gateway, "gateway")), ()
    )


def serving(windows: Windows, utc_ns: int) -> tuple[str, str]:
    """Satellite and gateway at an instant, empty for none."""
    timeline = windows.window(utc_ns, utc_ns + NS_PER_S)
    row = timeline.path.row_at(utc_ns)
    satellite, gateway = int(timeline.path.satellite[row]), int(timeline.path.gateway[row])
    return (
        timeline.satellites[satellite] if satellite >= 0 else "",
        timeline.gateways[gateway] if gateway >= 0 else "",
    )


def handed_over(windows: Windows, at_ns: int, until_ns: int, satellite: str | None = None) -> Windows:
    """The plan in which another satellite (or this one) serves from at_ns, and the old plan goes on from until_ns.

    What the handover at until_ns does is in it, what that at at_ns does is not: a plan may be put into force at once.
    Raises EmulationError if no other satellite can serve then.
    """
    sky = _sky(windows)
    now = serving(windows, at_ns)[0]
    if satellite is None:
        wanted = Pin(gateway=sky.pin.gateway, without=_index(sky.satellites, now or None, "satellite"))
    else:
        wanted = Pin(_index(sky.satellites, satellite, "satellite"), sky.pin.gateway)
    other = sky.steered(wanted, ())
    found = serving(other, at_ns)[0]
    if not found:
        raise EmulationError(f"handover: {satellite or 'no other satellite'} cannot serve the terminal now")
    if found == now:
        raise EmulationError(f"handover: {now} serves the terminal already")
    changes = serving(other, until_ns - 1)[0] != serving(windows, until_ns)[0]
    back: Sequence[Phase] = sky.handover_phases(until_ns) if changes else ()
    return SplicedWindows(other, until_ns, sky.steered(sky.pin, back))


def what_a_handover_does(windows: Windows, at_ns: int) -> list[Phase]:
    """When the gate is not open because of a change of satellite at at_ns."""
    while isinstance(windows, SplicedWindows):
        windows = windows.before
    return windows.handover_phases(at_ns) if isinstance(windows, SkyWindows) else []


def _sky(windows: Windows) -> SkyWindows:
    if not isinstance(windows, SkyWindows):
        raise EmulationError("this link has no choice of satellites or gateways")
    return windows


def _index(names: tuple[str, ...], name: str | None, what: str) -> int | None:
    if name is None:
        return None
    try:
        return names.index(name)
    except ValueError:
        close = ", ".join(difflib.get_close_matches(name, names, 3, 0.4))
        hint = f"; did you mean {close}?" if close else ""
        raise EmulationError(f"{what} {name!r}: this link has none of that name{hint}") from None
