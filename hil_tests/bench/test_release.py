"""A bench that has ended takes no memory: whoever still holds it may ask, and who does not leaves nothing behind."""

from __future__ import annotations

import gc
import weakref

import pytest

from emulator.bench import Bench
from emulator.scenario import load_scenario

pytestmark = pytest.mark.needs("netns", "tun")

KEPT_BYTES = 20 << 20  # the Timeline's rows and the tables, for who asks what the link was


def test_the_packets_memory_goes_with_the_bench_and_the_counters_stay() -> None:
    with Bench(load_scenario("fixed")) as bench:
        while_running = bench.memory_bytes
        before = bench.counters()
    assert bench.memory_bytes < KEPT_BYTES < while_running
    after = bench.counters()
    assert after.downlink.offered_packets >= before.downlink.offered_packets
    assert bench.state().downlink.rate_bps == 10**8


def test_nothing_of_a_bench_waits_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        with Bench(load_scenario("fixed")) as bench:
            gone = weakref.ref(bench)
        del bench
        assert gone() is None
    finally:
        gc.enable()
