"""What a packet costs in the compiled path, without ports: ns from offer to delivery, one variant beside another.

python -m hil_tests.performance.packet_path                    each feature against a plain link
python -m hil_tests.performance.packet_path --against CHECKOUT  this checkout against another, a plain link
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from emulator.link.link import LinkOptions
from emulator.testing.performance.names import PLAIN
from emulator.testing.performance.stages import costs, plain, timed, udp_packets, variants

REPOSITORY = Path(__file__).parents[2]


def in_checkout(path: Path) -> float:
    """One process's figure for a plain link, of the sources in a checkout."""
    finished = subprocess.run(
        [sys.executable, "-B", __file__, "--one"],
        cwd=path, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(finished.stdout)


def main(arguments: list[str]) -> None:
    if arguments == ["--one"]:
        print(costs({PLAIN: timed(LinkOptions(), plain(), udp_packets(1))})[PLAIN])
    elif arguments[:1] == ["--against"]:
        pairs = [(in_checkout(REPOSITORY), in_checkout(Path(arguments[1]))) for _ in range(5)]
        here, there = (min(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(json.dumps({"here_ns": here, "there_ns": there, "ratio": here / there, "median_ratio": ratio}))
    else:
        found = costs(variants())
        for name, cost in found.items():
            print(f"{name:30} {cost:8.1f} ns/packet {cost / found[PLAIN]:6.2f} ×")


if __name__ == "__main__":
    main(sys.argv[1:])
