"""Draws the pictures of docs/field/ from what the tests of hil_tests/bench/ have measured.

    mkdir measured
    BENTPIPE_MEASURED=measured tools/with report test -- pytest -m long hil_tests/bench/test_voice.py
    tools/with report -- python tools/field_plots.py measured docs/pictures

Every file that is there is drawn: replication, web, vpn, voice, contact, last_resort.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

SIZE_INCHES, DPI = (8, 4.6), 130
LOST = {"alpha": 0.12, "color": "tab:red"}
CHANGE: dict[str, Any] = {"color": "grey", "linewidth": 0.8, "linestyle": ":"}


def panels(count: int) -> tuple[Any, list[Any]]:
    figure, axes = plt.subplots(count, 1, figsize=SIZE_INCHES, layout="constrained", sharex=True, squeeze=False)
    for one in axes[:, 0]:
        one.grid(alpha=0.3)
    return figure, list(axes[:, 0])


def replication(told: dict[str, Any]) -> Any:
    figure, (upper, lower) = panels(2)
    upper.plot(*zip(*told["lag"], strict=True), color="tab:purple")
    upper.set(ylabel="standby behind, s", ylim=(0, None))
    times = [row[0] for row in told["sizes"]]
    for number, name in ((1, "curl, downlink"), (2, "rsync, uplink")):
        lower.plot(
            times, [row[number] / 1e6 for row in told["sizes"]], label=f"{name}: {told['tries'][number - 1]} tries"
        )
    lower.set(ylabel="MB there", xlabel="seconds since the bench began", ylim=(0, None))
    for axes in (upper, lower):
        axes.axvspan(*told["outage"], label="outage", **LOST)
        axes.axvline(told["new_address"], label="new public address", **CHANGE)
    lower.legend(frameon=False)
    upper.set_title("replication: PostgreSQL streaming, rsync and curl")
    return figure


def web(told: dict[str, Any]) -> Any:
    figure, (axes,) = panels(1)
    steps = {
        "namelookup": "name (DNS)", "connect": "connected (QUIC: and encrypted)", "appconnect": "encrypted (TLS)",
        "starttransfer": "first byte", "total": "last byte",
    }  # fmt: skip
    rows = [(server, way) for server in told["took"]["split"] for way in ("end to end", "split")]
    left = [0.0] * len(rows)
    for step, label in steps.items():
        until = [told["took"][way][server][f"time_{step}"] for server, way in rows]
        widths = [max(0.0, end - begin) for begin, end in zip(left, until, strict=True)]
        axes.barh(range(len(rows)), widths, left=left, label=label, height=0.7)
        left = until
    for number, end in enumerate(left):
        axes.text(end + 0.05, number, f"{end:.1f} s", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [f"{server}, {way}" for server, way in rows])
    axes.invert_yaxis()
    axes.set(xlabel="seconds since the request", xlim=(0, max(left) * 1.12))
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    axes.set_title(f"web: a page of {told['size'] / 1e6:g} MB over a geostationary satellite")
    return figure


def vpn(told: dict[str, Any]) -> Any:
    figure, (axes,) = panels(1)
    for name, label in (("beside", "connection beside the tunnel"), ("inside", "connection inside the tunnel")):
        points = told["round_trips"][name]
        axes.plot([at for at, _ in points], [1000 * seconds for _, seconds in points], ".", markersize=4, label=label)
    lost = told["round_trips"]["beside"][-1]
    axes.annotate("reset", (lost[0], 1000 * lost[1]), (8, 14), textcoords="offset points", color="tab:blue")
    for number, at in enumerate(told["changes"]):
        axes.axvline(at, label="" if number else "new public address", **CHANGE)
    axes.set(xlabel="seconds since the bench began", ylabel="round trip, ms", ylim=(0, None))
    axes.set_title("vpn: WireGuard follows to another public address")
    axes.legend(frameon=False)
    return figure


def voice(told: dict[str, Any]) -> Any:
    figure, axes = panels(len(told["spoken"]))
    for one, (path, spoken) in zip(axes, told["spoken"].items(), strict=True):
        came = [(at, 1000 * trip) for at, trip in spoken if trip is not None]
        lost = [at for at, trip in spoken if trip is None]
        one.plot(*zip(*came, strict=True), ".", markersize=2, color="tab:blue")
        low, high = one.get_ylim()
        one.plot(lost, [low] * len(lost), "|", color="tab:red", markersize=10)
        setup = sorted(told["setups"][path])
        share = len(lost) / len(spoken)
        one.set_title(
            f"{path}: {share:.2%} lost; calls set up in {setup[len(setup) // 2]:.0f} ms, at most {setup[-1]:.0f}",
            fontsize=10, loc="left",
        )  # fmt: skip
        one.set(ylabel="round trip, ms", ylim=(low, high))
        if path == "leo":
            for at in told["handovers"]:
                one.axvline(at, **CHANGE)
    axes[-1].set(xlabel="seconds since the bench began; dotted: another satellite; red: lost")
    return figure


def contact(told: dict[str, Any]) -> Any:
    figure, (upper, lower) = panels(2)
    ends_s, between_s, stations = told["first_ends_s"], told["between_s"], told["stations"]
    cut = [max(0.0, between_s - 12.0)]  # of the hours between the passes
    seen = [(at if at < ends_s + 10 else at - cut[0], size / 1e6, count) for at, size, count in told["seen"]]
    times = [at for at, _, _ in seen]
    upper.plot(times, [size for _, size, _ in seen])
    upper.axhline(told["size"] / 1e6, **CHANGE)
    upper.set(ylabel="MB by TCP", ylim=(0, None))
    lower.plot(times, [count for _, _, count in seen], color="tab:orange")
    lower.set(ylabel="datagrams by UDP", ylim=(0, None))
    lower.set(xlabel=f"simulated seconds; {between_s / 60:.0f} minutes between the contacts are left out")
    for axes in (upper, lower):
        axes.axvspan(ends_s, ends_s + 12, label="no contact", **LOST)
    upper.set_title(f"ground_station_contact: loss of signal at {stations[0]}, the next pass at {stations[1]}")
    lower.legend(frameon=False)
    return figure


def last_resort(told: dict[str, Any]) -> Any:
    figure, (axes,) = panels(1)
    colours = {"fibre": "tab:green", "leo": "tab:blue", "iridium": "tab:orange"}
    rows = {"iridium": 0, "leo": 1, "fibre": 2}
    for way, (begin, end) in told["cuts"].items():
        axes.barh(rows[way], end - begin, left=begin, height=0.8, **LOST)
    for begun, done, way, numbers in told["sent"]:
        axes.barh(rows[way], max(done - begun, 0.15), left=begun, height=0.5, color=colours[way])
        if way == "iridium":
            axes.text((begun + done) / 2, rows[way], f"{len(numbers)}", ha="center", va="center", color="white")
    axes.set_yticks(list(rows.values()), ["Iridium message\n(reports in it)", "Starlink", "fibre"])
    axes.set(xlabel="seconds since the bench began; red: down", xlim=(0, told["sent"][-1][1] + 1))
    axes.set_title("last_resort: which way a report a second takes, until it is acknowledged")
    return figure


DRAWN: dict[str, Callable[[dict[str, Any]], Any]] = {
    one.__name__: one for one in (replication, web, vpn, voice, contact, last_resort)
}


def main(measured: Path, pictures: Path) -> None:
    for name, draw in DRAWN.items():
        file = measured / f"{name}.json"
        if file.exists():
            draw(json.loads(file.read_text())).savefig(pictures / f"{name}.png", dpi=DPI)
            print(pictures / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
