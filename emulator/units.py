"""Units and constants. SI everywhere inside; times are integer nanoseconds; UTC is nanoseconds since 1970-01-01.

Leap seconds are not counted in `utc_ns`, as in POSIX time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000

SPEED_OF_LIGHT_M_S = 299_792_458.0  # exact, SI definition of the metre
FIBRE_SPEED_M_S = 2.0e8  # group index near 1.5: ITU-T G.652 fibre at 1550 nm has 1.468, slower with its slack

LAST_YEAR = 2250  # of a simulated time: ns since 1970 fill 63 bits in 2262

_UTC = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:Z|\+00:?00)?", re.ASCII)


def parse_utc_ns(text: str) -> int:
    """ISO 8601 UTC (`2025-05-29T23:21:27.5Z`; Z may be left out), 1970 to 2250 → ns since 1970. Raises ValueError."""
    match = _UTC.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected a UTC time such as 2025-05-29T23:21:27Z, got {text!r}")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if not 1970 <= year <= LAST_YEAR:
        raise ValueError(f"expected a UTC time from 1970 to {LAST_YEAR}, got {text!r}")
    try:
        whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"expected a UTC time that there is, got {text!r}: {error}") from error
    return int(whole.timestamp()) * NS_PER_S + int((match[7] or "0").ljust(9, "0"))


def format_utc(utc_ns: int, decimals: int = 3) -> str:
    """ns since 1970 → ISO 8601 with Z and `decimals` (0 to 9) digits of a second, cut off and not rounded."""
    whole, fraction = divmod(utc_ns, NS_PER_S)
    text = datetime.fromtimestamp(whole, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{fraction:09d}"[: decimals + 1] if decimals else "") + "Z"


def bits_per_s(megabits_per_s: float) -> int:
    """Mbit/s → bit/s; 0 stands for no limit, so that what is more than that becomes at least 1."""
    return max(1, round(megabits_per_s * 1e6)) if megabits_per_s > 0 else 0


def count_of(count: int, one: str, grouping: str = "") -> str:
    """`1 packet`, `2 packets`, `0 packets`; with "," for `grouping`, thousands are set apart."""
    return f"{count:{grouping}} {one}{'' if count == 1 else 's'}"
