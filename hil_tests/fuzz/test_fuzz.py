"""What is fuzzed takes the inputs with which the fuzzer begins; `make fuzz` does the rest."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hil_tests.fuzz.seeds import seeds
from hil_tests.fuzz.targets import TARGETS
from hil_tests.unit.link.subprocesses import python

MUTATIONS = 8  # of each seed


def test_every_target_has_seeds() -> None:
    assert set(TARGETS) == set(seeds())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_seeds_and_what_is_near_them_find_nothing(target: str) -> None:
    rng = random.Random(1)
    for seed in seeds()[target]:
        TARGETS[target](seed)
        for _ in range(MUTATIONS):
            spoilt = bytearray(seed)
            for _ in range(rng.randint(1, 3)):
                spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
            TARGETS[target](bytes(spoilt[: rng.randint(0, len(spoilt))]))


@pytest.mark.long
@pytest.mark.needs("compiled")
def test_a_storm_of_mutations_finds_nothing_in_checked_code(tmp_path: Path) -> None:
    told = json.loads(
        python("-m", "hil_tests.fuzz.compiled", str(tmp_path), "--inputs", "100000", NUMBA_BOUNDSCHECK="1")
    )
    assert told["code"] == "compiled, indices checked"
    assert told["total"] > 100_000
