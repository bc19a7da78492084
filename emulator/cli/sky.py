"""`bentpipe sky`: the satellites in view of the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.cli.options import (
    duration_option,
    elements_option,
    output_option,
    parse_duration_ns,
    scenario_options,
    start_option,
)
from emulator.cli.progress import progress, working
from emulator.errors import ScenarioError
from emulator.output import output_file
from emulator.scenario.model import Scenario
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.orbit.view import View

WITHOUT_A_SKY = {
    "fixed": "it is constant",
    "trace": "it follows a file",
    "ground_station": "`bentpipe plan` lists its contacts",
}
LONGEST_PLOT_NS = 6 * 3600 * NS_PER_S
HEADER = b"utc,satellite,azimuth_deg,elevation_deg,slant_range_m\n"


def _read_step(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return parse_duration_ns(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command()
@scenario_options()
@start_option
@duration_option("1s", help_text="How long, from the start on: 1s is one instant, 10m, 24h.")
@click.option(
    "--step",
    "step_ns",
    callback=_read_step,
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="Time between two lists.",
)
@elements_option
@output_option("the list")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw the sky with its obstructions, and who serves, on a map too (.png, .svg or .pdf).",
)
def sky(
    scenario: Scenario,
    start_utc_ns: int | None,
    duration_ns: int,
    step_ns: int,
    elements: Path | None,
    output: Path | None,
    plot: Path | None,
) -> None:
    """List the satellites in view of the terminal at each step, as CSV.

    In view is what stands above the elevation mask: the terminal's own if the scenario has one, else each shell's.
    """
    if scenario.terminal is None or scenario.link.profile in WITHOUT_A_SKY:
        name, profile = scenario.name or "scenario", scenario.link.profile
        others = [path.scenario for path in scenario.paths if path.scenario]
        hint = f"; {WITHOUT_A_SKY[profile]}" if profile in WITHOUT_A_SKY else ""
        hint += f"; its other paths: {', '.join(others)}" if others else ""
        raise ScenarioError(
            [f"{name}: link.profile: expected one with a sky, such as 'starlink', got {profile!r}{hint}"]
        )
    if plot is not None:
        from emulator.timeline.plot import require_format

        require_format(plot)
        if duration_ns > LONGEST_PLOT_NS:
            raise click.UsageError(
                f"--plot: expected at most {LONGEST_PLOT_NS // NS_PER_S} s, got more: dots would cover each other"
            )
    start_ns = int(time.time()) * NS_PER_S if start_utc_ns is None else start_utc_ns
    with working("reading elements"):
        names, looks = _looks(scenario, elements, start_ns, start_ns + duration_ns, step_ns)
    sightings = 0
    seen: list[View] = []
    with (
        output_file(output) as file,
        progress("propagating", duration_ns, quiet=output is None and sys.stdout.isatty()) as advance,
    ):
        file.write(HEADER)
        for view in looks:
            file.write("".join(_lines(view, names)).encode())
            sightings += len(view.utc_ns)
            if plot is not None:
                seen.append(view)
            if len(view.utc_ns):
                advance(int(view.utc_ns[-1]) - start_ns)
    if plot is not None:
        from emulator.timeline.build import windows_for
        from emulator.timeline.sky import SkyWindows
        from emulator.timeline.skyplot import draw

        with working("drawing"), output_file(plot) as file:
            windows = windows_for(scenario, elements=elements, epoch_utc_ns=start_ns)
            timeline = windows.window(start_ns, start_ns + duration_ns)
            over = {"over_m": windows.over_m} if isinstance(windows, SkyWindows) else {}
            draw(file, file_format=plot.suffix[1:], scenario=scenario, views=seen, timeline=timeline, **over)
    if sightings == 0:
        behind = " or all that do are behind terminal.horizon" if scenario.terminal.horizon else ""
        told = f"none of {len(names)} satellites stands above its mask in that time{behind}"
        click.echo(f"bentpipe: {told}", err=True)


def _looks(
    scenario: Scenario, elements: Path | None, start_ns: int, end_ns: int, step_ns: int
) -> tuple[Sequence[str], Iterator[View]]:
    """The satellites' names, and who of them is in view. Says on stderr which elements were left out."""
    from emulator.orbit.propagate import Propagator
    from emulator.orbit.site import Site
    from emulator.orbit.source import satellites_of
    from emulator.orbit.view import views
    from emulator.serving.stations import masks_deg

    if scenario.terminal is None or scenario.constellation is None:
        from emulator.timeline.build import windows_for
        from emulator.timeline.geo import GeoWindows

        geo = windows_for(scenario, elements=elements, epoch_utc_ns=start_ns)
        assert isinstance(geo, GeoWindows)  # all others with a terminal have a constellation
        return geo.satellites, geo.policy.views(start_ns, end_ns, step_ns)
    satellites, notes = satellites_of(scenario, elements=elements, epoch_utc_ns=start_ns)
    for note in notes:
        click.echo(f"bentpipe: {note}", err=True)
    masks = masks_deg(satellites, scenario.constellation, scenario.terminal)
    site = Site(scenario.terminal)
    site.require_track_at(start_ns)
    return satellites.names, views(Propagator(satellites), site, masks, start_ns, end_ns, step_ns)


def _lines(view: View, names: Sequence[str]) -> Iterator[str]:
    from emulator.timeline.table import quoted, utc_text

    utc_ns, text = -1, ""
    for at_ns, satellite, azimuth, elevation, slant_range in zip(
        view.utc_ns.tolist(),
        view.satellite.tolist(),
        view.azimuth_deg.tolist(),
        view.elevation_deg.tolist(),
        view.slant_range_m.tolist(),
        strict=True,
    ):
        if at_ns != utc_ns:
            utc_ns, text = at_ns, utc_text(at_ns)
        yield f"{text},{quoted(names[satellite])},{azimuth:.4f},{elevation:.4f},{slant_range:.2f}\n"
