"""What the benchmarks of settings share: data sets, seeds, trials on the validation tail of T1, and their spread."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.studies.quality import SEEDS
from benchmarks.result import Spread, spread
from mtmh.config import Config, load_config
from mtmh.errors import UserError
from pipelines.arguments import layers
from pipelines.trial import Figures, scratch, try_out

METRICS = ("recall_at_20", "recall_at_500", "l1_relevance", "l2_relevance", "cold_recall_at_500")
LACKS = {
    "l2_relevance": "L2 topics: there is no relevance",
    "cold_recall_at_500": "target that training does not know: there is nothing cold",
}
Setting = tuple[str, ...]  # section.key=value, over the data set's own settings


def config_of(data: Path, setting: Setting = (), seed: int = 0) -> Config:
    """The settings that a run over `data` has, with `setting` over them."""
    return load_config(*layers(str(data), "laptop", None), settings=[*setting, f"seed={seed}"])


def try_all(data: Path, settings: Sequence[Setting], needs: str = "l2_relevance") -> dict[Setting, list[Figures]]:
    """Figures of each setting, one a seed. Every setting is tried at one seed before the next seed begins.

    What is there already under runs/.scratch/trials is read: a series that was killed goes on when started again.
    Raises UserError when the data cannot give `needs`, the metric that the settings are compared by.
    """
    found: dict[Setting, list[Figures]] = {setting: [] for setting in settings}
    for seed in SEEDS:
        for number, setting in enumerate(found, start=1):
            place = f"{data.resolve().name}, seed {seed}, setting {number} of {len(found)}"
            print(f"trial: {place}: {' '.join(setting) or 'as set'}", flush=True)
            figures = try_out(str(data), config_of(data, setting, seed), scratch(str(data)))
            if figures["merged"][needs] is None:
                raise UserError(f"{data} has no {LACKS[needs]} to compare. Name other data in MTMH_BENCH_DATA.")
            found[setting].append(figures)
            shown = {"R@20": "recall_at_20", "R@500": "recall_at_500", "L2": "l2_relevance"}
            values = {name: figures["merged"][metric] for name, metric in shown.items()}
            told = ", ".join(f"{name} {100 * value:.2f}" for name, value in values.items() if value is not None)
            print(f"trial: {place}: merged {told}", flush=True)
    return found


def each(runs: Sequence[Figures], metric: str, model: str = "merged") -> list[float]:
    """One figure of every run, of a metric that the data can give."""
    found = [run[model][metric] for run in runs]
    return [value for value in found if value is not None]


def spreads(runs: Sequence[Figures]) -> dict[str, dict[str, Spread]]:
    """{model: {metric: spread over the runs}} of METRICS, without those that the data cannot give."""
    return {
        model: {metric: spread(each(runs, metric, model)) for metric in METRICS if one[metric] is not None}
        for model, one in runs[0].items()
    }
