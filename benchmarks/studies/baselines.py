"""The leaderboard of baselines: each tuned by the same number of trials on the validation tail of
T1, the best by recall@500 then measured at every seed.

A finished trial is read and not run again, so a series that was killed goes on when it is started
again; models that are measured alone are added to those of the file.
"""

import hashlib
import json
import shlex
import statistics
import sys
from typing import Annotated, Any, Literal

import typer

from benchmarks import result
from benchmarks.studies.grids import BEAUTY, Setting
from benchmarks.studies.study import Data, Seeds, Settings, config_of, existing, short_name
from mtmh.baselines.contract import TrainData
from mtmh.baselines.models import MODELS, TEMPERATURE, Hyper, fit_baseline, named, trials
from mtmh.baselines.protocol import evaluate_baseline, load_test
from mtmh.data.prepared import Prepared
from pipelines.trial import scratch, training_data

Figures = dict[str, float | None]
Period = Literal["validation", "test"]
CHOSEN_BY = "recall_at_500"
Names = Annotated[
    list[str] | None,
    typer.Option("--models", help="A baseline; may be given many times. All by default."),
]
Count = Annotated[int, typer.Option("--trials", min=1, help="Settings tried of each model.")]
Measured = Annotated[
    Period, typer.Option(help="Where the chosen settings are measured: validation, or test = T2.")
]


def main(
    data: Data = [BEAUTY],  # noqa: B006 - typer reads the default, nobody writes it
    seeds: Seeds = 3,
    count: Count = 8,
    models: Names = None,
    settings: Settings = None,
    period: Measured = "validation",
) -> None:
    """Every baseline with the same budget of trials on validation data, in one table."""
    names, base = named(models), tuple(settings or ())
    for source in existing(data):
        # A row is written as soon as it is there: the series may be killed.
        for name in names:
            row = tuned(source, name, seeds, count, base, period)
            add(source, name, row, header(source, count, period))
            print(line(name, row), flush=True)


def tuned(
    source: str, name: str, seeds: int, count: int, base: Setting, period: Period
) -> dict[str, Any]:
    """A row of the leaderboard: the spread of the figures at the best of `count` settings, and all
    trials that led there. Raises UserError as `fit_baseline` does."""
    tried: list[dict[str, Any]] = []
    for number, hyper in enumerate(trials(name, count), start=1):
        figures = measure(source, name, hyper, 0, base, "validation")
        tried.append({"settings": hyper, CHOSEN_BY: figures[CHOSEN_BY]})
        share = 100 * (figures[CHOSEN_BY] or 0.0)
        print(f"trial: {name} {number}: {dict(hyper)}: R@500 {share:.2f}", flush=True)
    best = max(tried, key=lambda trial: trial[CHOSEN_BY])["settings"]
    # A model without chance in it is the same at every seed.
    numbers = list(range(seeds if MODELS[name].seeded else 1))
    runs = [measure(source, name, best, seed, base, period) for seed in numbers]
    spreads = {
        figure: spread([value for run in runs if (value := run[figure]) is not None])
        for figure in runs[0]
    }
    row = {figure: values for figure, values in spreads.items() if values}
    made_by = {"command": f"mtmh {shlex.join(sys.argv[1:])}", "commit": result.commit()}
    return {**row, "seeds": numbers, **made_by, "settings": best, "trials": tried}


def measure(
    source: str, name: str, hyper: Hyper, seed: int, base: Setting, period: Period
) -> Figures:
    """The figures of one model at one setting and seed; read where they are there already."""
    config = config_of(source, (*base, f"data.period={period}"), seed)
    folders = training_data(source, config, scratch(source))
    # The name of the figures is made of all that they depend on, as those of `try_out`.
    recipe = {
        "model": name,
        "hyper": dict(hyper),
        "seed": seed,
        "inputs": [
            folder.name
            for folder in (folders.prepared, folders.features, folders.content, folders.pairs)
        ],
        "train": config.train.model_dump(),
        "retrieval": config.retrieval.model_dump(),
        "fresh_hours": config.evaluation.fresh_hours,
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    file = folders.prepared.parents[1] / "baselines" / f"{key}.json"
    if not file.exists():
        # Fitted on T1 alone, then measured on what comes after it.
        data = Prepared.load(folders.prepared)
        train_data = TrainData.load(data, folders.features, folders.content, folders.pairs)
        model = fit_baseline(name, train_data, config.train, seed, hyper)
        test = load_test(data, folders.content, config.retrieval, config.evaluation.fresh_hours)
        figures = evaluate_baseline(model, test, config.retrieval, hyper[TEMPERATURE])
        file.parent.mkdir(parents=True, exist_ok=True)
        # Under its name only once it is whole: a trial may be cut short.
        draft = file.with_suffix(".unfinished")
        draft.write_text(json.dumps({"figures": figures, "recipe": recipe}, indent=1))
        draft.rename(file)
    read: Figures = json.loads(file.read_text())["figures"]
    return read


def header(source: str, count: int, period: Period) -> dict[str, str]:
    """What holds for all rows: the data, where they are measured, what they were tuned with."""
    measured = "T2" if period == "test" else "the validation tail of T1"
    return {
        "data": short_name(source),
        "protocol": (
            f"all test users of {measured}; last 50 items of T1 as triggers, T1's items excluded,"
            " 500 a user, no preranker, cold items where the model has them"
        ),
        "budget": (
            f"{count} settings of each model at the most, on the validation tail of T1, seed 0;"
            f" the best by {CHOSEN_BY}"
        ),
    }


def add(source: str, name: str, row: dict[str, Any], head: dict[str, str]) -> None:
    """The row into baselines_<data>.json; rows that another protocol or budget led to go."""
    file = result.FOLDER / f"baselines_{short_name(source)}.json"
    # Rows of one file can be compared: they share data, protocol and budget.
    board: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    models = board.get("models", {}) if {**head, **board} == {**board, **head} else {}
    result.FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps({**head, "models": {**models, name: row}}, indent=2) + "\n")


def spread(values: list[float]) -> dict[str, float]:
    """Mean, least and most over the seeds; empty where the data gave no figure."""
    if not values:
        return {}
    figures = {"mean": statistics.mean(values), "least": min(values), "most": max(values)}
    return {name: round(value, 5) for name, value in figures.items()}


def line(name: str, row: dict[str, Any]) -> str:
    """A row for the screen, in percent."""
    labels = {
        "R@20": "recall_at_20",
        "R@500": "recall_at_500",
        "warm": "warm_recall_at_500",
        "cold": "cold_recall_at_500",
        "L2": "l2_relevance",
        "coverage": "coverage",
    }
    figures = "  ".join(
        f"{label} {100 * row[figure]['mean']:5.2f}"
        for label, figure in labels.items()
        if figure in row
    )
    return f"{name:18} {figures}  by {row['settings']}"
