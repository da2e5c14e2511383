"""Stage preranker: both towers on the histories of T1."""

from dataclasses import dataclass, fields
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mtmh.clock import Progress
from mtmh.config import PrerankSettings
from mtmh.data.prepared import Prepared
from mtmh.data.user_examples import NextBatch, NextItems
from mtmh.device import pick_device
from mtmh.model.catalog import Catalog, moments
from mtmh.model.losses import MASKED
from mtmh.model.preranker import ENGAGEMENT, LONG_DWELL, Preranker, Towers, build_towers

MAX_HISTORY = 50  # items of a history that the user tower reads: as many as there are triggers


def train_preranker(
    prepared: Path, features: Path, content: Path, out: Path, settings: PrerankSettings, seed: int
) -> None:
    """Train and write preranker.safetensors and preranker.json (see `Preranker`);
    nothing with `prerank.use: false`.

    Every item of a T1 history is a positive, ranked against sampled negatives by what the user
    engaged with before it: the data's impressions, where there are any, are not read. Long dwell is
    learned on the same positives, where the data has dwell times. Raises UserError when the device
    is not there.
    """
    if not settings.use:
        print("preranker: off (prerank.use: false): each pool keeps its own order", flush=True)
        return
    data = Prepared.load(prepared)
    catalog = Catalog.load(data, features)
    vectors = np.load(content / "content.npy")
    # The tasks: engagement, and long dwell where the data has dwell times.
    is_long, seconds = long_dwell(data, settings.long_dwell)
    tasks = [ENGAGEMENT] if seconds is None else [ENGAGEMENT, LONG_DWELL]
    if seconds is None:
        print("preranker: the data has no dwell times: it learns engagement alone", flush=True)
    interest, interests = interests_of(vectors, data.in_train, settings.interests, seed)
    # Floats are standardized over the items that T1 knows: of the others it has no statistics.
    widths = catalog.architecture(settings.dim, [], settings.dim, ())
    mean, deviation = moments(catalog.floats[torch.from_numpy(data.in_train)])
    architecture = {
        "vocabularies": widths["vocabularies"],
        "dims": widths["dims"],
        "mean": mean,
        "deviation": deviation,
        "content_dim": vectors.shape[1],
        "interests": interests,
        "hidden": settings.hidden,
        "dim": settings.dim,
        "tasks": tasks,
    }
    torch.manual_seed(seed)
    towers = build_towers(architecture)
    examples = NextItems(
        data.train_histories(),
        is_long,
        data.n_items,
        settings.batch_size,
        settings.negatives,
        MAX_HISTORY,
        seed,
    )
    device = pick_device(settings.device, "prerank.device")
    content_and_interest = torch.from_numpy(vectors), torch.from_numpy(interest)
    table = ItemTensors(catalog.ids, catalog.floats, *content_and_interest).to(device)
    fit(towers, examples, table, settings, device)
    # What serves is computed on the CPU, for every item at once.
    weights = {ENGAGEMENT: settings.weight, LONG_DWELL: settings.long_dwell_weight}
    weights = {task: weights[task] for task in tasks}
    new = torch.from_numpy(~data.in_train)
    table = table.to(torch.device("cpu"))
    ranker = precompute_items(towers.cpu(), table, new, weights, settings.candidates)
    ranker.save(out, {"architecture": architecture, "long_dwell_seconds": seconds})


@dataclass(frozen=True)
class ItemTensors:
    """What the towers read of every item, row = item."""

    ids: Tensor  # int64 [items, id features]
    floats: Tensor  # float32 [items, float features]
    content: Tensor  # float32 [items, c]
    interest: Tensor  # int64 [items]

    def to(self, device: torch.device) -> "ItemTensors":
        """The same on `device`."""
        return ItemTensors(
            self.ids.to(device),
            self.floats.to(device),
            self.content.to(device),
            self.interest.to(device),
        )


def fit(
    towers: Towers,
    examples: NextItems,
    table: ItemTensors,
    settings: PrerankSettings,
    device: torch.device,
) -> None:
    """Train `towers` in place with Adam, `settings.epochs` times over the examples."""
    torch.sparse.check_sparse_tensor_invariants.disable()  # unset, the sparse optimizer step warns
    towers.to(device).train()
    # The id tables have sparse gradients, and an optimizer that touches only their rows.
    tables = [weight for name, weight in towers.named_parameters() if name.startswith("sparse")]
    rest = [weight for name, weight in towers.named_parameters() if not name.startswith("sparse")]
    optimizers = [
        torch.optim.SparseAdam(tables, lr=settings.lr),
        torch.optim.Adam(rest, lr=settings.lr),
    ]
    progress = Progress("preranker", settings.epochs * len(examples.examples), "examples")
    for epoch in range(settings.epochs):
        for batch in examples.epoch(epoch):
            batch = NextBatch(**{f.name: getattr(batch, f.name).to(device) for f in fields(batch)})
            # Some items are shown as new, so that the towers learn to rank cold ones.
            new = torch.rand(len(batch.columns), device=device) < settings.new_share
            loss = objective(towers, batch, table, new)
            towers.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            progress.advance(len(batch.positive), f"loss {loss.item():.3f}")


def objective(towers: Towers, batch: NextBatch, table: ItemTensors, new: Tensor) -> Tensor:
    """The sum of the tasks' losses, a scalar.

    Each is a sampled softmax over the columns with logQ correction, so that a logit estimates the
    log of p(item | user) up to a constant: of the next engagement on all positives, of the next
    long one on those with a long dwell time.
    """
    items = batch.columns
    columns = towers.items(table.ids[items], table.floats[items], table.content[items], new)
    past = towers.history(table.ids[batch.past], table.content[batch.past])
    interest = table.interest[batch.past][batch.event]
    # Not past[event]: its gradient is summed in the order in which threads
    # come, other bits each time.
    entries = past.index_select(0, batch.event)
    users = towers.users(entries, interest, batch.row, batch.age, len(batch.positive))
    positive = batch.positive.unsqueeze(1)
    losses = []
    for task in towers.tasks:
        # A column drawn m times counts m times; its positive counts once, an accidental hit never.
        logits = users[task] @ columns[task].T + (batch.log_count - batch.log_q)
        logits = logits.scatter_add(1, positive, -batch.log_count[positive])
        logits = logits.index_put((batch.hit_row, batch.hit_column), logits.new_tensor(MASKED))
        loss = cross_entropy(logits, batch.positive, reduction="none")
        losses.append(loss.mean() if task == ENGAGEMENT else (loss * (batch.label == 1)).mean())
    return torch.stack(losses).sum()


@torch.inference_mode()
def precompute_items(
    towers: Towers, table: ItemTensors, new: Tensor, weights: dict[str, float], candidates: int
) -> Preranker:
    """What serves: the towers and their tables of every item; `new` bool [items],
    those that T1 does not know.
    """
    towers.eval()
    items = towers.items(table.ids, table.floats, table.content, new)
    past = towers.history(table.ids, table.content)
    return Preranker(towers, past, table.interest, items, new, weights, candidates)


def long_dwell(data: Prepared, quantile: float) -> tuple[np.ndarray, float | None]:
    """Of each entry of T1's histories whether its last engagement was a long one,
    float32 1, 0, or NaN = not known.

    Long is at or above the `quantile` of T1's dwell times; the second value, None when no event of
    T1 has one.
    """
    history = data.train_histories()
    label = np.full(len(history.values), np.nan, dtype=np.float32)
    events = pq.read_table(data.path / "interactions.parquet", columns=["dwell_seconds"])
    dwell = events["dwell_seconds"].to_numpy()
    has_dwell = data.is_train & ~np.isnan(dwell)
    if not has_dwell.any():
        return label, None
    seconds = float(np.quantile(dwell[has_dwell], quantile))
    # The newest event of each user with each item: backwards, it is the first.
    pairs = data.user[has_dwell].astype(np.int64) * data.n_items + data.item[has_dwell]
    keys, newest = np.unique(pairs[::-1], return_index=True)
    entry = history.row_of * data.n_items + history.values
    position = np.minimum(np.searchsorted(keys, entry), len(keys) - 1)
    is_labelled = keys[position] == entry
    label[is_labelled] = dwell[has_dwell][::-1][newest[position[is_labelled]]] >= seconds
    return label, seconds


def interests_of(
    content: np.ndarray,
    in_train: np.ndarray,
    count: int,
    seed: int,
) -> tuple[np.ndarray, int]:
    """K-means over the content of T1's items: each item's cluster, int64 [items],
    and how many there are.

    Items without content share one more. `content` float32 [items, c], unit rows or zero;
    `in_train` bool [items].
    """
    # T1's items make the clusters; every item with content then goes to the nearest one.
    has_content = content.any(axis=1)
    points = content[has_content & in_train]
    count = min(count, len(points))
    interest = np.full(len(content), count, dtype=np.int64)
    if count:
        means = faiss.Kmeans(
            content.shape[1],
            count,
            niter=10,
            seed=seed,
            spherical=True,
            min_points_per_centroid=1,
        )
        means.train(points)
        interest[has_content] = means.index.search(content[has_content], 1)[1][:, 0]
    return interest, count + 1
