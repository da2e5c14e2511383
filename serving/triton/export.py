"""From a version on disk to its package: all that Triton and the router need, in one directory with
checksums.
"""

import hashlib
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from mtmh.config import RetrievalSettings
from mtmh.data.contract import STATISTICS
from mtmh.data.files import write_parquet
from mtmh.errors import UserError
from mtmh.heads import HEADS
from mtmh.retrieval import scoring
from mtmh.retrieval.version import retrieval_settings, verify
from serving.triton import config_pbtxt as triton
from serving.triton.backend.files import CHECKSUMS, sha256

BACKEND, SCORING = Path(__file__).parent / "backend", Path(scoring.__file__)
MANIFEST = "manifest.json"
FEATURES = ("registry.db", "online.db")  # of a feature store; the second is SQLite's
USERS = 8  # named in serving.json
CREATED = pa.timestamp("us", tz="UTC")
ITEM_COLUMNS = ["item_id", "title", "l1_topics", "l2_topics", "created_at", "in_train"]


def write_package(
    run: Path,
    version: str,
    out: Path,
    features: Path | None = None,
    mlflow: dict[str, str] | None = None,
    users: list[str] | None = None,
) -> Path:
    """Write the package of the version in `run` (a run, or its retriever directory) to the new
    directory `out`.

    manifest.json {"version", "packaged_at" (UTC), "created_from", "mlflow", "models", "sha256"};
    serving.json, what the router must know; items.parquet, row = item number; features/, the
    feature store's registry and SQLite's rows, from the folder `features` where one is given;
    models/<name>/, Triton's: a head and an ensemble each, and the preranker where the version has
    one. `version` is its number in the registry; `users` whose history is known, by default some
    that the run was evaluated on.
    Raises UserError when `run` is no version or does not have its checksums, or `version` is no
    number.
    """
    if not re.fullmatch("[1-9][0-9]*", version):
        raise UserError(
            f"version {version!r}: write the number that the registry gave it, such as 7."
        )
    retriever = run / "retriever" if (run / "retriever").is_dir() else run
    manifest, settings = verify(retriever), retrieval_settings(run)
    out.mkdir(parents=True)
    # Without a feature store nobody's history is known.
    serving = _serving(run, retriever, settings, [] if features is None else users)
    _write_json(out / "serving.json", serving)
    items = pq.read_table(retriever / "items.parquet")
    if "created_at" not in items.column_names:  # a version from before it was kept
        items = items.append_column("created_at", pa.nulls(len(items), CREATED))
    write_parquet(items.select(ITEM_COLUMNS), out / "items.parquet")
    if features is not None:
        _copy_features(features, out / "features")
    models = _models(retriever, version, serving, settings, out / "models")
    files = {
        str(path.relative_to(out)): sha256(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    provenance = {
        "version": version,
        "packaged_at": datetime.now(UTC).isoformat(),
        "created_from": manifest["created_from"],
    }
    _write_json(out / MANIFEST, {**provenance, "mlflow": mlflow, "models": models, "sha256": files})
    return out


def package_key(run: Path) -> str:
    """What tells the package of a run from others', the feature store's content apart: a hash of
    the retriever, of the settings that it is served by, and of the code that serves it.
    """
    digest = hashlib.sha256(retrieval_settings(run).model_dump_json().encode())
    code = [Path(__file__), Path(triton.__file__), SCORING, *sorted(BACKEND.glob("*.py"))]
    for path in (run / "retriever" / MANIFEST, *code):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _serving(
    run: Path, retriever: Path, settings: RetrievalSettings, users: list[str] | None
) -> dict[str, Any]:
    candidates = run / "candidates.parquet"
    # The router's page offers some users that the run was evaluated on: their history is known.
    if users is None and candidates.is_file():
        first_rows = pq.ParquetFile(candidates).read_row_group(0, columns=["user_id"])
        users = first_rows["user_id"].unique().to_pylist()[:USERS]
    model = _read_json(retriever / "model.json")
    content = np.load(retriever / "content.npy", mmap_mode="r").shape[1]
    preranker = retriever / "preranker.json"
    ranked = _read_json(preranker)["candidates"] if preranker.is_file() else 0
    return {
        "heads": [head for head in HEADS if (retriever / f"{head}.faiss").is_file()],
        "preranker": preranker.is_file(),
        "k_ann": settings.k_ann,
        "candidates": max(settings.pool, ranked),
        "pool": settings.pool,
        "triggers": settings.triggers,
        "alpha": settings.alpha,
        "temperature": settings.temperature,
        "items": pq.read_metadata(retriever / "items.parquet").num_rows,
        "features": {
            "id": [name for name in model["vocabularies"] if name != "item_id"],
            "float": model["float_features"],
            "content": content if settings.cold == "content" else 0,
        },
        "users": users or [],
    }


def _copy_features(store: Path, out: Path) -> None:
    if not store.is_dir():
        raise UserError(
            f"{store}: no such folder. Give the one that holds the feature store's registry.db."
        )
    out.mkdir()
    for name in FEATURES:
        if (store / name).is_file():  # another online store, such as Redis, is not in a file
            shutil.copy2(store / name, out)


def _models(
    retriever: Path, version: str, serving: dict[str, Any], settings: RetrievalSettings, out: Path
) -> list[str]:
    """Write the models; returns their names, sorted."""
    width, triggers = serving["candidates"], serving["triggers"]
    preranker = f"preranker_{version}" if serving["preranker"] else None
    if preranker:
        config = triton.preranker_model(preranker, width, triggers)
        folder = _folder(out, preranker, config, version)
        # The user's side of the towers, and what the items' side says of every item.
        model = _read_json(retriever / "preranker.json")
        tensors = load_file(retriever / "preranker.safetensors")
        # A task of weight 0 adds nothing.
        weights = {task: weight for task, weight in model["weights"].items() if weight}
        prefixes = ["age", "table.past", "table.interest", "table.new"]
        prefixes += [name for task in weights for name in (f"table.{task}", f"user_heads.{task}.")]
        arrays: dict[str, Any] = {
            name: array for name, array in tensors.items() if name.startswith(tuple(prefixes))
        }
        np.savez(folder / "arrays.npz", **arrays)
        interests = model["architecture"]["interests"]
        _finish(folder, "preranker.py", {"weights": weights, "interests": interests, "layers": 2})
    ids = pq.read_table(retriever / "items.parquet", columns=["item_id", "in_train"])
    for head in serving["heads"]:
        name, ensemble = f"{head}_{version}", f"retrieve_{head}_{version}"
        folder = _folder(out, name, triton.head_model(name, width, triggers), version)
        _write_head(retriever, head, serving, ids, folder)
        folder = _folder(out, ensemble, triton.ensemble(ensemble, name, preranker, width), version)
        # An object store has no empty folders, and Triton takes no model without one.
        (folder / "ensemble").write_text(
            f"{name}, then {preranker}\n" if preranker else f"{name}\n"
        )
    return sorted(path.name for path in out.iterdir())


def _folder(out: Path, name: str, config: str, version: str) -> Path:
    folder = out / name / version
    folder.mkdir(parents=True)
    (out / name / "config.pbtxt").write_text(config)
    return folder


def _write_head(
    retriever: Path, head: str, serving: dict[str, Any], items: pa.Table, folder: Path
) -> None:
    shutil.copy2(retriever / f"{head}.faiss", folder / "index.faiss")
    shutil.copy2(retriever / f"{head}.npy", folder / "vectors.npy")
    (folder / "items.json").write_text(json.dumps(items["item_id"].to_pylist()))
    model, weights = (
        _read_json(retriever / "model.json"),
        load_file(retriever / "weights.safetensors"),
    )
    arrays: dict[str, Any] = {"unknown_item": weights["sparse.tables.0.weight"][:1]}
    for column in range(len(serving["features"]["id"])):
        arrays[f"table.{column}"] = weights[f"sparse.tables.{column + 1}.weight"]
    arrays |= {name: array for name, array in weights.items() if name.startswith("dense.")}
    prefix = f"heads.{head}."
    arrays |= {
        name.removeprefix(prefix): array
        for name, array in weights.items()
        if name.startswith(prefix)
    }
    if serving["features"]["content"]:
        content = np.load(retriever / "content.npy")
        arrays["donor"] = np.flatnonzero(items["in_train"].to_numpy() & content.any(axis=1))
        arrays["donor_content"] = content[arrays["donor"]]
    np.savez(folder / "unseen.npz", **arrays)
    mean = dict(zip(model["float_features"], model["architecture"]["mean"], strict=True))
    _finish(
        folder,
        "head.py",
        {
            "candidates": serving["candidates"],
            "triggers": serving["triggers"],
            "temperature": serving["temperature"],
            "features": serving["features"],
            "vocabularies": {
                name: model["vocabularies"][name] for name in serving["features"]["id"]
            },
            # An item that nobody knew has zeros in the statistics: no events yet, and no age
            # (feature_repo/stage.py).
            "fill": [0.0 if name in STATISTICS else value for name, value in mean.items()],
            "layers": len(model["architecture"]["hidden"]) + 1,
            "tau_q": model["tau_q"],
        },
    )


def _finish(folder: Path, model: str, settings: dict[str, Any]) -> None:
    """The model's code with what it imports, its settings, and last the checksums that it verifies
    at load.
    """
    _write_json(folder / "settings.json", settings)
    shutil.copy2(BACKEND / model, folder / "model.py")
    for part in (BACKEND / "files.py", BACKEND / "unseen.py", SCORING):
        shutil.copy2(part, folder)
    # A file where Python would put its bytecode, so that it puts none: Triton would take that for a
    # change of the model, and load it again with the next ensemble that it belongs to
    # (triton-inference-server/server, issue 7489).
    (folder / "__pycache__").touch()
    _write_json(folder / CHECKSUMS, {path.name: sha256(path) for path in sorted(folder.iterdir())})


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))
