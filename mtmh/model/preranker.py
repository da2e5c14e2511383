"""The preranker: users and items to one vector a task, candidates scored by their
inner products (paper section 5).

Two towers meet only in the product, so all that an item contributes is computed once, and a
thousand candidates of a block of users are one batched product.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import softplus

from mtmh.model.two_heads import DenseNN, Head, SparseNN
from mtmh.ragged import Ragged

ENGAGEMENT, LONG_DWELL = "engagement", "long_dwell"
FLOAT_DIM = 16  # width that the layer of an item's numbers gives
ID_STD = 0.03  # small: an id that is rarely seen adds little to what the item's features say


class Towers(nn.Module):
    """Item tower, history table and user tower.

    Arguments: `vocabularies` rows of each id table (row 0 = unknown) and `dims` their widths;
    `mean` and `deviation` of the float features (empty when there are none); `content_dim`;
    `interests`, clusters that a user's history is counted over; `hidden` width of the towers' MLPs;
    `dim` of the vectors; `tasks`.
    """

    def __init__(
        self,
        vocabularies: list[int],
        dims: list[int],
        mean: Tensor,
        deviation: Tensor,
        content_dim: int,
        interests: int,
        hidden: int,
        dim: int,
        tasks: tuple[str, ...],
    ) -> None:
        super().__init__()
        float_dim = FLOAT_DIM if len(mean) else 0
        self.interests, self.tasks = interests, tasks
        # Entries of a unit vector are about 1 / sqrt(dim): scaled, about a third.
        self.content_scale = content_dim**0.5 / 3
        # A table of what an item is, another of what an event with it says of its user.
        self.sparse = SparseNN(vocabularies, dims)
        self.sparse_past = SparseNN(vocabularies, dims)
        for table in (*self.sparse.tables, *self.sparse_past.tables):
            nn.init.normal_(table.weight, std=ID_STD)
        self.dense = DenseNN(mean, deviation, float_dim) if float_dim else None
        self.past = nn.Linear(sum(dims) + content_dim, dim)
        self.age = nn.Parameter(torch.tensor(-3.0))
        item_widths = [sum(dims) + float_dim + content_dim, hidden, dim]
        user_widths = [dim + interests + 1, hidden, dim]
        self.item_heads = nn.ModuleDict({task: Head(item_widths) for task in tasks})
        self.user_heads = nn.ModuleDict({task: Head(user_widths) for task in tasks})

    def items(self, ids: Tensor, floats: Tensor, content: Tensor, new: Tensor) -> dict[str, Tensor]:
        """Candidates to {task: float32 [n, dim]}.

        `ids` int64 [n, id features], the item's own first; `floats` float32 [n, float features];
        `content` float32 [n, content_dim], unit rows or zero; `new` bool [n]: items to be seen as
        if nobody had engaged with them, their own id unknown and their floats those of the average
        item.
        """
        item_id = torch.where(new, 0, ids[:, 0])
        id_vectors = self.sparse(torch.cat([item_id[:, None], ids[:, 1:]], dim=1))
        parts = [id_vectors, content * self.content_scale]
        if self.dense is not None:
            parts.append(self.dense(torch.where(new[:, None], self.dense.mean, floats)))
        bottom = torch.cat(parts, dim=1)
        return {task: head(bottom) for task, head in self.item_heads.items()}

    def history(self, ids: Tensor, content: Tensor) -> Tensor:
        """What an item says about who engaged with it: float32 [n, dim];
        arguments as of `items`.
        """
        parts = [self.sparse_past(ids), content * self.content_scale]
        vector: Tensor = self.past(torch.cat(parts, dim=1))
        return vector

    def users(
        self,
        past: Tensor,
        interest: Tensor,
        row: Tensor,
        age: Tensor,
        users: int,
    ) -> dict[str, Tensor]:
        """Histories to {task: float32 [users, dim]}.

        One entry an event of a history: `past` float32 [E, dim] of `history`, `interest` int64 [E]
        its cluster, `row` int64 [E] its user, `age` float32 [E] the events after it (0 = the
        newest).
        """
        # The mean of the events' vectors; older ones count less, at a rate that is learned.
        weight = torch.exp(-softplus(self.age) * age)
        total = past.new_zeros(users).index_add(0, row, weight).clamp_min(1e-6)
        sums = past.new_zeros(users, past.shape[1]).index_add(0, row, past * weight[:, None])
        mean = sums / total[:, None]
        # Each cluster's share of the events: what a mean over several tastes blurs.
        events = past.new_zeros(users).index_add(0, row, torch.ones_like(age))
        cell = row * self.interests + interest
        counts = past.new_zeros(users * self.interests).index_add(0, cell, torch.ones_like(age))
        shares = counts.view(users, self.interests) / events.clamp_min(1)[:, None]
        profile = torch.cat([mean, shares, torch.log1p(events)[:, None]], dim=1)
        return {task: head(profile) for task, head in self.user_heads.items()}


@dataclass(frozen=True)
class Preranker:
    """The trained towers with what they say of every item of the catalog, row = item."""

    towers: Towers
    past: Tensor  # float32 [items, dim]
    interest: Tensor  # int64 [items]
    items: dict[str, Tensor]  # task -> float32 [items, dim]
    new: Tensor  # bool [items], cold: T1 does not know them
    weights: dict[str, float]  # of the tasks' logits, beside log p(candidate | user) of retrieval
    candidates: int  # of each head that are ranked

    @classmethod
    def load(cls, version: Path) -> "Preranker":
        """Read preranker.safetensors and preranker.json of a version directory."""
        metadata = json.loads((version / "preranker.json").read_text())
        # The file holds the towers' weights beside the tables of every item.
        tensors = load_file(version / "preranker.safetensors")
        tables = {name: tensors.pop(name) for name in list(tensors) if name.startswith("table.")}
        towers = build_towers(metadata["architecture"])
        towers.load_state_dict(tensors)
        items = {task: tables[f"table.{task}"] for task in towers.tasks}
        return cls(
            towers=towers.eval(),
            past=tables["table.past"],
            interest=tables["table.interest"],
            items=items,
            new=tables["table.new"],
            weights=metadata["weights"],
            candidates=metadata["candidates"],
        )

    def save(self, out: Path, metadata: dict[str, Any]) -> None:
        """Write both files; `metadata` holds the architecture (see
        `build_towers`) and any notes.
        """
        tables = {"table.past": self.past, "table.interest": self.interest, "table.new": self.new}
        tables |= {f"table.{task}": vectors for task, vectors in self.items.items()}
        tensors = self.towers.state_dict() | tables
        tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        save_file(tensors, out / "preranker.safetensors")
        (out / "preranker.safetensors").chmod(0o644)  # safetensors lets the owner alone read it
        metadata = {**metadata, "weights": self.weights, "candidates": self.candidates}
        (out / "preranker.json").write_text(json.dumps(metadata))

    def nearest_interests(self, content: np.ndarray, added: np.ndarray) -> np.ndarray:
        """The cluster of each item of `added`, int64 [n]; the last is of items without content.

        A cluster's centre is the mean direction of its items that T1 knows: what K-means itself
        ended with, once it has converged. `content` float32 [items, c] is of the items that are
        here, `added` float32 [n, c].
        """
        interests = self.towers.interests
        cluster = self.interest.numpy()
        in_train = content.any(axis=1) & ~self.new.numpy()
        centres = np.zeros((interests - 1, content.shape[1]), np.float32)
        np.add.at(centres, cluster[in_train], content[in_train])
        nearest = np.full(len(added), interests - 1, np.int64)
        # An item without content stays with its like.
        has_content = added.any(axis=1)
        if len(centres) and has_content.any():
            faiss.normalize_L2(centres)
            nearest[has_content] = (added[has_content] @ centres.T).argmax(axis=1)
        return nearest

    @torch.inference_mode()
    def extended(self, ids: Tensor, content: Tensor, interest: Tensor) -> "Preranker":
        """A preranker with n more items, which T1 does not know, after those that it has.

        `ids` int64 [n, id features], `content` float32 [n, content_dim] and `interest` int64 [n],
        its cluster.
        """
        # Floats of a new item are not read: it counts as the average one.
        n_floats = 0 if self.towers.dense is None else len(self.towers.dense.mean)
        floats = content.new_zeros(len(ids), n_floats)
        new = torch.ones(len(ids), dtype=torch.bool)
        items = self.towers.items(ids, floats, content, new)
        return replace(
            self,
            past=torch.cat([self.past, self.towers.history(ids, content)]),
            interest=torch.cat([self.interest, interest]),
            items={task: torch.cat([vectors, items[task]]) for task, vectors in self.items.items()},
            new=torch.cat([self.new, new]),
        )

    @torch.inference_mode()
    def users(self, history: Ragged) -> dict[str, Tensor]:
        """{task: float32 [U, dim]} of histories, items int32 newest first."""
        row = torch.from_numpy(history.row_of)
        age = torch.from_numpy(history.position_of.astype(np.float32))
        item = torch.from_numpy(history.values.astype(np.int64))
        return self.towers.users(self.past[item], self.interest[item], row, age, history.rows)


def build_towers(architecture: dict[str, Any]) -> Towers:
    """Towers with fresh weights from what preranker.json says of them."""
    arrays = {name: torch.tensor(architecture[name]) for name in ("mean", "deviation")}
    return Towers(**{**architecture, **arrays, "tasks": tuple(architecture["tasks"])})
