"""A package as small as the store takes: one model, and what marks it from others."""

import json
import shutil
from pathlib import Path

from serving.triton.backend.files import sha256


def write_small_package(
    out: Path,
    version: str,
    alpha: int = 50,
    mlflow: dict[str, str] | None = None,
    features: Path | None = None,
) -> Path:
    """Write one with an `alpha` of its own; `mlflow` as the step package writes it, `features` the
    folder of a registry of histories.
    """
    model = f"engagement_{version}"
    folder = out / "models" / model
    (folder / version).mkdir(parents=True)
    (folder / version / "items.json").write_text("[]")
    (folder / "config.pbtxt").write_text(f'name: "{model}"')
    (out / "serving.json").write_text(json.dumps({"alpha": alpha}))
    if features is not None:
        (out / "features").mkdir()
        shutil.copy2(features / "registry.db", out / "features")
    files = {str(path.relative_to(out)): sha256(path) for path in out.rglob("*") if path.is_file()}
    manifest = {"version": version, "mlflow": mlflow, "models": [model], "sha256": files}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out
