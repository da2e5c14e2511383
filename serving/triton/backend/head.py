"""Triton model <head>_<version>: trigger ids to one head's ranked candidates (embed, search,
pool).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import triton_python_backend_utils as pb_utils

from .files import checked
from .mapped import ItemRows, arrays_of, index_of
from .scoring import Donors, Pooling, drop_self, softmax_over_list, within
from .unseen import Unseen

GPU_K = 2048  # most that Faiss finds for a query on a GPU
GPU_SCRATCH = 256 << 20  # bytes; Faiss would take 1.5 GiB of the GPU for each head and version


@dataclass
class TriggerQuery:
    """One user's triggers, newest first; a trigger that is not in the version has row -1 and
    perhaps a vector.
    """

    position: np.ndarray  # int64 [n], of each trigger in the request
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
        self.settings: dict[str, Any] = json.loads((folder / "settings.json").read_text())
        arrays = arrays_of(folder)
        self.rows = ItemRows(arrays["id_hashes"], arrays["id_rows"])
        self.vectors = arrays["vectors"]
        self.index = index_of(folder / "index.faiss")
        self.deepest = max(len(self.rows) - 1, 1)
        # A channel of some items alone: Faiss searches within these on the CPU.
        allowed = arrays.get("allowed")
        self.parameters = None if allowed is None else within(self.index, allowed)
        on_gpu = args["model_instance_kind"] == "GPU" and self.parameters is None
        if on_gpu and hasattr(faiss, "StandardGpuResources"):
            self.gpu = faiss.StandardGpuResources()
            self.gpu.setTempMemory(GPU_SCRATCH)
            self.index = faiss.index_cpu_to_gpu(
                self.gpu, int(args["model_instance_device_id"]), self.index
            )
            self.deepest = min(self.deepest, GPU_K - 1)
        donors = None
        if "donors" in arrays:
            donors = Donors(arrays["donors"], index_of(folder / "donors.faiss"))
        weights = arrays_of(folder / "weights")
        self.unseen = Unseen(self.settings, weights, self.vectors, donors)
        self.pooling = Pooling(len(self.rows))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request; a request that cannot be read gets an error of its own."""
        read: list[list[TriggerQuery]] = []
        wrong: dict[int, str] = {}
        for number, request in enumerate(requests):
            try:
                read.append(self._queries(request))
            except ValueError as error:
                read.append([])
                wrong[number] = str(error)
        answers = iter(self._answer([query for queries in read for query in queries]))
        responses = []
        for number, queries in enumerate(read):
            if number in wrong:
                refusal = pb_utils.TritonError(wrong[number], pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse([], refusal))
                continue
            # A request may be of several users: each output has a row for each.
            rows = [next(answers) for _ in queries]
            columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            tensors = [pb_utils.Tensor(name, values) for name, values in columns.items()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def _queries(self, request: Any) -> list[TriggerQuery]:
        trigger, exclude, k_ann = (
            _input(request, name) for name in ("trigger", "exclude", "k_ann")
        )
        ids, floats, content = (
            _input(request, name) for name in ("id_features", "float_features", "content")
        )
        return [
            self._query(*row)
            for row in zip(trigger, exclude, k_ann[:, 0], ids, floats, content, strict=True)
        ]

    def _query(
        self,
        trigger: np.ndarray,
        exclude: np.ndarray,
        k: int,
        ids: np.ndarray,
        floats: np.ndarray,
        content: np.ndarray,
    ) -> TriggerQuery:
        position = np.array([index for index, name in enumerate(trigger) if name], np.int64)
        if len(position) > (most := self.settings["triggers"]):
            raise ValueError(
                f"trigger has {len(position)} items: this version takes {most} at most"
            )
        row = self.rows.of(trigger[position])
        n, widths = len(trigger), self.settings["features"]
        features = (
            _rows(ids, n, len(widths["id"]), b"", "id_features"),
            _rows(floats, n, len(widths["float"]), np.nan, "float_features"),
            _rows(content, n, widths["content"], 0.0, "content"),
        )
        # Triggers that the version does not hold: embedded by their features, left out without any.
        vector, cold = None, 0
        if len(unseen := np.flatnonzero(row < 0)):
            vector, has_features = self.unseen.embed(
                *(feature[position[unseen]] for feature in features)
            )
            cold = int((~has_features).sum())
            usable = np.delete(np.arange(len(row)), unseen[~has_features])
            position, row, vector = position[usable], row[usable], vector[has_features]
        seen = self.rows.of(exclude)
        depth = min(max(int(k), 1), self.deepest)
        return TriggerQuery(position, row, vector, cold, seen[seen >= 0], depth)

    def _answer(self, queries: list[TriggerQuery]) -> list[dict[str, np.ndarray]]:
        if not any(len(query.row) for query in queries):
            return [self._outputs(query) for query in queries]
        rows = np.concatenate([query.row for query in queries])
        distinct, list_of = np.unique(rows, return_inverse=True)
        first = int(len(distinct) > 0 and distinct[0] < 0)  # -1 stands first, where it is there
        distinct = distinct[first:]
        list_of -= first
        # Unseen triggers come after the others.
        list_of[rows < 0] = len(distinct) + np.arange((rows < 0).sum())
        vectors = [query.vector for query in queries if query.vector is not None]
        ids, scores = self._search(
            distinct, np.concatenate([self.vectors[distinct], *vectors]), max(q.k for q in queries)
        )
        answers, start = [], 0
        for query in queries:
            lists = list_of[start : start + len(query.row)]
            start += len(lists)
            answers.append(self._outputs(query, ids[lists, : query.k], scores[lists, : query.k]))
        return answers

    def _search(
        self, rows: np.ndarray, vectors: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Nearest items of each vector that the channel may give, the trigger itself left out:
        int64 and float32 [n, k]; -1, -inf at the end.
        """
        queries, parameters = np.ascontiguousarray(vectors), self.parameters
        scores, ids = self.index.search(queries, k + 1, params=parameters)
        unseen = np.full(len(vectors) - len(rows), -1)  # their vectors come after those of `rows`
        return drop_self(ids, scores, np.concatenate([rows, unseen]))

    def _outputs(
        self, query: TriggerQuery, ids: np.ndarray | None = None, scores: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        width, settings = self.settings["candidates"], self.settings
        out = {name: np.full(width, -1, np.int32) for name in ("item", "trigger_at")}
        out |= {name: np.full(width, -np.inf, np.float32) for name in ("score", "similarity")}
        out |= {
            "history": np.full(settings["triggers"], -1, np.int32),
            "cold": np.array([query.cold], np.int32),
        }
        history = query.row[query.row >= 0]
        out["history"][: len(history)] = history
        if ids is not None and scores is not None and len(ids):
            votes = softmax_over_list(scores, settings["temperature"])
            item, total, similarity, source = self.pooling.rank(
                ids, scores, votes, query.exclude, width
            )
            n = len(item)
            out["item"][:n], out["score"][:n] = item, total / np.float32(len(ids))
            out["similarity"][:n], out["trigger_at"][:n] = similarity, query.position[source]
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
