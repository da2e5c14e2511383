"""The work of the stages between the data and a version: each reads the folders before it and
writes its own.

What they share is their form: `write(folders, out, settings, seed, scratch)`. `settings` are those
of the stage's section, `scratch` is a folder that outlives a run which is cut short. UserError is
raised as by the function called.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mtmh.config import (
    ContentSettings,
    DataSettings,
    PairSettings,
    PrerankSettings,
    RetrievalSettings,
    TrainSettings,
)
from mtmh.stages import StageFolders


class Artifact(Protocol):
    """An artifact as Kubeflow gives it to a step."""

    path: str


def folders_of(**artifacts: Artifact) -> StageFolders:
    """The folders of the artifacts that a step was given."""
    return StageFolders(**{name: Path(artifact.path) for name, artifact in artifacts.items()})


def write_content(
    folders: StageFolders,
    out: Path,
    settings: ContentSettings,
    seed: int,
    scratch: Path,
) -> None:
    """Vectors of the items; those of the frozen backbones are cached in `scratch`."""
    from mtmh.content.encode import encode

    encode(folders.prepared, out, settings, scratch, seed)


def write_features(
    folders: StageFolders,
    out: Path,
    settings: DataSettings,
    seed: int,
    scratch: Path,
) -> None:
    """What the feature store knows of the items at the split."""
    from feature_repo.stage import build_features

    build_features(folders.prepared, out, settings)


def write_pairs(
    folders: StageFolders,
    out: Path,
    settings: PairSettings,
    seed: int,
    scratch: Path,
) -> None:
    """Weighted pairs (trigger, candidate)."""
    from mtmh.data.pairs import write_pairs

    write_pairs(folders.prepared, folders.content, out, settings)


def write_model(
    folders: StageFolders,
    out: Path,
    settings: TrainSettings,
    seed: int,
    scratch: Path,
) -> None:
    """Both heads; a training that was cut short goes on from its last checkpoint in `scratch`."""
    from mtmh.retrieval.neighbours import stage_neighbours
    from mtmh.training.train import train

    inputs = folders.prepared, folders.features, folders.content, folders.pairs
    hard = settings.hard_negatives > 0
    neighbours = stage_neighbours(folders.prepared, folders.content, seed) if hard else None
    train(*inputs, out, settings, seed, scratch, neighbours)


def write_preranker(
    folders: StageFolders,
    out: Path,
    settings: PrerankSettings,
    seed: int,
    scratch: Path,
) -> None:
    """The preranker."""
    from mtmh.training.preranker import train_preranker

    train_preranker(folders.prepared, folders.features, folders.content, out, settings, seed)


def write_retriever(
    folders: StageFolders,
    out: Path,
    settings: RetrievalSettings,
    seed: int,
    scratch: Path,
) -> None:
    """A version: weights, an index a head, the preranker, the item table, the manifest."""
    from mtmh.retrieval.version import build

    inputs = folders.prepared, folders.features, folders.content, folders.model
    build(*inputs, out, settings, seed, folders.preranker)


WRITERS: dict[str, Callable[..., None]] = {
    "content": write_content,
    "features": write_features,
    "pairs": write_pairs,
    "train": write_model,
    "preranker": write_preranker,
    "index": write_retriever,
}
