"""The pipeline's arguments, and the files that its settings come from."""

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from mtmh.config import Config
from mtmh.data.prepare import fingerprint
from mtmh.errors import UserError
from mtmh.version_hash import code_version

CONFIGS = Path(__file__).parent / "configs"


def of_config(config: Config) -> dict[str, str | int]:
    """The arguments that come from the settings alone: seed, the whole, and one JSON text a
    section."""
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


def of_name(
    config: Config, tracking_uri: str, runs: Path, scratch: Path, name: str
) -> dict[str, str | int]:
    """The arguments that every run over the data called `name` shares: settings, and where its
    results go.

    Champion, registered model and served store go by that name.
    """
    return {
        **of_config(config),
        "model_name": f"mtmh-{name}",
        "tracking_uri": tracking_uri,
        "scratch": str(scratch),
        "runs": str(runs),
        "champion_link": str(runs / "champions" / name),
        "store": str(runs / "serving" / name),
        "shared_tables": str(runs / "features" / name),
    }


def on_cluster(config: Config, tracking_uri: str, name: str) -> dict[str, str | int]:
    """The arguments of every run on a cluster over the data called `name`: what a run leaves lies
    in Kubeflow's artifact store, checkpoints and the served store on the volume, or at URLs.

    Raises UserError when a step is told to use a GPU that it does not ask for.
    """
    cluster, volume = config.cluster, Path(config.cluster.volume)
    for step, device in config.devices().items():
        if device == "cuda" and not cluster.steps[step].gpus:
            raise UserError(
                f"the step {step} is told to use a GPU (its device is cuda), and asks the cluster"
                f" for none: write cluster.steps.{step}.gpus=1, or device: auto."
            )
    return {
        **of_config(config),
        "model_name": f"mtmh-{name}",
        "tracking_uri": tracking_uri,
        "scratch": cluster.scratch.rstrip("/") or str(volume / "scratch"),
        "store": f"{cluster.store.rstrip('/') or volume / 'runs' / 'serving'}/{name}",
        "shared_tables": str(volume / "runs" / "features" / name),
    }


def identity(source: str, config: Config) -> dict[str, str]:
    """What tells a run over the data at `source` from others: source, fingerprint, code_version and
    run_id.

    The id is UTC time and a short hash of the rest. Raises UserError when there is no data at
    `source`.
    """
    data, code = fingerprint(source, config.data, config.seed), code_version()
    rest = json.dumps([data, code, config.model_dump_json()])
    key = hashlib.sha256(rest.encode()).hexdigest()[:8]
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{key}"
    return {"source": source, "fingerprint": data, "code_version": code, "run_id": run_id}


def of_run(
    source: str,
    config: Config,
    tracking_uri: str,
    runs: Path,
    scratch: Path,
    name: str | None = None,
) -> dict[str, str | int]:
    """All arguments of a run over the data at `source` (a path, or "synthetic").

    `name` is what the champion, the registered model and the served store go by; by default see
    `pipelines.names`. Raises UserError when there is no data at `source`.
    """
    from pipelines.names import name_in

    run = identity(source, config)
    name = data_name(name) if name else name_in(runs, source, run["fingerprint"])
    return {**of_name(config, tracking_uri, runs, scratch, name), **run}


def data_name(source: str) -> str:
    """The name of a data set: its folder's (or file's), in letters that MLflow and file systems
    take."""
    name = "synthetic" if source == "synthetic" else Path(source).resolve().name
    return re.sub(r"[^\w.-]+", "-", name) or "data"


def layers(source: str, size: str, file: Path | None) -> list[Path]:
    """The configuration files of a run, later ones over earlier ones: size, the data set's own,
    then `file`.

    Raises UserError when there is no such size.
    """
    base = CONFIGS / f"{size}.yaml"
    if not base.is_file():
        sizes = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise UserError(
            f"--size {size}: no such size. Known: {sizes}."
            " A file of your own goes with --config FILE."
        )
    overlay = CONFIGS / "data" / f"{data_name(source)}.yaml"
    return [base, *([overlay] if overlay.is_file() else []), *([file] if file else [])]
