"""A plan under an overlay says what the packet path will see."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from emulator.link.link import Change, LinkOptions
from emulator.ports.planned_overlay import overlaid_channel
from emulator.radio.modcod import DVB_S2, EFFICIENCY_ZERO, efficiency_by_cn
from emulator.timeline.model import Channel
from hil_tests.unit.link.driver import new_link
from hil_tests.unit.link.strategies import S, changes, channels

FADING = LinkOptions(
    memory_bytes=1 << 20, flight_packets=256, efficiency=efficiency_by_cn(), efficiency_zero=EFFICIENCY_ZERO
)


@given(channels(), changes())
def test_a_channel_under_changes_is_the_links(channel: Channel, overlay: list[Change]) -> None:
    slope = channel.delay_slope_ns_per_s.copy()
    slope[-1] = max(0, slope[-1])  # the last row goes on for longer than a delay may fall
    channel = replace(channel, delay_slope_ns_per_s=slope)
    link = new_link(channel, FADING, changes=overlay)
    planned = overlaid_channel(channel, overlay, DVB_S2, 10 * S)
    edges = {edge for change in overlay for edge in (change.start_ns, change.end_ns)} | set(channel.start_ns.tolist())
    for edge in edges:
        for at in (edge - 1, edge, edge + 1):
            if channel.start_ns[0] <= at < 10 * S:
                seen, said = link.channel_at(at), planned.at(at)
                assert (seen.gate, seen.cause, seen.rate_bps, seen.loss) == (
                    said.gate, said.cause, said.rate_bps, said.loss
                )  # fmt: skip
                assert abs(seen.delay_ns - said.delay_ns) <= 1  # a row that is cut in two is rounded twice
