"""What a sweep consists of: its cases, each with a key by which a finished one is known again."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from emulator import __version__
from emulator.errors import ScenarioError

MOST_CASES = 100_000


@dataclass(frozen=True)
class Load:
    """The traffic of a case, the same in both directions: packets of one size at even distances.

    `packets` per direction over the whole duration, of `packet_bytes` each with their IP headers.
    """

    packets: int = 10_000
    packet_bytes: int = 200

    def __post_init__(self) -> None:
        if not (self.packets >= 1 and 28 <= self.packet_bytes <= 65_535):
            raise ValueError(f"load: expected 1 packet or more of 28 to 65535 bytes, got {self}")


@dataclass(frozen=True)
class Case:
    """One run of a sweep. It says all that its result depends on; `live`: in real time, through a bench."""

    scenario: str
    overrides: tuple[str, ...]
    seed: int
    start_utc_ns: int
    duration_ns: int
    load: Load = Load()
    live: bool = False
    content: str = ""  # a hash of the scenario's contents: a file that was changed is another scenario

    @property
    def key(self) -> str:
        """The same for the same case under the same version of Bentpipe."""
        text = json.dumps([__version__, asdict(self)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def expand(
    scenarios: Sequence[str],
    *,
    seeds: Sequence[int],
    starts_utc_ns: Sequence[int],
    parameters: Mapping[str, Sequence[str]],
    duration_ns: int,
    load: Load,
    live: bool = False,
    overrides: Sequence[str] = (),
) -> list[Case]:
    """All combinations, in this order: scenario, parameter values, start, seed.

    overrides: KEY=VALUE of every case. Raises ScenarioError with every fault of every combination of scenario and
    parameters, before anything runs; ValueError for more than MOST_CASES.
    """
    from emulator.scenario import load_scenario

    count = len(scenarios) * len(seeds) * len(starts_utc_ns)
    for values in parameters.values():
        count *= len(values)
    if not 1 <= count <= MOST_CASES:
        raise ValueError(f"expected from 1 to {MOST_CASES} cases, got {count}")
    cases, problems = [], list[str]()
    for scenario in scenarios:
        for chosen in itertools.product(*parameters.values()):
            said = (*overrides, *(f"{key}={value}" for key, value in zip(parameters, chosen, strict=True)))
            try:
                loaded = load_scenario(scenario, said)
            except ScenarioError as error:
                problems += [line for line in error.problems if line not in problems]
                continue
            content = hashlib.blake2b(loaded.model_dump_json().encode(), digest_size=8).hexdigest()
            cases += [
                Case(scenario, said, seed, start, duration_ns, load, live, content)
                for start in starts_utc_ns
                for seed in seeds
            ]
    if problems:
        raise ScenarioError(problems)
    return cases


def parse_seeds(text: str) -> list[int]:
    """`1-100`, `3`, `1,5,7-9` → the seeds. Raises ValueError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise ValueError(f"expected seeds such as 1-100 or 1,5,7-9, got {text!r}") from None
        if not 0 <= low <= high < 2**63 or high - low >= MOST_CASES:
            raise ValueError(f"expected rising seeds from 0 on, at most {MOST_CASES} of them, got {part!r}")
        seeds += range(low, high + 1)
    return seeds


def parse_parameter(text: str) -> tuple[str, list[str]]:
    """`link.delay_ms=10,20,30` → key and values; no value may have a comma of its own. Raises ValueError."""
    key, equals, values = text.partition("=")
    chosen = [value.strip() for value in values.split(",")]
    if not (key.strip() and equals and all(chosen)):
        raise ValueError(f"expected KEY=VALUE,VALUE,…, got {text!r}")
    return key.strip(), chosen
