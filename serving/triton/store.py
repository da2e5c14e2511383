"""The store of one data set: packages side by side, the models of all of them for Triton, and the champion's number.

    versions/<version>/   a package without its models
    models/<name>/        Triton's model repository; a model's name ends with its version
    champion              the version that serves

A version is there when versions/<version> is: its models come before it and go after it.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtmh.data.files import replacing
from mtmh.errors import UserError
from serving.triton.backend.files import sha256

MANIFEST, CHAMPION = "manifest.json", "champion"
KEPT = 2  # versions beside the champion


def install(package: Path, store: Path) -> str:
    """Put a package into the store; returns its version. The same package again changes nothing.

    Another package of a version that is there (the same retriever with other settings) takes its place; a server that
    has the version loaded goes on with what it read. Hard links where the file system has them, copies otherwise.
    Raises UserError when the package does not have the checksums of its manifest.
    """
    manifest = _manifest(package)
    version = str(manifest["version"])
    place = store / "versions" / version
    _check(manifest, lambda name: package / name)
    with _owned(store) as drafts:
        if place.is_dir() and _manifest(place) == manifest:
            return version
        draft = drafts / version
        shutil.copytree(package, draft, copy_function=_link)
        _remove(store, version, drafts)
        for model in manifest["models"]:
            (draft / "models" / model).rename(store / "models" / model)
        (draft / "models").rmdir()
        draft.rename(place)
    return version


def promote(store: Path, version: str) -> None:
    """Make `version` the one that serves, after its checksums agree. Raises UserError when they do not."""
    verify(store, version)
    with replacing(store / CHAMPION) as draft:
        draft.write_text(f"{version}\n")


def champion(store: Path) -> str:
    """The version that serves. Raises UserError when the store has none."""
    try:
        with (store / CHAMPION).open() as file:
            version = file.read(100).strip()
    except FileNotFoundError:
        raise UserError(f"{store} has no champion to serve: make one with `make run` (mtmh run).") from None
    if not re.fullmatch("[0-9]{1,18}", version):
        raise UserError(f"{store / CHAMPION} holds {version[:20]!r}, which is no version: write its number there.")
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


def retire(store: Path, kept: int = KEPT, needed: Collection[str] = ()) -> list[str]:
    """Remove all versions but the champion, those `needed`, and the newest `kept` others; returns those removed.

    A server that has one of them loaded goes on with it: it holds what it read.
    """
    with _owned(store) as drafts:
        serving = champion(store)
        others = [version for version in versions(store) if version not in (serving, *needed)]
        old = others[: max(len(others) - kept, 0)]
        for version in old:
            _remove(store, version, drafts)
    return old


@contextmanager
def _owned(store: Path) -> Iterator[Path]:
    """Hold the store while it is changed, and give a folder for drafts: empty at first, removed at the end."""
    for folder in ("versions", "models"):
        (store / folder).mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        drafts = store / ".drafts"
        shutil.rmtree(drafts, ignore_errors=True)  # of one that was killed
        drafts.mkdir()
        try:
            yield drafts
        finally:
            shutil.rmtree(drafts)


def _remove(store: Path, version: str, drafts: Path) -> None:
    """Take a version out of the store, first its name, then its models; or what a killed install left of it."""
    gone = drafts / f"old-{version}"
    gone.mkdir()
    place = store / "versions" / version
    if place.is_dir():
        place.rename(gone / "version")
    for model in (store / "models").glob(f"*_{version}"):
        model.rename(gone / model.name)


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
