"""A version's models as Triton loads them: each a folder with its code, settings, arrays and
checksums.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from mtmh.data.contract import STATISTICS
from mtmh.errors import UserError
from mtmh.retrieval import scoring
from mtmh.retrieval.channel_items import allowed_rows
from mtmh.retrieval.channels import Channel, channels_in
from mtmh.retrieval.scoring import Donors
from serving.triton import config_pbtxt
from serving.triton.backend.files import CHECKSUMS, files_of, sha256
from serving.triton.backend.mapped import id_hashes

BACKEND = Path(__file__).parent / "backend"
# Beside every model: what it imports.
PARTS = [BACKEND / f"{name}.py" for name in ("files", "mapped", "unseen", "user_tower")]
PARTS.append(Path(scoring.__file__))
CODE = [Path(__file__), Path(config_pbtxt.__file__), PARTS[-1], *sorted(BACKEND.glob("*.py"))]


def write_models(retriever: Path, version: str, serving: dict[str, Any], out: Path) -> list[str]:
    """Write the models of the version in `retriever` to the new directory `out`; returns their
    names, sorted.

    A head and an ensemble a channel, and the preranker where the version has one. `version` is its
    number, `serving` what serving.json says of it. Raises UserError where two items cannot be told
    apart.
    """
    width, triggers = serving["candidates"], serving["triggers"]
    channels = channels_in(serving)
    preranker = f"preranker_{version}" if serving["preranker"] else None
    if preranker:
        config = config_pbtxt.preranker_model(preranker, width, triggers, len(channels))
        _write_preranker(retriever, _folder(out, preranker, config, version))
    items = pq.read_table(retriever / "items.parquet")
    for channel in channels:
        name, ensemble = f"{channel.name}_{version}", f"retrieve_{channel.name}_{version}"
        config = config_pbtxt.head_model(name, width, triggers)
        _write_head(retriever, channel, serving, items, _folder(out, name, config, version))
        config = config_pbtxt.ensemble(ensemble, name, preranker, width)
        # An object store has no empty folders, and Triton takes no model without one.
        steps = f"{name}, then {preranker}\n" if preranker else f"{name}\n"
        folder = _folder(out, ensemble, config, version)
        (folder / "ensemble").write_text(steps)
        # What the pods' probe asks it with (k8s/base/answers.py).
        (folder / "example.json").write_text(json.dumps(items["item_id"][0].as_py()))
    return sorted(path.name for path in out.iterdir())


def _folder(out: Path, name: str, config: str, version: str) -> Path:
    folder = out / name / version
    folder.mkdir(parents=True)
    (out / name / "config.pbtxt").write_text(config)
    return folder


def _write_preranker(retriever: Path, folder: Path) -> None:
    """The user's side of the towers, and what the items' side says of every item."""
    model = json.loads((retriever / "preranker.json").read_text())
    tensors = load_file(retriever / "preranker.safetensors")
    # A task of weight 0 adds nothing.
    weights = {task: weight for task, weight in model["weights"].items() if weight}
    prefixes = ["age", "table.past", "table.interest", "table.new"]
    prefixes += [name for task in weights for name in (f"table.{task}", f"user_heads.{task}.")]
    arrays = {name: array for name, array in tensors.items() if name.startswith(tuple(prefixes))}
    _save(folder / "weights", arrays)
    interests = model["architecture"]["interests"]
    _finish(folder, "preranker.py", {"weights": weights, "interests": interests, "layers": 2})


def _write_head(
    retriever: Path, channel: Channel, serving: dict[str, Any], items: pa.Table, folder: Path
) -> None:
    """A channel's index and vectors, which are its head's, the rows that it may give where these
    are some, the items' rows, and what embeds an item it does not hold.
    """
    head = channel.head
    # The store makes one file of those that several channels of a head have.
    shutil.copy2(retriever / f"{head}.faiss", folder / "index.faiss")
    shutil.copy2(retriever / f"{head}.npy", folder / "vectors.npy")
    _save(folder, _row_of_id(items["item_id"].to_pylist()))
    if (allowed := allowed_rows(channel, items)) is not None:
        _save(folder, {"allowed": allowed})
    if serving["features"]["content"]:
        content = np.load(retriever / "content.npy", mmap_mode="r")
        donors = Donors.among(items["in_train"].to_numpy(), content)
        if len(donors.rows):
            _save(folder, {"donors": donors.rows.astype(np.int32)})
            faiss.write_index(donors.index, str(folder / "donors.faiss"))
    model = json.loads((retriever / "model.json").read_text())
    features = serving["features"]["id"]
    tensors = load_file(retriever / "weights.safetensors")
    _save(folder / "weights", _unseen_weights(tensors, head, len(features)))
    mean = dict(zip(model["float_features"], model["architecture"]["mean"], strict=True))
    settings = {
        **{name: serving[name] for name in ("candidates", "triggers", "temperature", "features")},
        "vocabularies": {name: model["vocabularies"][name] for name in features},
        # An item that nobody knew has zeros in the statistics: no events yet, and no age
        # (feature_repo/stage.py).
        "fill": [0.0 if name in STATISTICS else value for name, value in mean.items()],
        "layers": len(model["architecture"]["hidden"]) + 1,
        "tau_q": model["tau_q"],
    }
    _finish(folder, "head.py", settings)


def _row_of_id(item_ids: list[str]) -> dict[str, np.ndarray]:
    """What `ItemRows` reads. Raises UserError where two ids have one hash."""
    hashes = id_hashes(item_id.encode() for item_id in item_ids)
    rows = np.argsort(hashes)
    if len(same := np.flatnonzero(np.diff(hashes[rows]) == 0)):
        first, second = (item_ids[row] for row in rows[same[0] : same[0] + 2])
        raise UserError(
            f"the item ids {first!r} and {second!r} are the same to serving, which tells ids apart"
            " by a 64-bit hash: rename one of them, and run anew."
        )
    return {"id_hashes": hashes[rows], "id_rows": rows.astype(np.int32)}


def _unseen_weights(
    tensors: dict[str, np.ndarray], head: str, id_features: int
) -> dict[str, np.ndarray]:
    """Of a model's tensors, what `Unseen` multiplies with: the bottom and the one head."""
    weights = {"unknown_item": tensors["sparse.tables.0.weight"][:1]}
    for column in range(id_features):
        weights[f"table.{column}"] = tensors[f"sparse.tables.{column + 1}.weight"]
    weights |= {name: array for name, array in tensors.items() if name.startswith("dense.")}
    prefix = f"heads.{head}."
    return weights | {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }


def _save(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Each array as <name>.npy, which can be mapped; the parts of an .npz cannot."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _finish(folder: Path, model: str, settings: dict[str, Any]) -> None:
    """The model's code with what it imports, its settings, and last the checksums that it verifies
    at load.
    """
    (folder / "settings.json").write_text(json.dumps(settings, indent=1))
    shutil.copy2(BACKEND / model, folder / "model.py")
    for part in PARTS:
        shutil.copy2(part, folder)
    # A file where Python would put its bytecode, so that it puts none: Triton would take that for a
    # change of the model, and load it again with the next ensemble that it belongs to
    # (triton-inference-server/server, issue 7489).
    (folder / "__pycache__").touch()
    checksums = {name: sha256(path) for name, path in files_of(folder).items()}
    (folder / CHECKSUMS).write_text(json.dumps(checksums, indent=1))
