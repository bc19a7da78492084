"""A link at a glance: what holds as each of its stretches begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator.timeline.model import Channel, Floats, Ints
from emulator.timeline.sky import SkyWindows
from emulator.timeline.table import Table, cause_names, delay_at, gate_names, rows_at
from emulator.units import NS_PER_MS


@dataclass(frozen=True)
class Overview:
    """Columns of equal length (stretches,).

    satellite, gateway: indices into the run's, −1 for none; angles and ranges are then NaN. delays: one way, without
    queue and jitter. gate, cause: of the worse direction, as if the change of satellite there took no time.
    """

    utc_ns: Ints
    satellite: Ints
    gateway: Ints
    azimuth_deg: Floats
    elevation_deg: Floats
    slant_range_m: Floats
    uplink_delay_ns: Ints
    downlink_delay_ns: Ints
    uplink_bps: Ints
    downlink_bps: Ints
    gate: Ints
    cause: Ints

    def table(self, satellites: Sequence[str], gateways: Sequence[str]) -> Table:
        """The columns as `bentpipe plan` names them; `satellites`, `gateways`: the run's names.

        Where nobody serves, delays and rates are NaN: no packet has them.
        """
        served = self.satellite >= 0

        def known(values: Ints, unit: float) -> Floats:
            return np.where(served, values / unit, np.nan)

        return {
            "utc": self.utc_ns.astype("datetime64[ns]"),
            "satellite": np.array(["" if one < 0 else satellites[one] for one in self.satellite.tolist()]),
            "gateway": np.array(["" if one < 0 else gateways[one] for one in self.gateway.tolist()]),
            "azimuth_deg": self.azimuth_deg,
            "elevation_deg": self.elevation_deg,
            "slant_range_m": self.slant_range_m,
            "uplink_delay_ms": known(self.uplink_delay_ns, NS_PER_MS),
            "downlink_delay_ms": known(self.downlink_delay_ns, NS_PER_MS),
            "uplink_rate_mbps": known(self.uplink_bps, 1e6),
            "downlink_rate_mbps": known(self.downlink_bps, 1e6),
            "gate": gate_names(self.gate),
            "cause": cause_names(self.cause),
        }


def overview(windows: SkyWindows, start_ns: int, end_ns: int) -> Overview:
    """Of all stretches that begin in [start_ns, end_ns), at least one, read off the Timeline."""
    first, last = windows.stretch_at(start_ns - 1) + 1, windows.stretch_at(end_ns - 1)
    utc_ns = windows.stretch_start_ns(np.arange(first, last + 1, dtype=np.int64))
    timeline = windows.window(start_ns, end_ns)
    path = timeline.path
    row = rows_at(path.start_ns, utc_ns)

    def indices(local: Ints, names: tuple[str, ...], of_run: tuple[str, ...]) -> Ints:
        place = np.array([*(of_run.index(name) for name in names), -1], np.int64)  # −1: the last one, none
        return place[local[row]]

    def at(channel: Channel) -> tuple[Ints, Ints]:
        return delay_at(channel, utc_ns), channel.rate_bps[rows_at(channel.start_ns, utc_ns)]

    satellite = indices(path.satellite, timeline.satellites, windows.satellites)
    cn = [one.cn_centidb[rows_at(one.start_ns, utc_ns)] for one in (timeline.uplink, timeline.downlink)]
    (up_ns, up_bps), (down_ns, down_bps) = at(timeline.uplink), at(timeline.downlink)
    return Overview(
        utc_ns,
        satellite,
        indices(path.gateway, timeline.gateways, windows.gateways),
        path.azimuth_deg[row],
        path.elevation_deg[row],
        path.slant_range_m[row],
        up_ns,
        down_ns,
        up_bps,
        down_bps,
        *windows.steady_gates(utc_ns, satellite >= 0, cn),
    )
