"""Triton model <head>_<version>: trigger ids to one head's ranked candidates (embed, search, pool)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import triton_python_backend_utils as pb_utils

from .files import checked
from .scoring import Pooling, drop_self, softmax_over_list
from .unseen import Unseen

GPU_K = 2048  # most that Faiss finds for a query on a GPU


@dataclass
class Question:
    """One user's triggers, newest first; a trigger that is not in the version has row -1 and perhaps a vector."""

    place: np.ndarray  # int64 [n], of each trigger in the request
    row: np.ndarray  # int64 [n]
    vector: np.ndarray | None  # float32 [unseen triggers with features, d], in their order
    cold: int  # triggers left out: nothing is known of them
    exclude: np.ndarray  # int64, rows
    k: int


class TritonPythonModel:
    """Answers all requests of a batch with one Faiss search over their distinct triggers."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the files beside this one, checksums first."""
        folder = checked(Path(args["model_repository"]) / args["model_version"])
        self.told: dict[str, Any] = json.loads((folder / "settings.json").read_text())
        self.rows = {name.encode(): row for row, name in enumerate(json.loads((folder / "items.json").read_text()))}
        self.vectors = np.load(folder / "vectors.npy")
        self.index = faiss.read_index(str(folder / "index.faiss"))
        self.deepest = max(len(self.rows) - 1, 1)
        if args["model_instance_kind"] == "GPU" and hasattr(faiss, "StandardGpuResources"):
            self.gpu = faiss.StandardGpuResources()
            self.index = faiss.index_cpu_to_gpu(self.gpu, int(args["model_instance_device_id"]), self.index)
            self.deepest = min(self.deepest, GPU_K - 1)
        with np.load(folder / "unseen.npz") as arrays:
            self.unseen = Unseen(self.told, dict(arrays), self.vectors)
        self.pooling = Pooling(len(self.rows))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request; a request that cannot be read gets an error of its own."""
        read: list[list[Question]] = []
        wrong: dict[int, str] = {}
        for place, request in enumerate(requests):
            try:
                read.append(self._questions(request))
            except ValueError as error:
                read.append([])
                wrong[place] = str(error)
        answers = iter(self._answer([question for questions in read for question in questions]))
        return [
            _refusal(wrong[place]) if place in wrong else _response([next(answers) for _ in questions])
            for place, questions in enumerate(read)
        ]

    def _questions(self, request: Any) -> list[Question]:
        trigger, exclude, k_ann = (_input(request, name) for name in ("trigger", "exclude", "k_ann"))
        ids, floats, content = (_input(request, name) for name in ("id_features", "float_features", "content"))
        return [self._question(*row) for row in zip(trigger, exclude, k_ann[:, 0], ids, floats, content, strict=True)]

    def _question(
        self, trigger: np.ndarray, exclude: np.ndarray, k: int, ids: np.ndarray, floats: np.ndarray, content: np.ndarray
    ) -> Question:
        place = np.array([at for at, name in enumerate(trigger) if name], np.int64)
        if len(place) > (most := self.told["triggers"]):
            raise ValueError(f"trigger has {len(place)} items: this version takes {most} at most")
        row = np.array([self.rows.get(trigger[at], -1) for at in place], np.int64)
        n, told = len(trigger), self.told["features"]
        features = (
            _rows(ids, n, len(told["id"]), b"", "id_features"),
            _rows(floats, n, len(told["float"]), np.nan, "float_features"),
            _rows(content, n, told["content"], 0.0, "content"),
        )
        vector, cold = None, 0
        if len(unknown := np.flatnonzero(row < 0)):
            vector, known = self.unseen.place(*(feature[place[unknown]] for feature in features))
            cold, kept = int((~known).sum()), np.delete(np.arange(len(row)), unknown[~known])
            place, row, vector = place[kept], row[kept], vector[known]
        seen = np.array([at for at in map(self.rows.get, exclude) if at is not None], np.int64)
        return Question(place, row, vector, cold, seen, min(max(int(k), 1), self.deepest))

    def _answer(self, questions: list[Question]) -> list[dict[str, np.ndarray]]:
        if not any(len(question.row) for question in questions):
            return [self._told(question) for question in questions]
        rows = np.concatenate([question.row for question in questions])
        distinct, list_of = np.unique(rows, return_inverse=True)
        first = int(len(distinct) > 0 and distinct[0] < 0)  # the place of -1, if it is there
        distinct = distinct[first:]
        list_of -= first
        list_of[rows < 0] = len(distinct) + np.arange((rows < 0).sum())  # unseen triggers come after the known
        vectors = [question.vector for question in questions if question.vector is not None]
        ids, scores = self._search(
            distinct, np.concatenate([self.vectors[distinct], *vectors]), max(q.k for q in questions)
        )
        answers, start = [], 0
        for question in questions:
            lists = list_of[start : start + len(question.row)]
            start += len(lists)
            answers.append(self._told(question, ids[lists, : question.k], scores[lists, : question.k]))
        return answers

    def _search(self, rows: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearest items of each vector, the trigger itself left out: int64 and float32 [n, k]; -1, -inf at the end."""
        scores, ids = self.index.search(np.ascontiguousarray(vectors), k + 1)
        unseen = np.full(len(vectors) - len(rows), -1)  # their vectors come after those of `rows`
        return drop_self(ids, scores, np.concatenate([rows, unseen]))

    def _told(
        self, question: Question, ids: np.ndarray | None = None, scores: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        width, told = self.told["candidates"], self.told
        out = {name: np.full(width, -1, np.int32) for name in ("item", "trigger_at")}
        out |= {name: np.full(width, -np.inf, np.float32) for name in ("score", "similarity")}
        out |= {"history": np.full(told["triggers"], -1, np.int32), "cold": np.array([question.cold], np.int32)}
        history = question.row[question.row >= 0]
        out["history"][: len(history)] = history
        if ids is not None and scores is not None and len(ids):
            votes = softmax_over_list(scores, told["temperature"])
            item, total, similarity, source = self.pooling.rank(ids, scores, votes, question.exclude, width)
            n = len(item)
            out["item"][:n], out["score"][:n] = item, total / np.float32(len(ids))
            out["similarity"][:n], out["trigger_at"][:n] = similarity, question.place[source]
        return out


def _input(request: Any, name: str) -> np.ndarray:
    values: np.ndarray = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return values


def _rows(values: np.ndarray, n: int, width: int, nothing: Any, name: str) -> np.ndarray:
    """`values` as [n, width]; none at all mean that nothing was given."""
    if values.size == 0:
        return np.full((n, width), nothing, values.dtype)
    if values.size != n * width:
        raise ValueError(f"{name} has {values.size} values: write {n} triggers x {width}, or none")
    return values.reshape(n, width)


def _response(answers: list[dict[str, np.ndarray]]) -> Any:
    columns = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in columns.items()])


def _refusal(message: str) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
