"""The pipeline's arguments, and the files that its settings come from."""

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from mtmh.config import Config
from mtmh.errors import UserError
from mtmh.version_hash import code_version

CONFIGS = Path(__file__).parent / "configs"


def of_config(config: Config) -> dict[str, str | int]:
    """The arguments that come from the settings alone: seed, the whole, and one JSON text a section."""
    return {
        "seed": config.seed,
        "config": config.model_dump_json(),
        "data_settings": config.data.model_dump_json(),
        "pair_settings": config.pairs.model_dump_json(),
        "content_settings": config.content.model_dump_json(),
        "train_settings": config.train.model_dump_json(),
        "prerank_settings": config.prerank.model_dump_json(),
        "retrieval_settings": config.retrieval.model_dump_json(),
        "evaluation_settings": config.evaluation.model_dump_json(),
        "gate_settings": config.gate.model_dump_json(),
    }


def of_run(
    source: str, config: Config, tracking_uri: str, runs: Path, scratch: Path, name: str | None = None
) -> dict[str, str | int]:
    """All arguments of a run over the data at `source` (a path, or "synthetic"); its id is UTC time and a short hash.

    `name` is what the champion, the registered model and the served store go by; by default see `pipelines.names`.
    Raises UserError when there is no data at `source`.
    """
    from mtmh.data.prepare import fingerprint
    from pipelines.names import name_in

    settings = of_config(config)
    told = fingerprint(source, config.data, config.seed)
    name = data_name(name) if name else name_in(runs, source, told)
    version = code_version()
    key = hashlib.sha256(json.dumps([told, version, settings]).encode()).hexdigest()[:8]
    return {
        **settings,
        "source": source,
        "fingerprint": told,
        "code_version": version,
        "model_name": f"mtmh-{name}",
        "tracking_uri": tracking_uri,
        "scratch": str(scratch),
        "runs": str(runs),
        "run_id": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{key}",
        "place": str(runs / "champions" / name),
        "store": str(runs / "serving" / name),
    }


def data_name(source: str) -> str:
    """The name of a data set: its folder's (or file's), in letters that MLflow and file systems take."""
    name = "synthetic" if source == "synthetic" else Path(source).resolve().name
    return re.sub(r"[^\w.-]+", "-", name) or "data"


def layers(source: str, size: str, file: Path | None) -> list[Path]:
    """The configuration files of a run, later ones over earlier ones: size, the data set's own, then `file`.

    Raises UserError when there is no such size.
    """
    base = CONFIGS / f"{size}.yaml"
    if not base.is_file():
        known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise UserError(f"--size {size}: no such size. Known: {known}. A file of your own goes with --config FILE.")
    overlay = CONFIGS / "data" / f"{data_name(source)}.yaml"
    return [base, *([overlay] if overlay.is_file() else []), *([file] if file else [])]
