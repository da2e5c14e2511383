"""The stages from an interaction log to a judged version: what each makes, reads and is set by.

This is the one list of them. Pipelines, trials, benchmarks and tests run what stands here; a
stage's work itself lies in the room that it belongs to (components/writers.py calls it).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """A stage; its result is a folder, the artifact."""

    name: str
    artifact: str
    needs: tuple[str, ...]  # artifacts of the stages before it
    sections: tuple[str, ...]  # of `mtmh.config.Config`: its settings
    seeded: bool = True


STAGES = (
    Stage("prepare", "prepared", (), ("data",)),
    Stage("content", "content", ("prepared",), ("content",)),
    Stage("features", "features", ("prepared",), ("data",), seeded=False),
    Stage("pairs", "pairs", ("prepared", "content"), ("pairs",), seeded=False),
    Stage("train", "model", ("prepared", "features", "content", "pairs"), ("train",)),
    Stage("preranker", "preranker", ("prepared", "features", "content"), ("prerank",)),
    Stage(
        "index",
        "retriever",
        ("prepared", "features", "content", "model", "preranker"),
        ("retrieval",),
    ),
    Stage("evaluate", "result", ("prepared", "content", "retriever"), ("retrieval", "evaluation")),
    Stage("gate", "verdict", ("prepared", "result"), ("gate",)),
)
NOT_MADE = Path("/this-stage-was-not-made")


@dataclass(frozen=True)
class StageFolders:
    """The folder of each stage's artifact; of a stage that was not made, one that
    does not exist.
    """

    prepared: Path = NOT_MADE
    content: Path = NOT_MADE
    features: Path = NOT_MADE
    pairs: Path = NOT_MADE
    model: Path = NOT_MADE
    preranker: Path = NOT_MADE
    retriever: Path = NOT_MADE
    result: Path = NOT_MADE
    verdict: Path = NOT_MADE

    def by_stage(self) -> Iterator[tuple[Stage, Path]]:
        """The stages that were made with their folders, in the order of the list."""
        for stage in STAGES:
            folder: Path = getattr(self, stage.artifact)
            if folder != NOT_MADE:
                yield stage, folder
