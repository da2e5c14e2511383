"""Questions to Triton over gRPC, and what equal answers are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc

from helpers.small_version import RETRIEVAL
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Request, Retriever
from serving.triton.supervisor import Triton, load

TYPES = {"trigger": "BYTES", "exclude": "BYTES", "k_ann": "INT32", "id_features": "BYTES"}
TYPES |= {"float_features": "FP32", "content": "FP32"}


@dataclass(frozen=True)
class Question:
    """A request's inputs; features are rows aligned with `trigger`, or nothing."""

    trigger: Sequence[str]
    exclude: Sequence[str] = ()
    k_ann: int = 200
    id_features: Sequence[str] = ()
    float_features: Any = field(default_factory=list)
    content: Any = field(default_factory=list)

    def inputs(self) -> list[grpc.InferInput]:
        numbers = {"k_ann": np.int32, "float_features": np.float32, "content": np.float32}
        inputs = []
        for name, kind in TYPES.items():
            told = getattr(self, name)
            if kind == "BYTES":
                values = np.array([text.encode() for text in told], object)
            else:
                values = np.array(told, numbers[name])
            values = values.reshape(1, -1)
            inputs.append(grpc.InferInput(name, list(values.shape), kind))
            inputs[-1].set_data_from_numpy(values)
        return inputs


@dataclass(frozen=True)
class Serving:
    """A Triton over a store, and a client of it."""

    triton: Triton
    client: grpc.InferenceServerClient
    store: Path

    def load(self, version: str) -> None:
        """Load a version that a test needs beside the champion."""
        load(self.triton, self.store, version)


def ask(
    client: grpc.InferenceServerClient, model: str, question: Question
) -> dict[str, np.ndarray]:
    """The model's outputs, without the batch dimension."""
    answer = client.infer(model, question.inputs())
    return {
        output.name: answer.as_numpy(output.name)[0] for output in answer.get_response().outputs
    }


def ids_of(retriever: Retriever) -> list[str]:
    return [str(item) for item in retriever.items["item_id"].to_pylist()]


def offline(
    retriever: Retriever, head: str, rows: np.ndarray, seen: np.ndarray, k_ann: int
) -> tuple[np.ndarray, ...]:
    """Item, score and trigger of one user's pool, as wide as Triton's answers."""
    triggers, hidden = Ragged.of([rows]), Ragged.of([seen])
    size = retriever.depth(RETRIEVAL.pool)
    pool = retriever.pools(Request(triggers, hidden, k_ann, size, RETRIEVAL.temperature))[head]
    return pool.item[0], pool.score[0], pool.trigger[0]


def assert_same(
    item: np.ndarray, score: np.ndarray, expected: np.ndarray, expected_score: np.ndarray
) -> None:
    """Scores agree place by place, as float32 sums do; so do the items, but for the order among
    equal scores.
    """
    there = expected >= 0
    np.testing.assert_array_equal(item >= 0, there)
    np.testing.assert_allclose(score[there], expected_score[there], rtol=2e-5, atol=1e-7)
    last = expected_score[there][-1] if there.any() else 0.0
    of = dict(zip(expected[there].tolist(), expected_score[there].tolist(), strict=True))
    for place in np.flatnonzero(item != expected):
        known = of.get(
            int(item[place]), last
        )  # what the end of the list cuts off may tie with its last
        np.testing.assert_allclose(known, expected_score[place], rtol=2e-5, atol=1e-7)
