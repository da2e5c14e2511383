"""The store of one data set: packages side by side, the models of all of them for Triton, and the champion's number.

    versions/<version>/   a package without its models
    models/<name>/        Triton's model repository; a model's name ends with its version
    champion              the version that serves

A version is there when versions/<version> is: its models come before it and go after it.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtmh.data.files import replacing
from mtmh.errors import UserError
from serving.triton.backend.files import sha256

MANIFEST, CHAMPION = "manifest.json", "champion"
KEPT = 2  # versions beside the champion


def install(package: Path, store: Path) -> str:
    """Put a package into the store, whole or not at all; returns its version. One that is there already stays.

    Hard links where the file system has them, copies otherwise. Raises UserError when the package does not have the
    checksums of its manifest, or the store has other files under the same version.
    """
    manifest = _manifest(package)
    version = str(manifest["version"])
    place = store / "versions" / version
    if place.is_dir():
        if _manifest(place) != manifest:
            raise UserError(f"{place} is another package of version {version}: remove it, or give this one a new number.")
        return version
    _check(manifest, lambda name: package / name)
    draft = store / ".drafts" / f"{version}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(package, draft, copy_function=_link)
        for folder in ("versions", "models"):
            (store / folder).mkdir(exist_ok=True)
        for model in manifest["models"]:
            target = store / "models" / model
            if target.exists():  # left by an install that was killed before it named its version
                shutil.rmtree(target)
            (draft / "models" / model).rename(target)
        (draft / "models").rmdir()
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return version


def promote(store: Path, version: str) -> None:
    """Make `version` the one that serves, after its checksums agree. Raises UserError when they do not."""
    verify(store, version)
    with replacing(store / CHAMPION) as draft:
        draft.write_text(f"{version}\n")


def champion(store: Path) -> str:
    """The version that serves. Raises UserError when the store has none."""
    try:
        version = (store / CHAMPION).read_text().strip()
    except FileNotFoundError:
        raise UserError(f"{store} has no champion to serve: make one with `make run` (mtmh run).") from None
    _manifest(store / "versions" / version)
    return version


def verify(store: Path, version: str) -> dict[str, Any]:
    """Check every file of an installed version and return its manifest. Raises UserError naming what does not agree."""
    place = store / "versions" / version
    manifest = _manifest(place)
    _check(manifest, lambda name: (store if name.startswith("models/") else place) / name)
    return manifest


def versions(store: Path) -> list[str]:
    """The installed versions, oldest first."""
    return sorted((path.name for path in (store / "versions").glob("[0-9]*")), key=int)


def retire(store: Path, kept: int = KEPT) -> list[str]:
    """Remove all versions but the champion and the newest `kept` others; returns those removed.

    A server that has one of them loaded goes on with it: it holds what it read.
    """
    serving = champion(store)
    others = [version for version in versions(store) if version != serving]
    old = others[: max(len(others) - kept, 0)]
    for version in old:
        place = store / "versions" / version
        models = _manifest(place)["models"]
        gone = store / ".drafts" / f"retired-{version}.{os.getpid()}"
        gone.mkdir(parents=True)
        place.rename(gone / "version")
        for model in models:
            (store / "models" / model).rename(gone / model)
        shutil.rmtree(gone)
    return old


def _manifest(package: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((package / MANIFEST).read_text())
    except FileNotFoundError:
        raise UserError(f"{package} holds no {MANIFEST}: it is no package. Make one with mtmh package RUN.") from None
    return manifest


def _check(manifest: dict[str, Any], place: Callable[[str], Path]) -> None:
    for name, expected in manifest["sha256"].items():
        path = place(name)
        if not path.is_file():
            raise UserError(f"{path} is missing, though the manifest lists it: make the package again.")
        if sha256(path) != expected:
            raise UserError(f"{path} does not have the checksum of its manifest: make the package again.")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
