"""Items that a version does not hold, as it would see them: content, numbers, vectors."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mtmh.config import Config, RetrievalSettings, load_config
from mtmh.content.encode import item_text
from mtmh.content.encoder import CARD, ContentEncoder
from mtmh.data.contract import STATISTICS
from mtmh.data.quarantine import check_items, worst
from mtmh.errors import UserError
from mtmh.model.catalog import number_ids
from mtmh.model.two_heads import TwoHeads, load_model

ITEMS = "the new items"  # their name in messages


@dataclass(frozen=True)
class Encoded:
    """What a version makes of n items that nobody has engaged with."""

    content: np.ndarray  # float32 [n, c], unit rows; zero without text and image
    ids: Tensor  # int64 [n, id features], 0 = unknown; the first, the item's own, is
    floats: Tensor  # float32 [n, float features]; the statistics are 0: no events yet, and no age
    vectors: dict[str, np.ndarray]  # head -> float32 [n, d], unit rows, by ids and floats
    has_features: np.ndarray  # bool [n]; items without any feature are all alike


@dataclass(frozen=True)
class Intake:
    """All that a version needs to take new items in: content encoder, model, and
    how its index was made.

    >>> intake = Intake.load(Path("runs/latest"))  # doctest: +SKIP
    >>> add_items(query.load(Path("runs/latest")), pq.read_table("today.parquet"), intake)  #
    doctest: +SKIP
    """

    encoder: ContentEncoder | None  # None where no item of the training had a text or an image
    content_dim: int
    model: TwoHeads
    vocabularies: dict[str, list[str]]  # id feature -> values in T1, number = position + 1
    defaults: dict[str, float]  # float feature -> its value where a new item has none
    tau_q: float
    settings: RetrievalSettings
    seed: int
    root: Path = Path()  # folder that the items' image paths are relative to

    @classmethod
    def load(
        cls,
        run: Path,
        device: str = "auto",
        cache: Path | None = None,
        root: Path = Path(),
    ) -> "Intake":
        """Of a run directory, or of a version directory (with a run's default
        settings where it has none of its own).

        `cache` is a folder of backbone vectors to read from and add to, or None: a text in it costs
        nothing. Raises UserError when `run` is neither, or a backbone of the encoder is no longer
        the one it was trained with.
        """
        version = run / "retriever" if (run / "retriever").is_dir() else run
        if not (version / "model.json").is_file():
            raise UserError(
                f"{run} holds no version: give a run, such as runs/latest, or a retriever "
                f"directory."
            )
        metadata = json.loads((version / "model.json").read_text())
        config = load_config(run / "config.yaml") if (run / "config.yaml").is_file() else Config()
        # A number that a new item lacks is taken to be that of the average item of the training.
        means = dict(zip(metadata["float_features"], metadata["architecture"]["mean"], strict=True))
        return cls(
            encoder=ContentEncoder.load(version, device, cache)
            if (version / CARD).is_file()
            else None,
            content_dim=np.load(version / "content.npy", mmap_mode="r").shape[1],
            model=load_model(version),
            vocabularies=metadata["vocabularies"],
            defaults={name: 0.0 if name in STATISTICS else mean for name, mean in means.items()},
            tau_q=metadata["tau_q"],
            settings=config.retrieval,
            seed=config.seed,
            root=root,
        )

    def check(self, items: pa.Table) -> pa.Table:
        """`items` in the contract's form, with the features that the version was
        trained on, in order of item_id.

        Raises UserError when a column is missing or a row breaks the contract.
        """
        ids = [name for name in self.vocabularies if name != "item_id"]
        floats = [name for name in self.defaults if name not in STATISTICS]
        checked = check_items(items, ITEMS, ids, floats)
        if bad := checked.rejected.num_rows:
            examples = "".join(worst(checked.rejected))
            raise UserError(
                f"{bad:,} of {items.num_rows:,} new items break the contract; none was "
                f"added.{examples}"
            )
        return checked.clean.sort_by("item_id")

    @torch.inference_mode()
    def encode(self, items: pa.Table) -> Encoded:
        """What the version makes of `items`, which `check` has seen."""
        columns = []
        for name, vocabulary in self.vocabularies.items():
            columns.append(number_ids(items[name].combine_chunks(), vocabulary))
        ids = torch.from_numpy(np.column_stack(columns))
        ids[:, 0] = 0  # the item's own id is unknown by definition
        content = self._content(items)
        has_features = content.any(axis=1) | ids.any(dim=1).numpy()
        # Statistics stay 0, as those of an item without events; the other floats are the item's.
        floats = torch.zeros(len(items), len(self.defaults))
        for column, (name, default) in enumerate(self.defaults.items()):
            if name not in STATISTICS:
                values = pc.fill_null(items[name], default).to_numpy().astype(np.float32)
                floats[:, column] = torch.from_numpy(values)
                has_features |= items[name].is_valid().to_numpy()
        vectors = {head: rows.numpy() for head, rows in self.model(ids, floats).items()}
        return Encoded(content, ids, floats, vectors, has_features)

    def _content(self, items: pa.Table) -> np.ndarray:
        if self.encoder is None:
            return np.zeros((len(items), self.content_dim), np.float32)
        texts = zip(items["title"].to_pylist(), items["text"].to_pylist(), strict=True)
        images = items["image_path"].to_pylist() if "image" in self.encoder.tower.widths else None
        return self.encoder.encode([item_text(*both) for both in texts], images, self.root)
