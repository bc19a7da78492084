"""From the records of the trials to the rows of the table: pure, nothing here measures anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emulator.testing.performance.figures import FIGURES, Figure, Judged, Record
from emulator.testing.performance.statistics import Spread, Target, ratios, spread

Rounds = Mapping[str, Sequence[Record]]
"""By the key of the trial: a record per round; one that failed holds `error`, and nothing else."""

CARRIED = 0.98  # of what a generator was to send; one that stays below has not put the question


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, with the baseline that it stands beside.

    doubt: why the verdict cannot be trusted, if it cannot. note: what else belongs to the figure.
    """

    key: str
    what: str
    unit: str
    value: Spread
    against: str = ""
    baseline: Spread | None = None
    ratio: Spread | None = None
    difference: Spread | None = None
    target: Target | None = None
    target_of: Judged = "value"
    doubt: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target, or in doubt."""
        judged = {"value": self.value, "ratio": self.ratio, "difference": self.difference}[self.target_of]
        if self.target is None or judged is None or self.doubt:
            return None
        return self.target.met(judged)

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "what": self.what,
            "unit": self.unit,
            **self.value.as_json(),
            "against": self.against,
            "baseline": self.baseline.as_json() if self.baseline else None,
            "ratio": self.ratio.as_json() if self.ratio else None,
            "difference": self.difference.as_json() if self.difference else None,
            "target": {"of": self.target_of, **asdict(self.target)} if self.target else None,
            "met": self.met,
            "doubt": self.doubt,
            "note": self.note,
        }


def rows(rounds: Rounds) -> list[Row]:
    """Every row that the trials give; what was not measured, or failed in all rounds, gives none."""
    return [row for figure in FIGURES if (row := row_of(figure, rounds)) is not None]


def row_of(figure: Figure, rounds: Rounds) -> Row | None:
    """From the rounds in which neither the value nor its baseline failed; None if there is no such round."""
    records = rounds.get(figure.value.trial, ())
    beside = rounds.get(figure.baseline.trial, ()) if figure.baseline else records
    pairs = []
    for record, other in zip(records, beside, strict=False):
        if "error" in record or "error" in other:
            continue
        value = figure.value.read(record)
        baseline = figure.baseline.read(other) if figure.baseline else 0.0
        if value is not None and baseline is not None:
            pairs.append((value, baseline))
    values = spread([value for value, _ in pairs])
    more = [value - baseline for value, baseline in pairs] if figure.target_of == "difference" else []
    if values is None:
        return None
    baselines = [baseline for _, baseline in pairs] if figure.baseline else []
    return Row(
        key=figure.key,
        what=figure.what,
        unit=figure.unit,
        value=values,
        against=figure.against,
        baseline=spread(baselines),
        ratio=spread(ratios(values.values, baselines)) if baselines and figure.divided else None,
        difference=spread(more),
        target=figure.target,
        target_of=figure.target_of,
        doubt=too_slow(records) if "lost" in figure.key else "",
        note=remarks(figure, records),
    )


def too_slow(records: Sequence[Record]) -> str:
    """Why the loss of a UDP load says nothing: its generator did not keep the rate."""
    good = [record for record in records if "error" not in record]
    floods = [flood for record in good for flood in record.get("sizes", {"": record}).values()]
    kept = [flood["sent"] / (flood["sent"] + flood["left_out"]) for flood in floods]
    if kept and min(kept) < CARRIED:
        return f"the generator sent only {min(kept):.0%} of its packets in time"
    return ""


def remarks(figure: Figure, records: Sequence[Record]) -> str:
    """What belongs beside a figure: packets without room at the receiver, segments sent again, a search's end."""
    good = [record for record in records if "error" not in record]
    if (
        figure.key.startswith("udp.")
        and figure.key.endswith("lost")
        and (late := sum(record["no_room"] for record in good))
    ):
        return f"{late:,} more crossed the link and found no room in the receiver's socket"
    if figure.key.startswith("flows.carried_"):
        flows = figure.key.rpartition("_")[2]
        again = [record["flows"][flows]["retransmitted"] for record in good if flows in record["flows"]]
        return f"{sum(again):,} segments were sent again" if any(again) else ""
    if figure.key == "udp.limit":
        return "; ".join(dict.fromkeys(ending(record["steps"]) for record in good if record["steps"]))
    return ""


def ending(steps: Sequence[Record]) -> str:
    """Why a search went no further than it did."""
    last = steps[-1]
    if last["lost"]:
        return f"at {last['packets_per_s']:,} packets/s {last['lost']:,} of {last['sent']:,} were lost"
    if last["sent_per_s"] < CARRIED * last["packets_per_s"]:
        return f"the generator could not send {last['packets_per_s']:,} packets/s"
    return f"nothing above {last['packets_per_s']:,} packets/s was tried"
