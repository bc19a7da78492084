"""The histogram of lateness: packets by how many µs after their due time they were written; how its values are said."""

from __future__ import annotations

LATENESS_BINS = 10_001  # microseconds; the last one holds all that is later
LATEST_US = LATENESS_BINS - 1


def lateness_in_words(us: int) -> str:
    """`12 µs`, from the last bin on `10 ms or more`: by how much more nobody counts."""
    return f"{us} µs" if us < LATEST_US else f"{LATEST_US / 1000:g} ms or more"
