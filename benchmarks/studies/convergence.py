"""How fast the embeddings of new items settle, with and without the relevance loss (paper, Figure
7).

New items are those first engaged with in the last fifth of T1's events. The model learns one epoch
from the pairs that hold none of them, drawing no negative from them either; then they arrive, and
it goes on over all pairs of T1, shuffled, until most have had UPDATES updates. An update of an item
is a step whose batch holds it, as trigger, positive or negative: the paper's 2000 do not exist in
data of this size. Both runs differ in w_r alone: the default, and 0.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.result import FOLDER, write
from benchmarks.studies.arrival import Arrival, run_stages
from benchmarks.studies.grids import DATA, SEEDS
from benchmarks.studies.study import Data, Seeds, Settings, config_of, existing, short_name
from benchmarks.style import COLORS, QUIET, save, styled
from mtmh.config import Config, TrainSettings
from mtmh.data.sampler import Batch
from mtmh.heads import HEADS
from mtmh.model.catalog import Catalog
from mtmh.model.two_heads import TwoHeads, build_model
from mtmh.training.step import pick_step

UPDATES = 100
ENOUGH = 0.9  # share of the new items that must have had UPDATES updates
WITH, WITHOUT = "with the relevance loss", "without (w_r = 0)"
STEP = pick_step("auto", torch.device("cpu"), torch.float32)
EMBEDDINGS = {"id": "item-id embedding", "relevance": "relevance head's vector"}

# embedding -> float32 [new items, UPDATES + 1, d], after each update; 0 = before any
Paths = dict[str, np.ndarray]


def main(data: Data = DATA, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Updates until new items are half as far from where they end up, with and without the
    relevance loss."""
    for source in existing(data):
        curves = compare(source, config_of(source, tuple(settings or ())), seeds)
        save(draw({short_name(source): curves}), FOLDER / f"convergence_{short_name(source)}.png")


def compare(folder: str, config: Config, seeds: int) -> dict[str, Any]:
    """Measure one data set and keep the result; returns {run: {embedding: distances [seeds, UPDATES
    + 1]}}."""
    with tempfile.TemporaryDirectory() as work:
        world = Arrival.of(*run_stages(folder, Path(work), config))
    runs: dict[str, list[tuple[Paths, int]]] = {WITH: [], WITHOUT: []}
    # Both runs of a seed begin with the same weights and batches.
    for seed in range(seeds):
        for run, w_r in ((WITH, config.train.w_r), (WITHOUT, 0.0)):
            settings = config.train.model_copy(update={"w_r": w_r})
            runs[run].append(follow(world, settings, seed))
            print(
                f"convergence: {short_name(folder)}, seed {seed}, {run}:"
                f" {runs[run][-1][1]:,} steps",
                flush=True,
            )
    distances = {
        run: {
            name: np.stack([distance(paths[name]) for paths, _ in trained]) for name in EMBEDDINGS
        }
        for run, trained in runs.items()
    }
    _write(folder, world, config, runs, distances)
    return distances


def follow(world: Arrival, settings: TrainSettings, seed: int) -> tuple[Paths, int]:
    """Train, and return the embeddings of the new items that had UPDATES updates, and the steps
    after their arrival."""
    torch.sparse.check_sparse_tensor_invariants.disable()
    torch.manual_seed(seed)
    shape = world.catalog.architecture(
        settings.embedding_dim, settings.hidden, settings.out_dim, HEADS
    )
    model = build_model(shape)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=settings.lr)
    law = {name: getattr(settings, name) for name in ("tau_p", "tau_q", "logq")}
    law["weights"] = settings.loss_weights()

    def train(batch: Batch) -> None:
        ids, floats = world.catalog.ids[batch.items], world.catalog.floats[batch.items]
        vectors = STEP.vectors(model, ids, floats)
        total, _ = STEP.objective_loss(vectors, world.content[batch.items], batch, **law)
        total.backward()
        STEP.update(optimizer)

    for batch in world.batches(settings, seed, arrived=False):
        train(batch)
    # Embedding 0 of each new item is the one before its first update.
    new = np.arange(world.old, world.in_train)
    now = _embeddings(model, world.catalog, new)
    paths = {
        name: np.zeros((len(new), UPDATES + 1, rows.shape[1]), np.float32)
        for name, rows in now.items()
    }
    for name, rows in now.items():
        paths[name][:, 0] = rows
    count = np.zeros(len(new), np.int64)
    steps = 0
    for batch in world.batches(settings, seed, arrived=True):
        train(batch)
        steps += 1
        # An update of an item is a step whose batch holds it.
        items = batch.items.numpy()
        items = items[items >= world.old] - world.old
        items = items[count[items] < UPDATES]
        count[items] += 1
        for name, rows in _embeddings(model, world.catalog, items + world.old).items():
            paths[name][items, count[items]] = rows
        # Rare items would take for ever: most of them must do.
        if (count == UPDATES).mean() >= ENOUGH:
            break
    return {name: path[count == UPDATES] for name, path in paths.items()}, steps


def distance(path: np.ndarray) -> np.ndarray:
    """L2 distance to the last embedding divided by its norm, mean over the items, float64 [UPDATES
    + 1]."""
    apart = np.linalg.norm(path - path[:, -1:], axis=2) / np.linalg.norm(path[:, -1:], axis=2)
    return np.asarray(apart.mean(axis=0, dtype=np.float64))


def halved(curve: np.ndarray) -> int:
    """Updates until the distance is half of that before the first: how fast, whatever the way there
    is."""
    return int(np.argmax(curve <= curve[0] / 2))


@styled
def draw(data_sets: dict[str, dict[str, dict[str, np.ndarray]]]) -> Figure:
    """A row of pictures a data set, one an embedding: the mean over the seeds, with their range."""
    figure = Figure(figsize=(9.6, 3.4 * len(data_sets)), layout="constrained")
    grid = figure.subplots(len(data_sets), len(EMBEDDINGS), squeeze=False)
    for row, (data, runs) in zip(grid, data_sets.items(), strict=True):
        for axes, (name, words) in zip(row, EMBEDDINGS.items(), strict=True):
            for (run, curves), color, dash in zip(
                runs.items(), (COLORS["relevance"], QUIET), ("-", "--"), strict=True
            ):
                # The mean over the seeds in their range, and a dot where it is halved.
                mean, updates = curves[name].mean(axis=0), np.arange(curves[name].shape[1])
                least, most = curves[name].min(axis=0), curves[name].max(axis=0)
                axes.fill_between(updates, least, most, color=color, alpha=0.2, linewidth=0)
                label = f"{run}, halved after {halved(mean)}"
                axes.plot(updates, mean, color=color, linestyle=dash, label=label)
                axes.plot(halved(mean), mean[halved(mean)], "o", color=color)
            axes.set_ylim(bottom=0)
            axes.margins(x=0.01)
            axes.set_title(f"{data}: {words}", size=11, loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel(f"distance to that after {UPDATES} updates,\nshare of its norm")
    for axes in grid[-1]:
        axes.set_xlabel("updates of a new item")
    for axes in grid.flat:
        axes.legend(frameon=False, fontsize=9.5)
    return figure


@torch.no_grad()
def _embeddings(model: TwoHeads, catalog: Catalog, items: np.ndarray) -> dict[str, np.ndarray]:
    """The row of the id table and the relevance head's vector, float32 [n, d] each."""
    rows = torch.from_numpy(items)
    ids = catalog.ids[rows]
    vectors = model(ids, catalog.floats[rows])["relevance"]
    return {"id": model.sparse.tables[0](ids[:, 0]).numpy(), "relevance": vectors.numpy()}


def _write(
    folder: str,
    world: Arrival,
    config: Config,
    runs: dict[str, list[tuple[Paths, int]]],
    distances: dict[str, dict[str, np.ndarray]],
) -> None:
    figures_by_run: dict[str, Any] = {}
    for run, trained in runs.items():
        figures_by_run[run] = {
            # Not every new item had enough updates: how many did depends on the seed.
            "items": [len(paths["id"]) for paths, _ in trained],
            "steps": [steps for _, steps in trained],
        }
        for name, curves in distances[run].items():
            # Undivided as well: the norms differ between the runs, and a share would hide it.
            plain = [
                np.linalg.norm(paths[name] - paths[name][:, -1:], axis=2).mean(axis=0)
                for paths, _ in trained
            ]
            figures_by_run[run][name] = {
                "mean_share_of_norm": np.round(curves.mean(axis=1), 4).tolist(),
                "updates_until_halved": [halved(curve) for curve in curves],
                "curve_share_of_norm": np.round(curves.mean(axis=0), 4).tolist(),
                "curve": np.round(np.mean(plain, axis=0), 4).tolist(),
            }
    details = {
        "metric": "L2 distance of an item's embedding after t of its updates to that after"
        f" {UPDATES}, divided by the norm of that, mean over the new items: updates until it is"
        " half of that at t = 0, mean over the seeds",
        "baseline": f"the same without the relevance loss (w_r 0 in place of {config.train.w_r})",
        "seeds": list(range(len(runs[WITH]))),
        "new_items": world.in_train - world.old,
        "old_items": world.old,
        "embeddings": EMBEDDINGS,
        "runs": figures_by_run,
    }
    # The figure of the result is the id embedding's; the head's vector stands beside it.
    value, baseline = (
        float(np.mean(figures_by_run[run]["id"]["updates_until_halved"])) for run in (WITH, WITHOUT)
    )
    unit = "updates until the id embedding's distance is halved"
    write(f"convergence_{short_name(folder)}", value, unit, baseline, details)
    for run, figures in figures_by_run.items():
        for name, words in EMBEDDINGS.items():
            row = figures[name]
            print(
                f"  {run}, {words}: mean {row['mean_share_of_norm']},"
                f" halved after {row['updates_until_halved']}"
            )
