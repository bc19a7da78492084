"""The live view of a link: what serves it, what it is told to do, what it carries; from its state and counters alone.

On a terminal a panel, renewed four times a second; elsewhere a line per second. Both go to stderr: stdout is data.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from emulator.cli.console import console_for
from emulator.testing.record import CAUSE_WORDS
from emulator.timeline.causes import Cause, Gate
from emulator.units import NS_PER_MS, NS_PER_S, format_utc

if TYPE_CHECKING:
    from emulator.bench import Bench, Counters, LinkState
    from emulator.link.link import DirectionCounters
    from emulator.scenario.model import Scenario
    from emulator.timeline.model import ChannelState

REFRESH_HZ = 4.0
REFRESH_NS = round(NS_PER_S / REFRESH_HZ)
LINE_NS = NS_PER_S
RATE_OVER_NS = NS_PER_S  # throughput is that of the last second
HISTORY = 240
BARS = "▁▂▃▄▅▆▇█"
SLOT_S = 15.0  # Starlink's global slots (Tanveer et al., arXiv 2307.00402)
SPARKLINE_WIDTH = 36
ECHO_COLUMNS = 2  # of ^C

GATE_WORDS = {Gate.PASS: "open", Gate.HOLD: "holding", Gate.DROP: "shut"}


@dataclass(frozen=True)
class Sample:
    """What the view keeps of a look at the link, per direction (uplink, downlink)."""

    utc_ns: int
    delivered_bytes: tuple[int, int]
    delay_ns: tuple[int, int]


@dataclass(frozen=True)
class _Narrower:
    """Something with ECHO_COLUMNS left free at its right.

    The cursor rests behind its last line. The ^C that a terminal echoes there would otherwise go on to a new line, and
    the next picture would stand one line lower than this one, whose first line stayed.
    """

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(max(1, options.max_width - ECHO_COLUMNS)))


class LiveView:
    """A context; `show` renews it, if it is time: callers may ask more often. `note` adds a line of what happened.

    duration_ns: of the run, for its progress; None if it has no end. Slots are counted down where there are any.
    """

    def __init__(
        self, title: str, scenario: Scenario, *, duration_ns: int | None = None, console: Console | None = None
    ) -> None:
        self.console = console or console_for(stderr=True)
        self._title, self._duration_ns = title, duration_ns
        self._slot_phase_s: float | None = getattr(scenario.link, "slot_phase_s", None)
        self._has_sky = scenario.link.profile not in ("fixed", "trace")
        self._history: deque[Sample] = deque(maxlen=HISTORY)
        self._throughput: deque[tuple[float, float]] = deque(maxlen=HISTORY)
        self._notes: deque[Text] = deque(maxlen=5)
        self._start_ns: int | None = None
        self._line_ns: int | None = None
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=False) if self.console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str, utc_ns: int, style: str = "") -> None:
        """A line of what happened; on a terminal the last few stay in view."""
        line = Text.assemble((f"{_clock(utc_ns)}  ", "dim"), (text, style))
        self._notes.append(line)
        if self._live is None:
            self.console.print(line, soft_wrap=True)

    def show(self, state: LinkState, counters: Counters) -> None:
        """Renew the view, if it is time."""
        if self._start_ns is None:
            self._start_ns = state.utc_ns
        if self._history and abs(state.utc_ns - self._history[-1].utc_ns) < REFRESH_NS * 0.9:
            return
        self._history.append(
            Sample(
                state.utc_ns,
                (counters.uplink.delivered_bytes, counters.downlink.delivered_bytes),
                (state.uplink.delay_ns, state.downlink.delay_ns),
            )
        )
        self._throughput.append(self._throughput_bps())
        if self._live is not None:
            self._live.update(self.render(state, counters), refresh=True)
        elif self._line_ns is None or state.utc_ns - self._line_ns >= LINE_NS:
            self._line_ns = state.utc_ns
            self.console.print(self.line(state, counters), soft_wrap=True)

    def _throughput_bps(self) -> tuple[float, float]:
        newest = self._history[-1]
        oldest = next(sample for sample in self._history if newest.utc_ns - sample.utc_ns <= RATE_OVER_NS)
        span_ns = newest.utc_ns - oldest.utc_ns
        if span_ns <= 0:
            return 0.0, 0.0
        up, down = (8e9 * (newest.delivered_bytes[side] - oldest.delivered_bytes[side]) / span_ns for side in (0, 1))
        return up, down

    def line(self, state: LinkState, counters: Counters) -> Text:
        """The plain line of a moment."""
        served = "no satellite" if self._has_sky else "fixed link"
        if state.satellite:
            served = f"{state.satellite} via {state.gateway}, {state.elevation_deg:.0f}°"
        parts: list[tuple[str, str] | str] = [f"{_clock(state.utc_ns)}  {served}"]
        for name, channel, count, bps in self._directions(state, counters):
            parts += [
                f"  {name} {channel.delay_ns / NS_PER_MS:.1f} ms {_mbps(bps)} of {_rate(channel.rate_bps)}",
                f" dropped {count.dropped_packets}",
            ]
            if channel.gate != Gate.PASS:
                parts.append((f" {_gate(channel)}", "bold red"))
        return Text.assemble(*parts, *(Text.assemble("  ", line) for line in _terminal(state)))

    def _directions(
        self,
        state: LinkState,
        counters: Counters,
    ) -> Iterable[tuple[str, ChannelState, DirectionCounters, float]]:
        up, down = self._throughput[-1] if self._throughput else (0.0, 0.0)
        yield "down", state.downlink, counters.downlink, down
        yield "up", state.uplink, counters.uplink, up

    def render(self, state: LinkState, counters: Counters) -> RenderableType:
        """The panel of a moment."""
        outage = [channel for channel in (state.downlink, state.uplink) if channel.gate != Gate.PASS]
        parts: list[RenderableType] = [
            self._head(state),
            self._sky(state),
            Text(),
            self._table(state, counters),
            self._sparklines(),
            self._drops(counters),
        ]
        if self._notes:
            parts += [Text(), *self._notes]
        return _Narrower(
            Panel(
                Group(*parts),
                title=Text(f" {self._title} ", style="bold"),
                title_align="left",
                border_style="red" if outage else "blue",
                padding=(0, 1),
            )
        )

    def _head(self, state: LinkState) -> RenderableType:
        head = Table.grid(padding=(0, 2), expand=True)
        elapsed_ns = state.utc_ns - (self._start_ns or state.utc_ns)
        clock = Text(f"{format_utc(state.utc_ns, 0).replace('T', ' ').replace('Z', ' UTC')}", style="bold")
        if self._duration_ns is None:
            head.add_row(clock, Text(f"up {_span(elapsed_ns)}", justify="right"))
        else:
            left_ns = max(0, self._duration_ns - elapsed_ns)
            head.add_column()
            head.add_column(ratio=1)
            head.add_column(justify="right")
            head.add_row(
                clock,
                ProgressBar(total=self._duration_ns, completed=min(elapsed_ns, self._duration_ns)),
                f"{_span(left_ns)} left",
            )
        return head

    def _sky(self, state: LinkState) -> RenderableType:
        if not self._has_sky:
            return Text("fixed link: no satellite", style="dim")
        served = Text.assemble(
            ("satellite ", "dim"),
            (state.satellite or "none", "bold" if state.satellite else "bold red"),
            ("   gateway ", "dim"),
            (state.gateway or "none", "bold"),
        )
        look = Text()
        if state.elevation_deg is not None and state.azimuth_deg is not None and state.slant_range_m is not None:
            look = Text.assemble(
                ("elevation ", "dim"),
                f"{state.elevation_deg:4.1f}°",
                ("   azimuth ", "dim"),
                f"{state.azimuth_deg:5.1f}°",
                ("   range ", "dim"),
                f"{state.slant_range_m / 1e3:,.0f} km",
            )
        ahead = Text()
        if self._slot_phase_s is not None:
            left_s = (self._slot_phase_s - state.utc_ns / NS_PER_S) % SLOT_S
            ahead.append("next slot ", "dim").append(f"{left_s:4.1f} s", "bold yellow" if left_s < 1 else "")
        if state.next_handover_ns is not None:
            left_s = (state.next_handover_ns - state.utc_ns) / NS_PER_S
            ahead.append("   next handover ", "dim").append(f"{left_s:4.1f} s", "bold yellow" if left_s < 1 else "")
        return Group(served, look, ahead, *_terminal(state))

    def _table(self, state: LinkState, counters: Counters) -> RenderableType:
        """Directions side by side: fits a terminal of 72 columns."""
        directions = list(self._directions(state, counters))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False)
        table.add_column("", no_wrap=True)
        for name, *_ in directions:
            table.add_column(name, no_wrap=True, min_width=22)
        rows: list[tuple[str, list[RenderableType]]] = [
            (
                "gate",
                [
                    Text(_gate(channel), style="green" if channel.gate == Gate.PASS else "bold red")
                    for _, channel, _, _ in directions
                ],
            ),
            ("delay", [f"{channel.delay_ns / NS_PER_MS:.1f} ms" for _, channel, _, _ in directions]),
            (
                "throughput",
                [_throughput(bps, channel.rate_bps) for _, channel, _, bps in directions],
            ),
            ("loss", [f"{channel.loss:.2%}" for _, channel, _, _ in directions]),
            (
                "queued, flying",
                [f"{count.queued_packets:,}, {count.flying_packets:,} packets" for _, _, count, _ in directions],
            ),
            ("delivered", [f"{count.delivered_packets:,}" for _, _, count, _ in directions]),
            ("dropped", [f"{count.dropped_packets:,}" for _, _, count, _ in directions]),
        ]
        for name, cells in rows:
            table.add_row(Text(name, style="dim"), *cells)
        return table

    def _sparklines(self) -> RenderableType:
        lines = Table.grid(padding=(0, 1))
        delays = [sample.delay_ns[1] / NS_PER_MS for sample in self._history]
        lines.add_row(
            Text("delay down", style="dim"),
            Text(sparkline(delays, zero=False, least_span=1.0), style="cyan"),
            Text(f"{min(delays):.1f}–{max(delays):.1f} ms" if delays else "", style="dim"),
        )
        bits = [down for _, down in self._throughput]
        lines.add_row(
            Text("throughput down", style="dim"),
            Text(sparkline(bits), style="blue"),
            Text(f"0–{_mbps(max(bits, default=0.0))}", style="dim"),
        )
        return lines

    def _drops(self, counters: Counters) -> RenderableType:
        text = Text()
        for cause in Cause:
            down, up = counters.downlink.dropped.get(cause, 0), counters.uplink.dropped.get(cause, 0)
            if down or up:
                text.append(f"{CAUSE_WORDS[cause.name]} ").append(f"{down:,}↓ {up:,}↑   ", "bold")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text("dropped by cause", style="dim"), text or Text("nothing yet", style="dim"))
        return grid


def watch(
    bench: Bench,
    title: str,
    stop: Callable[[], bool],
    *,
    duration_ns: int | None = None,
    console: Console | None = None,
) -> None:
    """Show the live view of a running bench until `stop()` is true or `duration_ns` have passed; Ctrl-C ends it too."""
    ends_ns = None if duration_ns is None else time.monotonic_ns() + duration_ns
    pause = threading.Event()
    with LiveView(title, bench.scenario, duration_ns=duration_ns, console=console) as view:
        while not stop() and (ends_ns is None or time.monotonic_ns() < ends_ns):
            view.show(bench.state(), bench.counters())
            pause.wait(1 / REFRESH_HZ)


def sparkline(
    values: Iterable[float], width: int = SPARKLINE_WIDTH, *, zero: bool = True, least_span: float = 0.0
) -> str:
    """The last `width` values as bars, from zero or from the smallest of them to the largest.

    least_span: a smaller range than this is not blown up to the full height.
    """
    shown = list(values)[-width:]
    if not shown:
        return ""
    low = 0.0 if zero else min(shown)
    span = max(max(shown) - low, least_span)
    if span <= 0:
        return BARS[0] * len(shown)
    return "".join(BARS[min(len(BARS) - 1, max(0, int((value - low) / span * len(BARS))))] for value in shown)


def _clock(utc_ns: int) -> str:
    return format_utc(utc_ns, 1)[11:]


def _terminal(state: LinkState) -> Iterable[Text]:
    """A line for the antenna and one for the dish, where there are any."""
    if (antenna := state.antenna) is not None:
        off = "not known" if antenna.off_deg is None else f"{antenna.off_deg:.2f}°"
        yield Text.assemble(
            ("beam off ", "dim"),
            off,
            ("   loss ", "dim"),
            f"{antenna.receive_loss_db:.1f} dB",
            ("   ", ""),
            ("locked", "green") if antenna.locked else ("no lock", "bold red"),
        )
    if state.dish:
        yield Text.assemble(("dish ", "dim"), (state.dish, "" if state.dish == "tracking" else "bold red"))


def _gate(channel: ChannelState) -> str:
    word = GATE_WORDS[channel.gate]
    return word if channel.gate == Gate.PASS else f"{word}: {CAUSE_WORDS[channel.cause.name]}"


def _mbps(bps: float) -> str:
    return (
        f"{bps / 1e9:.2f} Gbit/s"
        if bps >= 1e9
        else f"{bps / 1e6:.1f} Mbit/s"
        if bps >= 1e5
        else f"{bps / 1e3:.0f} kbit/s"
    )


def _throughput(bps: float, rate_bps: int) -> Text:
    limit = f" of {rate_bps / 1e6:,.1f} Mbit/s" if rate_bps else " Mbit/s, no limit"
    return Text.assemble((f"{bps / 1e6:,.1f}", "bold"), limit)


def _rate(bps: int) -> str:
    return _mbps(bps) if bps else "no limit"


def _span(ns: int) -> str:
    seconds = ns // NS_PER_S
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds % 60:02d}s" if minutes else f"{seconds} s"
