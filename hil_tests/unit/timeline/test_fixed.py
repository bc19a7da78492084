"""A link without a sky is what its file says, in every window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.radio.modcod import HIGHEST_CN_CENTIDB, efficiency_by_cn, row_of_cn
from emulator.scenario.links import FixedDirection, FixedLink
from emulator.scenario.model import Scenario
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Gate
from emulator.timeline.model import LOSS_ONE

TIMES = st.integers(0, 4 * 10**18)
MILLISECONDS = st.floats(0, 60_000)


@given(TIMES, st.integers(1, 10**12), MILLISECONDS, st.floats(0, 1e5), st.floats(0, 1), MILLISECONDS)
def test_every_window_says_what_the_file_says(
    start_ns: int, length_ns: int, delay_ms: float, rate_mbps: float, loss: float, jitter_ms: float
) -> None:
    link = FixedLink(delay_ms=delay_ms, rate_mbps=rate_mbps, loss=loss, jitter_ms=jitter_ms)
    timeline = windows_for(Scenario(link=link), epoch_utc_ns=0).window(start_ns, start_ns + length_ns)
    for channel in (timeline.uplink, timeline.downlink):
        state = channel.at(start_ns + length_ns - 1)
        assert abs(state.delay_ns - delay_ms * 1e6) <= 0.5
        assert abs(state.rate_bps - rate_mbps * 1e6) <= (0.5 if rate_mbps * 1e6 > 1 else 1)
        assert (state.rate_bps == 0) == (rate_mbps == 0), "0 stands for no limit"
        assert abs(state.loss - loss) <= 1 / LOSS_ONE
        assert state.gate is Gate.PASS
        assert abs(int(channel.jitter_ns[0]) - jitter_ms * 1e6) <= 0.5
    assert timeline.next_handover_ns(start_ns) is None


def test_a_direction_may_have_its_own() -> None:
    own = FixedDirection(delay_ms=5, rate_mbps=0, loss=0.5, jitter_ms=1)
    link = FixedLink(delay_ms=20, rate_mbps=100, loss=0.1, uplink=own)
    timeline = windows_for(Scenario(link=link), epoch_utc_ns=0).window(0, 1)
    up, down = timeline.uplink.at(0), timeline.downlink.at(0)
    assert (up.delay_ns, up.rate_bps, up.loss) == (5_000_000, 0, 0.5)
    assert (down.delay_ns, down.rate_bps) == (20_000_000, 100_000_000)


def test_a_fade_has_something_to_take_away() -> None:
    timeline = windows_for(Scenario(link=FixedLink()), epoch_utc_ns=0).window(0, 1)
    cn, table = int(timeline.uplink.cn_centidb[0]), efficiency_by_cn()
    assert cn == HIGHEST_CN_CENTIDB
    assert table[row_of_cn(cn)] > table[row_of_cn(cn - 100)]
    assert table[row_of_cn(cn - 2000)] == 0
