"""The list of satellites in view does not depend on how it is cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.orbit.look import look
from emulator.orbit.propagate import Propagator
from emulator.orbit.site import Site
from emulator.orbit.view import views
from emulator.orbit.walker import generate
from emulator.scenario.model import Shell, Terminal
from emulator.units import NS_PER_S, parse_utc_ns

PROPAGATOR = Propagator(
    generate([Shell(name="a", altitude_km=550, inclination_deg=53, planes=20, satellites_per_plane=15)])
)
MASKS = np.where(np.arange(300) % 2, 25.0, 10.0)
SITE = Site(Terminal(latitude_deg=48.5, longitude_deg=-123.3, altitude_m=20))


@given(start_s=st.integers(0, 10_000_000), steps=st.integers(1, 150), step_s=st.sampled_from([1, 7, 61, 600]))
@settings(max_examples=25)
def test_views_hold_all_that_stands_above_its_mask_in_order(start_s: int, steps: int, step_s: int) -> None:
    start_ns = parse_utc_ns("2025-10-01T00:00:00Z") + start_s * NS_PER_S
    step_ns = step_s * NS_PER_S
    end_ns = start_ns + steps * step_ns
    found = [
        (int(at), int(who))
        for view in views(PROPAGATOR, SITE, MASKS, start_ns, end_ns, step_ns)
        for at, who in zip(view.utc_ns, view.satellite, strict=True)
    ]
    times = start_ns + np.arange(steps, dtype=np.int64) * step_ns
    elevation = look(SITE.start, PROPAGATOR.positions_m(times)).elevation_deg
    who, at = np.nonzero(elevation >= MASKS[:, np.newaxis])
    assert found == sorted((int(times[when]), int(one)) for when, one in zip(at, who, strict=True))
