"""The version of the code that a result was made with."""

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("mtmh", "components", "feature_repo", "pipelines")
SETTINGS = ROOT / "pipelines" / "configs"  # they enter the key of each step by their values
SUFFIXES = (".py", ".yaml", ".html", ".j2", ".css")
COMPUTING = (
    "numpy",
    "torch",
    "faiss-cpu",
    "transformers",
    "implicit",
    "duckdb",
    "ibis-framework",
    "feast",
    "pillow",
)


def code_version() -> str:
    """Hash of the project's sources and of the versions of the libraries that
    compute: 16 hexadecimal digits.

    Part of every cached step's key, because Kubeflow does not look into the packages that a step
    imports.
    """
    digest = hashlib.sha256(sys.version.encode())
    # Sources in a fixed order, each with its path: a moved file is another version.
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in SUFFIXES and not path.is_relative_to(SETTINGS):
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    for package in COMPUTING:
        try:
            installed = version(package)
        except PackageNotFoundError:
            installed = "absent"
        digest.update(f"{package} {installed}\n".encode())
    return digest.hexdigest()[:16]
