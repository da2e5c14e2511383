"""Amazon Beauty as the sequential papers measure it, beside the figures that they print.

User to item: of each user the last item is the test's (`leave_one_out`), and all items of the
catalog are ranked. What two heads do is another task, item to item and behind a date in time, so
none of the project's own models is here: the question is whether SASRec and HSTU, made of the
blocks that the leaderboard's are made of, come out where others' do, and how far the protocol's
freedoms carry: the loss, the order within a day, and whether what a user has stays in the ranking.
"""

import hashlib
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import result
from benchmarks.studies import leave_one_out, published_models
from benchmarks.studies.grids import SEEDS
from benchmarks.studies.leave_one_out import LeaveOneOut, Order, events, figures, load, ranks
from benchmarks.studies.published_models import (
    Fitted,
    Network,
    last_item_neighbours,
    popularity,
)
from benchmarks.studies.published_order import order_within_times
from benchmarks.studies.published_table import show
from benchmarks.studies.study import Seeds, short_name
from mtmh.baselines.models import named
from mtmh.data import cluster_sequences, whole_sequences
from mtmh.data.files import write_json
from mtmh.data.importers import fingerprint
from mtmh.errors import UserError
from mtmh.model import prompted_sequence, transducer
from mtmh.training import next_item_losses
from mtmh.training import prompted_sequence as training
from mtmh.training.next_item_losses import catalog_softmax, one_negative, sampled_softmax
from mtmh.training.prompted_sequence import SequenceSettings
from pipelines.trial import scratch

# What the figures depend on besides data, settings and seed.
SOURCES = (
    leave_one_out,
    published_models,
    cluster_sequences,
    whole_sequences,
    prompted_sequence,
    transducer,
    next_item_losses,
    training,
)
ORDERS: tuple[Order, ...] = ("file", "shuffled")
PROTOCOL = (
    "of each user the last item for test, the last but one for validation, the rest for training;"
    " all items of the catalog ranked, those that the user has left out (unseen) or not (all); ties"
    " count against the model; epochs chosen by ndcg_at_10 (unseen) of the validation item"
)
Row = dict[str, Any]
Fit = Callable[[LeaveOneOut, int], Fitted]

# Two layers and dropout as SASRec has on Beauty; the newest 20 items are read, as TIGER does. Inner
# products of vectors as long as they are: then tau is 1.
SASREC = SequenceSettings(
    length=20,
    layers=2,
    epochs=400,
    batch_size=256,
    negatives=512,
    lr=0.002,
    tau=1.0,
    dropout=0.5,
    unit=False,
)
WHOLE = replace(SASREC, negatives=0)
BINARY = replace(WHOLE, batch_size=128, lr=0.005, dropout=0.2)
NETWORKS = {
    "sasrec, softmax": Network(SASREC, sampled_softmax, patience=4, every=1),
    "hstu, softmax": Network(
        replace(SASREC, transducer=True), sampled_softmax, patience=4, every=1
    ),
    "sasrec, one negative": Network(BINARY, one_negative, patience=15, every=5),
    "sasrec, whole softmax": Network(WHOLE, catalog_softmax, patience=3, every=1),
}
FLOORS: dict[str, Fit] = {
    "popularity": popularity,
    "neighbours of the last item": last_item_neighbours,
}
MODELS: dict[str, Fit] = {**FLOORS, **{name: net.fit for name, net in NETWORKS.items()}}

DataFolder = Annotated[Path, typer.Argument(help="A folder with data.")]
Names = Annotated[
    list[str] | None,
    typer.Option("--models", help="A model; may be given many times. All by default."),
]


def main(folder: DataFolder, models: Names = None, seeds: Seeds = SEEDS) -> None:
    """SASRec and HSTU in the papers' leave-one-out protocol, beside printed figures."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}. Write mtmh bench published FOLDER.")
    names, data = named(models, tuple(MODELS)), fingerprint(folder)
    for seed in range(seeds):
        for order in ORDERS:
            for name in names:
                # Nothing is left to chance in a floor over the file's own order.
                if name in FLOORS and order == "file" and seed:
                    continue
                row = measured(folder, data, order, name, seed)
                keep(folder, order, name, seed, row)
                print(f"{order}, {name}, seed {seed}: {row['unseen']}", flush=True)
    show(short_name(str(folder)))


def measured(folder: Path, data: str, order: Order, name: str, seed: int) -> Row:
    """One model's figures at one seed and order; what is there is read and not trained again."""
    recipe = {
        "data": data,
        "order": order,
        "model": name,
        "seed": seed,
        "settings": NETWORKS[name].recipe if name in NETWORKS else {},
        "sources": [Path(str(module.__file__)).read_text() for module in SOURCES],
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    file = scratch(str(folder)) / "published" / f"{key}.json"
    if not file.exists():
        print(f"published: {order}, {name}, seed {seed}", flush=True)
        split, started = load(folder, order, seed), time.perf_counter()
        score, notes = MODELS[name](split, seed)
        seconds = round(time.perf_counter() - started, 1)
        rank = ranks(score, split.before_test, split.test)
        row: Row = {
            kind: {name: round(value, 5) for name, value in figures(among).items()}
            for kind, among in rank.items()
        }
        write_json({**row, **notes, "seconds": seconds, "commit": result.commit()}, file)
    row = json.loads(file.read_text())
    return row


def keep(folder: Path, order: Order, name: str, seed: int, row: Row) -> None:
    """The row into published_<data>.json, beside what is there of the same protocol."""
    file = result.FOLDER / f"published_{short_name(str(folder))}.json"
    board: Row = json.loads(file.read_text()) if file.exists() else {}
    if board.get("protocol") != PROTOCOL:
        board = {"data": short_name(str(folder)), "protocol": PROTOCOL}
        board |= {"order_of_the_file": order_of(folder), "orders": {}}
    # Rows of the same code alone are means of one thing: a new seed 0 begins anew.
    models = board["orders"].setdefault(order, {})
    rows = models.setdefault(name, {"runs": {}})
    board["orders"][order] = {model: models[model] for model in MODELS if model in models}
    if seed == 0:
        rows["runs"] = {}
    rows["runs"][str(seed)] = row
    # The command that makes this row, all its seeds so far.
    command = ["mtmh", "bench", "published", str(folder), "--models", name, f"--seeds={seed + 1}"]
    runs = rows["runs"].values()
    # Both ways to rank, each over the seeds that are there.
    for kind in ("unseen", "all"):
        rows[kind] = {
            figure: result.spread([run[kind][figure] for run in runs]) for figure in row[kind]
        }
    settings = NETWORKS[name].recipe if name in NETWORKS else {}
    rows |= {"command": shlex.join(command), "machine": result.machine(), "settings": settings}
    result.FOLDER.mkdir(exist_ok=True)
    write_json(board, file)


def order_of(folder: Path) -> dict[str, float]:
    """What `order_within_times` says of a data folder."""
    return order_within_times(*events(folder))
