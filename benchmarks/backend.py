"""What Triton's models compute in numpy, beside the same in TorchScript and, where it is installed
(pip install onnx onnxruntime), in ONNX Runtime: is there a reason for another backend?

The preranker (a history and candidates to their order) and the embedding of items that a version
does not hold, one thread each, as Triton runs them, at the sizes that are served: one request of
one trigger or of fifty, and eight at once. Outputs must agree, or it ends with an error.
"""

import importlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import softplus

from benchmarks.random_version import CANDIDATES, Items, make_run
from benchmarks.result import median_seconds, write
from benchmarks.server_process import FOLDER
from serving.triton.export import write_package

# Requests at once, and the triggers of each.
SIZES = {"one_trigger": (1, 1), "50_triggers": (1, 50), "8_x_50_triggers": (8, 50)}
REPEATS, TURNS = 100, 5
Arrays = dict[str, np.ndarray]
Work = Callable[[], np.ndarray]


class TorchPreranker(nn.Module):
    """One task's preranker, from the arrays of the exported model, to the normalized scores."""

    def __init__(self, arrays: Arrays, task: str, weight: float, interests: int) -> None:
        super().__init__()
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        self.age, self.past, self.interest, self.new = (
            tensors[name] for name in ("age", "table.past", "table.interest", "table.new")
        )
        self.items, self.weight, self.interests = tensors[f"table.{task}"], weight, interests
        self.mlp = _mlp(tensors, f"user_heads.{task}.mlp.")
        self.linear = tensors[f"user_heads.{task}.linear.weight"]

    def forward(self, item: Tensor, score: Tensor, history: Tensor) -> Tensor:
        """Scores float32 [R, C], best first; arguments int64 and float32 [R, C], int64 [R, H]."""
        present, rows = (history >= 0).float(), history.clamp_min(0)
        events = present.sum(1, keepdim=True)
        ages = torch.arange(history.shape[1], dtype=torch.float32)
        weight = torch.exp(-softplus(self.age) * ages) * present
        mean = (weight[:, None] @ self.past[rows])[:, 0] / weight.sum(1, keepdim=True)
        counts = torch.zeros(len(item), self.interests)
        counts = counts.scatter_add(1, self.interest[rows], present)
        profile = torch.cat([mean, counts / events, torch.log1p(events)], dim=1)
        user = self.weight * (self.mlp(profile) + profile @ self.linear.T)
        logits = (self.items[item] @ user[:, :, None])[:, :, 0]
        new = self.new[item]
        old_mean = (logits * ~new).sum(1, keepdim=True) / (~new).sum(1, keepdim=True).clamp_min(1)
        lift = old_mean - (logits * new).sum(1, keepdim=True) / new.sum(1, keepdim=True).clamp_min(
            1
        )
        logits = logits + torch.where(new, lift, torch.zeros_like(lift))
        p = torch.softmax(torch.log(score) + logits, dim=1)
        return torch.sort(p, dim=1, descending=True).values


class TorchUnseen(nn.Module):
    """The bottom and one head for items of unknown id, from the arrays of the exported model."""

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        self.tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        self.mlp = _mlp(self.tensors, "mlp.")

    def forward(self, ids: Tensor, floats: Tensor) -> Tensor:
        """Unit vectors float32 [n, d]; arguments int64 and float32 [n, features]."""
        tensors = self.tensors
        parts = [tensors["unknown_item"].expand(len(ids), -1), tensors["table.0"][ids[:, 0]]]
        standard = (floats - tensors["dense.mean"]) / tensors["dense.deviation"]
        dense = standard @ tensors["dense.layer.weight"].T + tensors["dense.layer.bias"]
        x = torch.cat([*parts, torch.relu(dense)], dim=1)
        deep = self.mlp(x)
        if "linear.weight" in tensors:
            deep = deep + x @ tensors["linear.weight"].T
        return deep / deep.norm(dim=1, keepdim=True)


def main(items: Items = 100_000) -> None:
    """Milliseconds of the preranker and of unseen items: numpy, TorchScript and ONNX Runtime."""
    run = make_run(items, FOLDER)
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="backend-", dir=FOLDER) as folder, threadpool_limits(1):
        models = write_package(run, "1", Path(folder) / "1") / "models"
        times = {"preranker": _preranker(models), "unseen": _unseen(models)}
    first = times["preranker"]["one_trigger"]
    details = {"baseline": "TorchScript, one thread", "items": items, "ms": times}
    write("backend", first["numpy"], "ms of the preranker", first["torchscript"], details)
    for title, figures in times.items():
        print(f"  {title}: {figures}")


def _preranker(models: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of each size and backend: history and candidates to ranked scores."""
    folder = models / "preranker_1" / "1"
    settings, arrays = json.loads((folder / "settings.json").read_text()), _arrays(folder)
    served = _served(folder)
    tower = served("user_tower").UserTower(
        settings["weights"], settings["interests"], settings["layers"], arrays
    )
    (task, weight), rng = next(iter(settings["weights"].items())), np.random.default_rng(0)
    module = TorchPreranker(arrays, task, weight, settings["interests"])
    times = {}
    for name, (requests, triggers) in SIZES.items():
        catalog = len(arrays["table.new"])
        item = np.stack([rng.permutation(catalog)[:CANDIDATES] for _ in range(requests)])
        history = rng.integers(catalog, size=(requests, triggers))
        score = rng.dirichlet(np.ones(CANDIDATES), requests).astype(np.float32)

        def rank(
            item: np.ndarray = item, score: np.ndarray = score, history: np.ndarray = history
        ) -> np.ndarray:
            logits = tower.logits(item, history)
            ranked: np.ndarray = served("scoring").rank_normalize(score, logits, item >= 0)[1]
            return ranked

        times[name] = _timed({"numpy": rank, **_compiled(module, (item, score, history))})
    return times


def _unseen(models: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of each size and backend: features of items to their vectors."""
    folder = models / "engagement_1" / "1"
    settings, weights = json.loads((folder / "settings.json").read_text()), _arrays(folder)
    unseen = _served(folder)("unseen").Unseen(settings, weights, np.zeros((0, 0)), None)
    (creators,), rng = settings["vocabularies"].values(), np.random.default_rng(0)
    module, times = TorchUnseen(weights), {}
    for name, (requests, triggers) in SIZES.items():
        n = requests * triggers
        numbers = rng.integers(1, len(creators) + 1, size=(n, 1))
        ids = np.array([[creators[number - 1].encode()] for number in numbers[:, 0]], object)
        floats = rng.random((n, len(settings["fill"])), np.float32)
        content = np.zeros((n, settings["features"]["content"]), np.float32)

        def embed(
            ids: np.ndarray = ids, floats: np.ndarray = floats, content: np.ndarray = content
        ) -> np.ndarray:
            vectors: np.ndarray = unseen.embed(ids, floats, content)[0]
            return vectors

        times[name] = _timed({"numpy": embed, **_compiled(module, (numbers, floats))})
    return times


def _compiled(module: nn.Module, inputs: tuple[np.ndarray, ...]) -> dict[str, Work]:
    """The module in TorchScript, and in ONNX Runtime where that is installed, over `inputs`."""
    tensors = tuple(map(torch.from_numpy, inputs))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; Triton's backend takes it
        traced = torch.jit.freeze(torch.jit.trace(module.eval(), tensors))

    def script() -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = traced(*map(torch.from_numpy, inputs)).numpy()
        return result

    works: dict[str, Work] = {"torchscript": script}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        works["onnx"] = _onnx(module, inputs)
    return works


def _onnx(module: nn.Module, inputs: tuple[np.ndarray, ...]) -> Work:
    onnxruntime = importlib.import_module("onnxruntime")
    names, model = [f"input_{number}" for number in range(len(inputs))], BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # this exporter is deprecated; the other needs more packages
        tensors = tuple(map(torch.from_numpy, inputs))
        torch.onnx.export(module, tensors, model, input_names=names, opset_version=17, dynamo=False)  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.getvalue(), options, providers=["CPUExecutionProvider"]
    )

    def run() -> np.ndarray:
        result: np.ndarray = session.run(None, dict(zip(names, inputs, strict=True)))[0]
        return result

    return run


def _timed(works: dict[str, Work]) -> dict[str, float]:
    """Milliseconds of each, medians of TURNS turns. Raises AssertionError when outputs differ."""
    outputs = {name: work() for name, work in works.items()}
    for output in outputs.values():
        np.testing.assert_allclose(output, outputs["numpy"], rtol=1e-3, atol=1e-6)
    turns = [
        {name: median_seconds(work, REPEATS) for name, work in works.items()} for _ in range(TURNS)
    ]
    return {
        name: round(1e3 * float(np.median([turn[name] for turn in turns])), 4) for name in works
    }


def _served(folder: Path) -> Callable[[str], Any]:
    """The modules of a model's folder, as Triton imports them."""
    package = ModuleType(f"served_{folder.parent.name}")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return lambda name: importlib.import_module(f"{package.__name__}.{name}")


def _arrays(folder: Path) -> Arrays:
    return {path.stem: np.load(path, mmap_mode="r") for path in (folder / "weights").glob("*.npy")}


def _mlp(tensors: dict[str, Tensor], prefix: str) -> nn.Sequential:
    """An MLP of the tensors `prefix`0.weight, `prefix`0.bias, `prefix`2.weight and so on."""
    layers: list[nn.Module] = []
    for number in range(0, 100, 2):
        if f"{prefix}{number}.weight" not in tensors:
            break
        weight, bias = (tensors[f"{prefix}{number}.{part}"] for part in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [nn.ReLU(), linear] if layers else [linear]
    return nn.Sequential(*layers)
