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

from mtmh.config import RetrievalSettings
from mtmh.data.files import write_parquet
from mtmh.errors import UserError
from mtmh.retrieval.channels import Channel, as_manifest, channels_in
from mtmh.retrieval.version import retrieval_settings, verify
from serving.triton.backend.files import sha256
from serving.triton.models import CODE, write_models

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
    models/<name>/, Triton's: a head and an ensemble a channel, and the preranker where the version
    has one. `version` is its number in the registry; `users` whose history is known, by default
    some that the run was evaluated on.
    Raises UserError when `run` is no version or does not have its checksums, or `version` is no
    number.
    """
    if not re.fullmatch("[1-9][0-9]*", version):
        raise UserError(
            f"version {version!r}: write the number that the registry gave it, such as 7."
        )
    retriever = run / "retriever" if (run / "retriever").is_dir() else run
    manifest, settings = verify(retriever), retrieval_settings(run)
    channels = channels_in(manifest)
    out.mkdir(parents=True)
    # Without a feature store nobody's history is known.
    serving = _serving(run, retriever, channels, settings, [] if features is None else users)
    _write_json(out / "serving.json", serving)
    items = pq.read_table(retriever / "items.parquet")
    if "created_at" not in items.column_names:  # a version from before it was kept
        items = items.append_column("created_at", pa.nulls(len(items), CREATED))
    write_parquet(items.select(ITEM_COLUMNS), out / "items.parquet")
    if features is not None:
        _copy_features(features, out / "features")
    models = write_models(retriever, version, serving, out / "models")
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
    for path in (run / "retriever" / MANIFEST, Path(__file__), *CODE):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _serving(
    run: Path,
    retriever: Path,
    channels: tuple[Channel, ...],
    settings: RetrievalSettings,
    users: list[str] | None,
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
        "channels": as_manifest(channels),
        "heads": [channel.name for channel in channels],  # what an older router reads
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


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))
