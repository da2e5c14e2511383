"""Runs the studies of settings: every setting at every seed, the spread over the seeds, one result
a data set.

Settings are tried on the validation tail of T1, never on T2. What is there already under
runs/.scratch/trials is read: a series that was killed goes on when started again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.result import Spread, spread, write
from benchmarks.studies.grids import STUDIES, Setting, Study
from mtmh.config import Config, load_config
from mtmh.errors import UserError
from pipelines.arguments import layers
from pipelines.trial import Figures, scratch, try_out

# What the studies take as options.
Data = Annotated[
    list[str],
    typer.Option(
        help="A folder with data, or 'synthetic'; may be given many times: one result for each."
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds, from 0 on.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value; may be given many times.")
]
# data set, setting, seed -> {model: {metric: figure}}
Trial = Callable[[str, Setting, int], Figures]
Table = dict[str, dict[str, Spread]]  # {model: {metric: spread over the seeds}}
LACKS = {
    "l2_relevance": "L2 topics: there is no relevance",
    "cold_recall_at_500": "target that training does not know: there is nothing cold",
}


@dataclass(frozen=True)
class Trials:
    """What came of a study on one data set."""

    study: Study
    source: str
    base: Setting  # under every setting of the study
    runs: dict[Setting, list[Figures]]  # one a seed

    @property
    def seeds(self) -> int:
        return len(next(iter(self.runs.values())))

    def figures(self, setting: Setting, metric: str, model: str = "merged") -> list[float]:
        """One figure at every seed; empty where the data cannot give it."""
        return [
            value for run in self.runs[setting] if (value := run[model].get(metric)) is not None
        ]

    def table(self, setting: Setting) -> Table:
        """The spread of the study's metrics, without those that the data cannot give."""
        table: Table = {}
        for model in self.runs[setting][0]:
            figures = {
                metric: self.figures(setting, metric, model) for metric in self.study.metrics
            }
            table[model] = {metric: spread(values) for metric, values in figures.items() if values}
        return {model: row for model, row in table.items() if row}


@dataclass(frozen=True)
class Outcome:
    """What is written of one data set, and what is printed."""

    value: float
    unit: str
    baseline: float
    details: dict[str, Any]
    lines: list[str]


def run(
    name: str,
    judge: Callable[[Trials], Outcome],
    data: Sequence[str],
    seeds: int,
    base: Sequence[str] | None,
    trial: Trial | None = None,
    study: Study | None = None,
) -> None:
    """Try a study (by default STUDIES[name]) on each data set and write <name>_<data set>.json.

    `base` are settings under all of the study's. Raises UserError where a data set is not there.
    """
    for source in existing(data):
        trials = try_all(
            study or STUDIES[name], source, seeds, tuple(base or ()), trial or on_validation
        )
        outcome = judge(trials)
        write(
            f"{name}_{short_name(source)}",
            outcome.value,
            outcome.unit,
            outcome.baseline,
            outcome.details,
        )
        print("\n".join(outcome.lines), flush=True)


def try_all(study: Study, source: str, seeds: int, base: Setting, trial: Trial) -> Trials:
    """Figures of each setting at each seed; all settings at one seed before the next seed begins.

    Raises UserError when the data cannot give the metric that the settings are compared by.
    """
    trials = Trials(study, source, base, {setting: [] for setting in study.settings})
    for seed in range(seeds):
        for number, (setting, runs) in enumerate(trials.runs.items(), start=1):
            title = f"{short_name(source)}, seed {seed}, setting {number} of {len(trials.runs)}"
            print(f"trial: {title}: {' '.join(setting) or 'as set'}", flush=True)
            runs.append(trial(source, (*base, *setting), seed))
            merged = runs[-1][study.merge]
            # Better to stop at the first trial than after hours of them.
            if merged[study.needs] is None:
                raise UserError(
                    f"{source} has no {LACKS[study.needs]} to compare. Name other data with --data."
                )
            labels = {"R@20": "recall_at_20", "R@500": "recall_at_500", "L2": "l2_relevance"}
            values = {label: merged.get(metric) for label, metric in labels.items()}
            line = ", ".join(
                f"{label} {100 * value:.2f}" for label, value in values.items() if value is not None
            )
            print(f"trial: {title}: merged {line}", flush=True)
    return trials


def on_validation(source: str, setting: Setting, seed: int) -> Figures:
    """Both heads and the merge at the served alpha, on the validation tail of T1."""
    return try_out(source, config_of(source, setting, seed), scratch(source))


def config_of(source: str, setting: Setting = (), seed: int = 0) -> Config:
    """The settings that a run over `source` has, with `setting` over them."""
    return load_config(*layers(source, "laptop", None), settings=[*setting, f"seed={seed}"])


def existing(data: Sequence[str]) -> Sequence[str]:
    """`data`, where all of it is there. Raises UserError where a folder is not."""
    for source in data:
        if source != "synthetic" and not Path(source).is_dir():
            raise UserError(
                f"no folder {source}; name the data sets with --data FOLDER, once for each."
            )
    return data


def short_name(source: str) -> str:
    """What results of a data set go by: its folder's name."""
    return Path(source).resolve().name


def percent(figure: Spread, signed: bool = False) -> str:
    """Mean [least, most] of shares, in percent."""
    mean, least, most = (100 * figure[name] for name in ("mean", "min", "max"))
    return (
        f"{mean:+6.2f} [{least:+.2f}, {most:+.2f}]"
        if signed
        else f"{mean:5.2f} [{least:.2f}, {most:.2f}]"
    )


def lines(table: Table, indent: str = "  ") -> list[str]:
    """A line a model for the screen."""
    width = max(map(len, table))
    return [
        f"{indent}{model:{width}} "
        + "  ".join(f"{metric} {percent(figure)}" for metric, figure in row.items())
        for model, row in table.items()
    ]
