"""What finds cold and fresh items: ids alone, id dropout with creators and numbers, content neighbours, and both.

Reads the folders named in MTMH_BENCH_DATA (default: Yelp, Amazon Beauty and Globo in ../shared/data) and writes
cold_<folder>.json: for each head and the merge recall@500 on targets that training did not know (cold) and on those
first there less than a day before the split (fresh), and their share of the lists; three seeds, validation tail of T1.
Globo has no text, so nothing there is placed by content, and no creators: its cold items are all alike, and the fresh
ones count.
"""

from typing import Any

from benchmarks.studies.quality import folders
from benchmarks.result import Spread, spread, write
from benchmarks.studies.study import Setting, each, try_all
from pipelines.trial import Figures

DEFAULT = "../shared/data/yelp2019 ../shared/data/amazon-beauty ../shared/data/globo"
IDS_ALONE = "ids alone"
VARIANTS: dict[str, Setting] = {
    IDS_ALONE: ("data.id_features=[]", "data.statistics=[]", "train.id_dropout=0", "retrieval.cold=model"),
    "creators and numbers": ("train.id_dropout=0", "retrieval.cold=model"),
    "id dropout, creators and numbers": ("train.id_dropout=0.1", "retrieval.cold=model"),
    "content neighbours": ("train.id_dropout=0", "retrieval.cold=content"),
    "id dropout and content neighbours": ("train.id_dropout=0.1", "retrieval.cold=content"),
}
SHOWN = ("recall_at_500", "cold_share", "cold_recall_at_500", "fresh_share", "fresh_recall_at_500")


def main() -> None:
    """Try every variant, and compare with ids alone."""
    for data in folders(DEFAULT):
        found = try_all(data, list(VARIANTS.values()), needs="cold_recall_at_500")
        table = {name: figures(found[setting]) for name, setting in VARIANTS.items()}
        headline = "cold_recall_at_500"
        if not any(told["merged"][headline]["max"] for told in table.values()):  # nothing tells cold items apart
            headline = "fresh_recall_at_500"
        _write(data.resolve().name, table, headline, len(found[VARIANTS[IDS_ALONE]]))
        print("\n".join(lines(table)), flush=True)


def figures(runs: list[Figures]) -> dict[str, dict[str, Spread]]:
    """{model: {metric: spread over the seeds}} of SHOWN, without those that the data cannot give."""
    return {
        model: {metric: spread(each(runs, metric, model)) for metric in SHOWN if one[metric] is not None}
        for model, one in runs[0].items()
    }


def lines(table: dict[str, dict[str, dict[str, Spread]]]) -> list[str]:
    """For the screen, in percent: mean [least, most]."""
    told = []
    for variant, models in table.items():
        told.append(f"  {variant}")
        for model, found in models.items():
            shown = "  ".join(f"{metric} {_percent(one)}" for metric, one in found.items())
            told.append(f"    {model:16} {shown}")
    return told


def _write(name: str, table: dict[str, Any], headline: str, seeds: int) -> None:
    means = {variant: told["merged"][headline]["mean"] for variant, told in table.items()}
    best = max(means, key=lambda variant: means[variant])
    details = {
        "period": "validation tail of T1",
        "seeds": seeds,
        "metric": headline,
        "variant": best,
        "baseline": IDS_ALONE,
        "settings": {variant: VARIANTS[variant] for variant in table},
        "variants": table,
    }
    write(f"cold_{name}", means[best], f"{headline} of the merge", means[IDS_ALONE], details)


def _percent(found: Spread) -> str:
    return f"{100 * found['mean']:.2f} [{100 * found['min']:.2f}, {100 * found['max']:.2f}]"
