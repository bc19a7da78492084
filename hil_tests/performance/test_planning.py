"""How long planning takes, in seconds of a core (of the wall, a busy machine would fail it), and how much memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from emulator.orbit.elements import load_elements
from emulator.orbit.propagate import Propagator, SharedPropagator
from emulator.orbit.satellites import Satellites
from emulator.orbit.walker import generate
from emulator.scenario import load_scenario
from emulator.scenario.model import Shell, Terminal
from emulator.serving.isl import Grid
from emulator.serving.starlink import StarlinkPolicy
from emulator.serving.stations import GroundStation, masks_deg
from emulator.timeline.build import windows_for
from emulator.timeline.draws import Purpose, Way, draw32
from emulator.units import NS_PER_S, parse_utc_ns

START_NS = parse_utc_ns("2025-10-03T10:00:12Z")
PHASE_NS = 12 * NS_PER_S
SLOTS_PER_HOUR = 240


@pytest.fixture(scope="module")
def catalogue(reference_data: Path) -> Path:
    return reference_data / "elements" / "active_2025-10-03.tle"


@pytest.fixture(scope="module")
def satellites(catalogue: Path) -> Satellites:
    return load_elements(catalogue, epoch_utc_ns=START_NS, max_age_days=14, names="STARLINK*").satellites


def policy_at(terminal: Terminal, satellites: Satellites, shared: SharedPropagator | None, seed: int) -> StarlinkPolicy:
    scenario = load_scenario("starlink_2025")
    assert scenario.constellation is not None
    assert scenario.pop is not None
    stations = [GroundStation.of(gateway, scenario.pop, 1.3) for gateway in scenario.gateways]

    def draw(slot: int) -> int:
        return int(draw32(seed, Way.BOTH, Purpose.SERVING, np.array([slot]))[0])

    masks = MASKS.setdefault(id(satellites), masks_deg(satellites, scenario.constellation, terminal))
    propagator = shared or Propagator(satellites)
    return StarlinkPolicy(propagator, masks, terminal, stations, PHASE_NS, draw, gso_exclusion_deg=18.0)


MASKS: dict[int, np.ndarray] = {}  # one array for all terminals, so that what follows from it is worked out once


def somewhere(number: int) -> Terminal:
    random = np.random.default_rng(number)
    return Terminal(latitude_deg=random.uniform(44, 51), longitude_deg=random.uniform(-125, -115))


def test_a_shared_sky_serves_as_a_sky_of_ones_own(satellites: Satellites) -> None:
    shared = SharedPropagator(satellites)
    for number in range(3):
        together = policy_at(somewhere(number), satellites, shared, number)
        alone = policy_at(somewhere(number), satellites, None, number)
        first = together.slot_at(START_NS)
        assert [together.serving(slot) for slot in range(first, first + 12)] == [
            alone.serving(slot) for slot in range(first, first + 12)
        ]


def test_the_next_minute_of_a_live_run_takes_two_per_cent_of_a_core_at_most(catalogue: Path) -> None:
    windows = windows_for(load_scenario("starlink_2025"), elements=catalogue, epoch_utc_ns=START_NS)
    windows.window(START_NS, START_NS + 60 * NS_PER_S)
    began = time.process_time()
    for minute in range(1, 11):
        windows.window(START_NS + minute * 60 * NS_PER_S, START_NS + (minute + 1) * 60 * NS_PER_S)
    share = (time.process_time() - began) / 600
    print(f"the windows of a live run: {100 * share:.3f} % of a core")
    assert share < 0.02


def test_ways_over_links_between_1584_satellites_take_20_ms_a_slot_at_most() -> None:
    shells = (Shell(name="53-550", altitude_km=550.0, inclination_deg=53.0, planes=72, satellites_per_plane=22),)
    satellites = generate(shells)
    assert len(satellites) == 1584
    grid, propagator = Grid(satellites, shells), Propagator(satellites)
    feeder_m = np.full(len(satellites), np.inf)
    feeder_m[7] = 1e6
    began = time.process_time()
    for slot in range(20):
        total, _ = grid.ways_m(propagator.positions_m(np.array([START_NS + slot * 15 * NS_PER_S]))[:, 0], feeder_m)
        assert np.isfinite(total).all()
    took_s = (time.process_time() - began) / 20
    print(f"ways over links between 1,584 satellites: {1000 * took_s:.1f} ms of a core a slot")
    assert took_s < 0.020


@pytest.mark.long
def test_a_day_of_slots_of_all_starlinks_takes_ten_seconds_and_300_mb_at_most(catalogue: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from emulator.scenario import load_scenario\n"
        "from emulator.timeline.build import windows_for\n"
        "start = int(sys.argv[2]); began = time.process_time()\n"
        "windows = windows_for(load_scenario('starlink_2025'), elements=Path(sys.argv[1]), epoch_utc_ns=start)\n"
        "loaded = time.process_time(); policy = windows.policy; first = policy.slot_at(start)\n"
        "assert all(policy.serving(slot).satellite >= 0 for slot in range(first, first + 24 * 240))\n"
        "took = loaded - began, time.process_time() - loaded\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(*took, peak.split()[1])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(catalogue), str(START_NS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    loading_s, slots_s, peak_kb = map(float, result.stdout.split())  # not ru_maxrss, which is the parent's as well
    peak_mb = peak_kb / 1024
    print(f"loading {loading_s:.1f} s, a day of slots {slots_s:.1f} s of a core, peak {peak_mb:.0f} MB")
    assert loading_s + slots_s < 10
    assert peak_mb < 300


@pytest.mark.long
@pytest.mark.timeout(900)  # of the wall, where others work too
def test_an_hour_of_a_thousand_terminals_takes_a_minute_of_two_cores_at_most(catalogue: Path, tmp_path: Path) -> None:
    """As the user does it, reading the elements and writing 240,000 rows; two processes, each a core."""
    random = np.random.default_rng(1)
    places = zip(random.uniform(44, 51, 1000), random.uniform(-125, -115, 1000), strict=True)
    lines = [f"{latitude:.4f},{longitude:.4f}\n" for latitude, longitude in places]
    (tmp_path / "terminals.csv").write_text("latitude_deg,longitude_deg\n" + "".join(lines))
    command = [sys.executable, "-m", "emulator.cli.main", "fleet", "starlink_2025", str(tmp_path / "terminals.csv")]
    command += ["--jobs", "2", "--start", "2025-10-03T10:00:12Z", "--elements", str(catalogue)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "fleet.csv")], capture_output=True, text=True, check=True, timeout=800
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"1,000 terminals, an hour: {took_s:.1f} s of a core; {done.stderr.splitlines()[-1]}")
    rows = (tmp_path / "fleet.csv").read_text().splitlines()[1:]
    assert len(rows) == 1000 * SLOTS_PER_HOUR
    assert sum(",," not in row for row in rows) > 0.9 * len(rows)
    assert took_s < 2 * 60
