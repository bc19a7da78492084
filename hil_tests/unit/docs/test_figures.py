"""Figures that pages quote from the code are the code's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator.bench.runtime import ADDRESSES
from emulator.cli.shell import SERVER_PATIENCE_S
from emulator.link.link import LinkOptions
from emulator.link.state import OVERLAY_ROWS
from emulator.link.store import LARGEST_SUPER
from emulator.ports import assembly, batch, clocks, end_loop, link_loop, messages, stamp_ring, turn
from emulator.scenario import load_scenario
from hil_tests.unit.docs.pages import CHECKOUT


def quoted() -> Iterator[tuple[str, str]]:
    """(page, words that must stand in it)."""
    lag_ms = clocks.LAG_NS / 1e6
    yield "limits.md", f"sleeps to {turn.WAKE_LATEST_NS // 1000}–{turn.WAKE_EARLIEST_NS // 1000} µs before"
    yield "limits.md", f"packets of less than {stamp_ring.LEAST_BYTES} bytes"
    yield "decisions/arrival_stamps.md", f"packets of less than {stamp_ring.LEAST_BYTES} bytes"
    yield "limits.md", f"up to {lag_ms:g} ms behind the clock"
    yield "limits.md", f"at most {assembly.MOST_MEMORY_BYTES >> 20} MiB and {assembly.MOST_FLIGHT_PACKETS:,} packets"
    yield "limits.md", f"At 300 ms that is {assembly.MOST_MEMORY_BYTES * 8 / 0.3e9:.0f} Gbit/s"
    yield "limits.md", f"drawn anew every {LinkOptions().jitter_bin_ns / 1e6:g} ms"
    yield "limits.md", f"At most {OVERLAY_ROWS} timed changes"
    assert SERVER_PATIENCE_S == 1.0
    yield "limits.md", "one second to listen"
    yield "reference/packets.md", f"at most {batch.MOST_RECORDS} records and {batch.BATCH_WORDS * 8 >> 20} MiB"
    yield "reference/packets.md", f"`0x{messages.MAGIC:012X}`"
    yield "reference/packets.md", f"in bytes, at most {LARGEST_SUPER:,}"
    yield "reference/packets.md", f"At most {end_loop.WINDOW_BYTES >> 20} MiB of batches"
    yield "reference/packets.md", f"until {link_loop.PATIENCE_NS // 10**6} ms after they were due"
    yield "reference/packets.md", f"up to {lag_ms:g} ms behind the clock"
    yield "reference/packets.md", f"at most {clocks.FLUSH_NS / 1e6:g} ms"
    yield "decisions/zeromq_fabric.md", f"up to {lag_ms:g} ms behind the clock"
    yield "decisions/addresses.md", f"{ADDRESSES:,} are used"
    ports = load_scenario("fixed").ports
    yield "decisions/addresses.md", f"a /30 of {ports.ipv4_network} and a /64 of {ports.ipv6_network}"


@pytest.mark.parametrize(("page", "words"), list(quoted()))
def test_a_figure_is_the_code_s(page: str, words: str) -> None:
    text = " ".join((CHECKOUT / "docs" / page).read_text(encoding="utf-8").split())
    assert words in text, f"docs/{page} does not say: {words}"
