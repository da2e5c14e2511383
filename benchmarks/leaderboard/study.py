"""The leaderboard of a data set: every model tuned by the same number of trials on the validation
tail of T1, the best by recall@500 then measured at every seed, and compared with mtmh user by user.

A finished trial is read and not run again, so a study that was killed goes on when it is started
again; models that are measured alone are added to those of the file.
"""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import result
from benchmarks.leaderboard.measure import (
    NAMES,
    OF_USERS,
    Bench,
    Period,
    is_seeded,
    settings_of,
    tuned_as,
)
from benchmarks.leaderboard.page import line, show
from benchmarks.leaderboard.segments import Segments
from benchmarks.studies.grids import ONE_WORLD, SEEDS
from benchmarks.studies.study import Seeds, Settings, short_name
from mtmh.baselines.models import named
from mtmh.errors import UserError
from mtmh.evaluation.bootstrap import Interval, mean_difference, ratio_difference
from pipelines.trial import scratch

CHOSEN_BY, REFERENCE = "recall_at_500", "mtmh"
CONFIDENCE, RESAMPLES = 0.95, 500
Board = dict[str, Any]

DataSet = Annotated[str, typer.Argument(help="A folder with data, or 'synthetic'.")]
Names = Annotated[
    list[str] | None,
    typer.Option("--models", help="A model; may be given many times. All by default."),
]
Count = Annotated[int, typer.Option("--trials", min=1, help="Settings tried of each model.")]
Where = Annotated[
    Period, typer.Option(help="Where the chosen settings are measured: validation, or test = T2.")
]


def main(
    data: DataSet,
    models: Names = None,
    seeds: Seeds = SEEDS,
    trials: Count = 4,
    settings: Settings = None,
    period: Where = "validation",
) -> None:
    """The leaderboard of a data set: every baseline and the project's own models, tuned alike."""
    names, base = named(models, NAMES), tuple(settings or ())
    if data == "synthetic":
        # One world for all seeds: these are the models' alone.
        base = (ONE_WORLD, *base)
    if data != "synthetic" and not Path(data).is_dir():
        raise UserError(f"no folder {data}. Write mtmh study FOLDER, or mtmh study synthetic.")
    head = header(data, seeds, trials, base, period)
    arguments = [f"--seeds={seeds}", f"--trials={trials}", f"--period={period}"]
    arguments += [f"--set={setting}" for setting in settings or ()]
    # A row is written as soon as it is there: the study may be killed.
    for name in names:
        try:
            row, users = tuned(Bench(data, period, base), name, seeds, trials)
        except UserError as error:
            if models:
                raise
            print(f"study: {name} is left out: {error}", flush=True)
            continue
        row["command"] = shlex.join(["mtmh", "study", data, "--models", name, *arguments])
        keep(data, head, name, row, users)
        print(line(name, row), flush=True)
    show(short_name(data))


def tuned(
    bench: Bench, name: str, seeds: int, count: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A row, the spread of the figures at the best of `count` settings with all trials that led
    there, and the users' figures, means over the seeds. Raises UserError as `Bench.measured`."""
    # Settings are chosen on validation data, whatever period is measured.
    validation = Bench(bench.source, "validation", bench.base)
    tried: list[dict[str, Any]] = []
    for number, hyper in enumerate(settings_of(tuned_as(name), count), start=1):
        figures = validation.measured(tuned_as(name), hyper, 0).figures
        tried.append({"settings": hyper, CHOSEN_BY: figures[CHOSEN_BY]})
        share = 100 * (figures[CHOSEN_BY] or 0.0)
        print(f"trial: {name} {number}: {dict(hyper)}: R@500 {share:.2f}", flush=True)
    best = max(tried, key=lambda trial: trial[CHOSEN_BY])["settings"]
    # A model without chance in it is the same at every seed.
    numbers = list(range(seeds if is_seeded(name) else 1))
    runs = [bench.measured(name, best, seed) for seed in numbers]
    spreads = {
        figure: spread([value for run in runs if (value := run.figures[figure]) is not None])
        for figure in runs[0].figures
    }
    row: dict[str, Any] = {figure: values for figure, values in spreads.items() if values}
    row |= {"seeds": numbers, "parameters": runs[0].parameters}
    row["train_seconds"] = round(float(np.mean([run.seconds for run in runs])), 1)
    row["milliseconds_a_request"] = round(float(np.mean([run.milliseconds for run in runs])), 3)
    row["segments"] = mean_segments([run.segments for run in runs])
    row |= {"commit": result.commit(), "settings": best, "trials": tried}
    users = {part: np.stack([run.users[part] for run in runs]) for part in OF_USERS}
    return row, {
        "recall": users["recall"].mean(axis=0),
        **{part: users[part].sum(axis=0) for part in OF_USERS[1:]},
    }


def header(source: str, seeds: int, count: int, base: tuple[str, ...], period: Period) -> Board:
    """What holds for all rows: the data, where they are measured, what they were tuned with."""
    measured = "T2" if period == "test" else "the validation tail of T1"
    under = f"; under all of them {', '.join(base)}" if base else ""
    return {
        "data": short_name(source),
        "protocol": (
            f"all test users of {measured}; last 50 items of T1 as triggers, T1's items excluded,"
            " 500 a user, exact lists, no preranker save in mtmh_preranked; cold items where the"
            " model has them, in the project's own by their content"
        ),
        "budget": (
            f"{count} settings of each model at the most, on the validation tail of T1, seed 0;"
            f" the best by {CHOSEN_BY}; w_r and alpha as the data's settings have them; {seeds}"
            f" seeds{under}"
        ),
    }


def keep(
    source: str, head: Board, name: str, row: dict[str, Any], users: dict[str, np.ndarray]
) -> None:
    """The row into leaderboard_<data>.json, with its comparison; rows that another protocol or
    budget led to go."""
    file = result.FOLDER / f"leaderboard_{short_name(source)}.json"
    board: Board = json.loads(file.read_text()) if file.exists() else {}
    models = board.get("models", {}) if {**head, **board} == {**board, **head} else {}
    # Rows of one file can be compared: they share data, protocol and budget.
    models = {**models, name: row}
    # The users' figures are too many for the file: they lie beside the trials.
    key = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()[:12]
    folder = scratch(source) / "leaderboard" / key
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", allow_pickle=False, **users)
    # With a new mtmh every row is compared again, else this one alone.
    for other in models if name == REFERENCE else [name]:
        models[other].pop("against_mtmh", None)
        paths = [folder / f"{model}.npz" for model in (other, REFERENCE)]
        if other != REFERENCE and all(path.exists() for path in paths):
            models[other]["against_mtmh"] = differences(*map(read_users, paths))
    result.FOLDER.mkdir(exist_ok=True)
    ordered = {model: models[model] for model in NAMES if model in models}
    file.write_text(json.dumps({**head, "models": ordered}, indent=2) + "\n")


def differences(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> Board:
    """Recall@500 and L2 relevance less those of mtmh, each with its interval over the users."""
    bootstrap = CONFIDENCE, RESAMPLES, 0
    intervals = {CHOSEN_BY: mean_difference(ours["recall"], reference["recall"], *bootstrap)}
    if len(ours["l2_matches"]):
        sides = [(side["l2_matches"], side["retrieved"]) for side in (ours, reference)]
        intervals["l2_relevance"] = ratio_difference(sides[0], sides[1], *bootstrap)
    return {figure: as_row(interval) for figure, interval in intervals.items()}


def as_row(interval: Interval) -> dict[str, float]:
    """For the file."""
    parts = {"difference": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: round(value, 5) for name, value in parts.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Mean, least and most over the seeds; empty where the data gave no figure."""
    if not values:
        return {}
    figures = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
    return {name: round(value, 5) for name, value in figures.items()}


def mean_segments(runs: list[Segments]) -> Segments:
    """The segments' figures, means over the seeds that have them."""

    def mean(segment: str, side: str, figure: str) -> float:
        values = [run[segment][side].get(figure) for run in runs]
        return round(float(np.mean([value for value in values if value is not None])), 5)

    return {
        segment: {
            side: {figure: mean(segment, side, figure) for figure in sides[side]} for side in sides
        }
        for segment, sides in runs[0].items()
    }


def read_users(path: Path) -> dict[str, np.ndarray]:
    """The users' figures of a row."""
    with np.load(path) as arrays:
        return {part: arrays[part] for part in OF_USERS}
