"""What finds cold and fresh items: ids alone, id dropout with creators and numbers, content
neighbours, and both.

For each head and the merge: recall@500 on targets that training did not know (cold) and on those
first there less than a day before the split (fresh), and their share of the lists. Globo has no
text, so nothing there is placed by content, and no creators: its cold items are all alike, and the
fresh ones count.
"""

from benchmarks.studies.grids import COLD, COLD_RECALL, DATA_WITH_FRESH, IDS_ALONE, SEEDS
from benchmarks.studies.study import Data, Outcome, Seeds, Settings, Trials, lines, run


def main(data: Data = DATA_WITH_FRESH, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Recall of cold and fresh items by each way to place them, beside ids alone."""
    run("cold", judge, data, seeds, settings)


def judge(trials: Trials) -> Outcome:
    """The best variant for the merge, beside ids alone."""
    table = {variant: trials.table(setting) for variant, setting in COLD.items()}
    # Where nothing tells cold items apart, the fresh ones are compared.
    tells_cold = any(models["merged"][COLD_RECALL]["max"] for models in table.values())
    metric = COLD_RECALL if tells_cold else "fresh_recall_at_500"
    means = {variant: models["merged"][metric]["mean"] for variant, models in table.items()}
    best = max(means, key=lambda variant: means[variant])
    details = {
        "period": "validation tail of T1",
        "seeds": trials.seeds,
        "metric": metric,
        "variant": best,
        "baseline": IDS_ALONE,
        "settings": COLD,
        "variants": table,
    }
    text = [
        line
        for variant, models in table.items()
        for line in (f"  {variant}", *lines(models, "    "))
    ]
    return Outcome(means[best], f"{metric} of the merge", means[IDS_ALONE], details, text)
