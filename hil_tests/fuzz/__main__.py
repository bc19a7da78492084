"""Fuzzes all that reads untrusted bytes: `python -m hil_tests.fuzz --help`, or `make fuzz`.

First each target under atheris, interpreted, so that it is led by the branches that it takes (extra `fuzz`); then what
it kept, and mutations of that in bulk, through the compiled code with its indices checked. Ends with status 1 on a
finding, whose input then stands in the corpus as `TARGET-crash-…`; with `NUMBA_DISABLE_JIT=1`,
`python -m hil_tests.fuzz.guided TARGET FILE` repeats it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from hil_tests.fuzz.seeds import seeds

LONGEST_INPUT_BYTES = 4096
INPUT_LIMIT_S = 20  # a stall is a finding, too


def guided(target: str, corpus: Path, seconds: float) -> tuple[int, int]:
    """Exit status of a target under atheris, and how many inputs it had."""
    kept = corpus / target
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[target]):
        (kept / f"seed-{number}").write_bytes(seed)
    command = [
        *(sys.executable, "-m", "hil_tests.fuzz.guided", target),
        f"-max_total_time={seconds:.0f}",
        f"-max_len={LONGEST_INPUT_BYTES}",
        f"-timeout={INPUT_LIMIT_S}",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={corpus}/{target}-",
        "-print_final_stats=1",
        str(kept),
    ]
    done = subprocess.run(
        command, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, stderr=subprocess.PIPE, text=True, check=False
    )
    (corpus / f"{target}.log").write_text(done.stderr)
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    return done.returncode, int(found[1]) if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hil_tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(seeds())}; default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="under atheris, each target (default 60)")
    parser.add_argument("--inputs", type=int, default=10_000_000, help="mutated, compiled (default 10,000,000)")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="kept between runs")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(seeds()):
        parser.error(f"expected targets of {', '.join(seeds())}, got {', '.join(sorted(unknown))}")
    chosen.corpus.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for target in chosen.targets or seeds():
        status, counts[target] = guided(target, chosen.corpus, chosen.seconds)
        print(f"{target}: {counts[target]:,} inputs under atheris, status {status}", file=sys.stderr, flush=True)
        if status:
            print(f"a finding, or no atheris: see {chosen.corpus / target}.log", file=sys.stderr)
            return 1
    done = subprocess.run(
        [sys.executable, "-m", "hil_tests.fuzz.compiled", str(chosen.corpus), "--inputs", str(chosen.inputs)],
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return 1
    compiled = json.loads(done.stdout)
    print(json.dumps({"atheris": counts, "compiled": compiled, "total": sum(counts.values()) + compiled["total"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
