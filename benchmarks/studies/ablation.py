"""Which parts of the training data pay: each with and without, on the validation tail of T1.

All else is as a run over that data set has it. What a part does is the figure with it less the
figure without it at the same seed; printed is mean [least, most] over the seeds.

The verdict looks at recall@500 and L2 relevance of the merge. One of them is up when the
differences of all seeds are above 0, down when all are below, and open when their range holds 0. A
part pays when one is up and none is down, does not pay when one is down and none is up, and is
undecided otherwise: both open, or one bought with the other, which alpha does without retraining.
Of a part that does nothing at all, three seeds agree in sign one time in four: look at the size
too.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.result import Spread, spread
from benchmarks.studies.grids import COLD_RECALL, DATA, PARTS, SEEDS, Part
from benchmarks.studies.study import (
    Data,
    Outcome,
    Seeds,
    Settings,
    Table,
    Trials,
    config_of,
    percent,
    run,
)

GAINS = {
    "recall_at_20": "R@20",
    "recall_at_500": "R@500",
    "l2_relevance": "L2",
    COLD_RECALL: "R cold",
}


def main(data: Data = DATA, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Each part of the training data with and without, and whether it pays."""
    run("ablation", lambda trials: judge(trials, PARTS), data, seeds, settings)


def judge(trials: Trials, studied: Mapping[str, Part]) -> Outcome:
    """The defaults beside the best with one part switched; a verdict a part."""
    parts = {name: judge_part(trials, part) for name, part in studied.items()}
    defaults = trials.table(())
    # What may never be a default is no rival to the defaults, whatever it brings.
    others = [
        part["other"]["merged"]["recall_at_500"]["mean"]
        for part in parts.values()
        if not part["never"]
    ]
    details = {
        "period": "validation tail of T1",
        "seeds": trials.seeds,
        "defaults": defaults,
        "parts": parts,
    }
    unit = "recall@500 of the merge with the defaults, beside the best with one part switched"
    return Outcome(
        defaults["merged"]["recall_at_500"]["mean"], unit, max(others), details, table(parts)
    )


def judge_part(trials: Trials, part: Part) -> dict[str, Any]:
    """What `part` brings on one data set, the verdict, and whether a run over the data set has
    it."""
    on, off, now = (
        config_of(trials.source, (*trials.base, *side)) for side in (part.on, part.off, ())
    )
    gain = difference(trials, part)
    return {
        "default": "on" if on == now else "off" if off == now else "another",
        "verdict": verdict(gain["merged"]["recall_at_500"], gain["merged"]["l2_relevance"]),
        "never": part.never,
        "gain": gain,
        "other": trials.table(part.off if on == now else part.on),
    }


def difference(trials: Trials, part: Part) -> Table:
    """The figures of GAINS with the part less those without it at the same seed."""
    gains: Table = {}
    for model in trials.runs[part.on][0]:
        sides = {
            metric: [trials.figures(side, metric, model) for side in (part.on, part.off)]
            for metric in GAINS
        }
        gains[model] = {
            metric: spread([a - b for a, b in zip(on, off, strict=True)])
            for metric, (on, off) in sides.items()
            if on
        }
    return gains


def verdict(recall: Spread, relevance: Spread) -> str:
    """The rule of this file's head, from the differences of the merge."""
    signs = {
        name: int(gain["min"] > 0) - int(gain["max"] < 0)
        for name, gain in (("recall", recall), ("L2", relevance))
    }
    if not any(signs.values()):
        return "undecided: within the spread"
    if min(signs.values()) >= 0:
        return "pays"
    if max(signs.values()) <= 0:
        return "does not pay"
    return "undecided: " + ", ".join(
        f"{name} {'up' if sign > 0 else 'down'}" for name, sign in signs.items()
    )


def table(parts: dict[str, Any]) -> list[str]:
    """Lines for the screen: a part, its verdict, and its gains a model in points."""
    lines = ["  with less without, in points: mean [least, most]"]
    for name, part in parts.items():
        never = f"; never a default: {part['never']}" if part["never"] else ""
        lines.append(f"  {name} (default: {part['default']}): {part['verdict']}{never}")
        for model, gains in part["gain"].items():
            figures = "  ".join(
                f"{GAINS[metric]} {percent(gain, signed=True)}" for metric, gain in gains.items()
            )
            lines.append(f"    {model:16} {figures}")
    return lines
