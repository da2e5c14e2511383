"""Which parts of the training data pay: each with and without, two data sets, three seeds, validation tail of T1.

Reads the folders named in MTMH_BENCH_DATA (default: ../shared/data/yelp2019 and ../shared/data/amazon-beauty) and
writes one result a folder, ablation_<folder>.json. All else is as a run over that data set has it. What a part does is
the figure with it less the figure without it at the same seed; told are mean [least, most] over the seeds.

The verdict looks at recall@500 and L2 relevance of the merge. One of them is up when the differences of all seeds are
above 0, down when all are below, and open when their range holds 0. A part pays when one is up and none is down, does
not pay when one is down and none is up, and is undecided otherwise: both open, or one bought with the other, which
alpha does without retraining. Of a part that does nothing at all, three seeds agree in sign one time in four: look at
the size too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.studies.quality import folders
from benchmarks.result import Spread, spread, write
from benchmarks.studies.study import Setting, config_of, each, spreads, try_all
from pipelines.trial import Figures

SHOWN = {"recall_at_20": "R@20", "recall_at_500": "R@500", "l2_relevance": "L2", "cold_recall_at_500": "R cold"}


@dataclass(frozen=True)
class Part:
    """What is switched, and a reason why it is no default whatever it brings."""

    on: Setting
    off: Setting
    never: str = ""


PARTS = {
    "SIM, soft": Part(("pairs.sim=soft",), ("pairs.sim=none",)),
    "SIM, hard": Part(("pairs.sim=hard",), ("pairs.sim=none",), "shows the model what relevance is measured on"),
    "propensity": Part(("pairs.propensity=true",), ("pairs.propensity=false",)),
    "logQ": Part(("train.logq=true",), ("train.logq=false",)),
    "hard negatives, 256": Part(("train.hard_negatives=256",), ("train.hard_negatives=0",)),
    "cold items by content": Part(("retrieval.cold=content",), ("retrieval.cold=model",)),
}  # fmt: skip


def main() -> None:
    """Try, compare, and give a verdict a part and data set."""
    for data in folders():
        found = try_all(data, settings_of())
        parts = {name: judge(data, part, found) for name, part in PARTS.items()}
        base = spreads(found[()])
        best = max(told["other"]["merged"]["recall_at_500"]["mean"] for told in parts.values() if not told["never"])
        details = {"period": "validation tail of T1", "seeds": len(found[()]), "defaults": base, "parts": parts}
        unit = "recall@500 of the merge with the defaults, beside the best with one part switched"
        write(f"ablation_{data.resolve().name}", base["merged"]["recall_at_500"]["mean"], unit, best, details)
        print("\n".join(table(parts)), flush=True)


def settings_of() -> list[Setting]:
    """The defaults, and both sides of every part; equal ones are trained once."""
    return [(), *(side for part in PARTS.values() for side in (part.on, part.off))]


def judge(data: Path, part: Part, found: dict[Setting, list[Figures]]) -> dict[str, Any]:
    """What `part` brings on one data set, the verdict, and whether a run over the data set has it."""
    now, sides = config_of(data), {True: part.on, False: part.off}
    default = next((on for on, side in sides.items() if config_of(data, side) == now), None)
    gain = difference(found[part.on], found[part.off])
    return {
        "default": {True: "on", False: "off", None: "another"}[default],
        "verdict": verdict(gain["merged"]["recall_at_500"], gain["merged"]["l2_relevance"]),
        "never": part.never,
        "gain": gain,
        "other": spreads(found[part.off if default else part.on]),
    }


def difference(on: list[Figures], off: list[Figures]) -> dict[str, dict[str, Spread]]:
    """{model: {metric: spread over the seeds of the figure with less that without}} of SHOWN."""
    return {
        model: {
            metric: spread([a - b for a, b in zip(each(on, metric, model), each(off, metric, model), strict=True)])
            for metric in SHOWN
            if figures[metric] is not None
        }
        for model, figures in on[0].items()
    }


def verdict(recall: Spread, relevance: Spread) -> str:
    """The rule of this file's head, from the differences of the merge."""
    signs = {"recall": _sign(recall), "L2": _sign(relevance)}
    if set(signs.values()) <= {0, 1} and any(signs.values()):
        return "pays"
    if set(signs.values()) <= {0, -1} and any(signs.values()):
        return "does not pay"
    if not any(signs.values()):
        return "undecided: within the spread"
    return "undecided: " + ", ".join(f"{name} {'up' if sign > 0 else 'down'}" for name, sign in signs.items())


def table(parts: dict[str, Any]) -> list[str]:
    """Lines for the screen: a part, its verdict, and its gains a model in points."""
    lines = ["  with less without, in points: mean [least, most]"]
    for name, told in parts.items():
        never = f"; never a default: {told['never']}" if told["never"] else ""
        lines.append(f"  {name} (default: {told['default']}): {told['verdict']}{never}")
        for model, gain in told["gain"].items():
            figures = "  ".join(f"{SHOWN[metric]} {_points(one)}" for metric, one in gain.items())
            lines.append(f"    {model:16} {figures}")
    return lines


def _sign(found: Spread) -> int:
    return int(found["min"] > 0) - int(found["max"] < 0)


def _points(found: Spread) -> str:
    return f"{100 * found['mean']:+6.2f} [{100 * found['min']:+.2f}, {100 * found['max']:+.2f}]"
