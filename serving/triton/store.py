"""The store of one data set: packages side by side, the models of all of them for Triton, and the
champion's number.

    versions/<version>/   a package without its models
    models/<name>/        Triton's model repository; a model's name ends with its version
    champion              the version that serves; in a second line, a canary: `canary 8 0.05`
    cluster               the namespace whose Triton loads from here; no such file on one machine

A version is there when versions/<version> is: its models come before it and go after it. What a
manifest does not list is in no package: a file more is as wrong as one less, and neither may be a
link.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from mtmh.data.files import replacing
from mtmh.errors import UserError
from serving.triton.backend.files import disagreement, files_of
from serving.triton.histories import remove_histories
from serving.triton.served import Served

MANIFEST, CHAMPION, CLUSTER = "manifest.json", "champion", "cluster"
SPARE_VERSIONS = 2  # versions beside the champion
REFRESHES = 10_000  # of a version of the registry; the third of version 7 is 70003


class Manifest(BaseModel, extra="allow"):
    """What of a manifest must be so that nothing is read, moved or loaded from elsewhere than its
    package.
    """

    version: Annotated[str, Field(pattern="^[1-9][0-9]{0,17}$")]
    models: list[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*_[1-9][0-9]{0,17}$")]]
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


def install(package: Path, store: Path) -> str:
    """Put a package into the store; returns its version. The same package again changes nothing.

    Hard links where the file system has them, copies otherwise. Raises UserError when the package
    is not what its manifest lists, no file less and none more, and when the store has another
    package of that version: what a server may have loaded is never replaced.
    """
    manifest = checked_manifest(package)
    version = str(manifest["version"])
    folder = store / "versions" / version
    with _locked(store) as drafts:
        if folder.is_dir():
            check_same(_manifest(folder), manifest, store)
            return version
        draft = drafts / version
        shutil.copytree(package, draft, copy_function=_link)
        _share(draft, manifest["sha256"])
        _remove(store, version, drafts)
        for model in manifest["models"]:
            (draft / "models" / model).rename(store / "models" / model)
        (draft / "models").rmdir()
        draft.rename(folder)
    return version


def checked_manifest(package: Path) -> dict[str, Any]:
    """The manifest of a package, once its files are those that it lists, and every model has some.

    Raises UserError where they are not.
    """
    manifest = _manifest(package)
    version = manifest["version"]
    _check(manifest, files_of(package), package)
    for model in manifest["models"]:
        if not any(name.startswith(f"models/{model}/{version}/") for name in manifest["sha256"]):
            raise UserError(
                f"{package}: models/{model}/{version} is empty, and Triton takes no model without "
                "files in its version's folder: make the package again with mtmh package RUN."
            )
    return manifest


def promote(store: Path, version: str, namespace: str = "") -> None:
    """Make `version` the one that serves, alone; see `serve`."""
    serve(store, Served(version), namespace)


def serve(store: Path, served: Served, namespace: str = "") -> None:
    """Let these versions serve, after their checksums agree. A rollout names the `namespace` whose
    Triton has loaded them, and the store keeps that name.

    Raises UserError when they do not, when the share is none, and when a cluster serves from the
    store and this is no rollout: Triton loads there what a rollout names, and no router could serve
    the version.
    """
    served.check()
    for version in served.versions:
        verify(store, version)
    if namespace:
        with replacing(store / CLUSTER) as draft:
            draft.write_text(f"{namespace}\n")
    elif (store / CLUSTER).is_file():
        cluster = (store / CLUSTER).read_text().strip()
        raise UserError(
            f"the cluster's namespace {cluster} serves from {store}: Triton there has not loaded"
            f" version {served.canary or served.champion}, so that no router could serve it. Roll"
            " it out in place of promoting it: the step deploy does, and mtmh rollback, canary,"
            f" refresh and intake with --namespace {cluster}."
        )
    with replacing(store / CHAMPION) as draft:
        draft.write_text(served.text)


def champion(store: Path) -> str:
    """The version that serves. Raises UserError when the store has none."""
    return served(store).champion


def served(store: Path) -> Served:
    """The version that serves, and the canary. Raises UserError when the store has none."""
    try:
        with (store / CHAMPION).open() as file:
            named = Served.read(file.read(100), store / CHAMPION)
    except FileNotFoundError:
        raise UserError(
            f"{store} has no champion to serve: make one with `make run` (mtmh run)."
        ) from None
    for version in named.versions:
        _manifest(store / "versions" / version)
    return named


def champion_named_us(store: Path) -> int:
    """When the champion was named, in microseconds since 1970 by the file system's clock; 0 where
    none is. It tells two namings of the same version apart.
    """
    try:
        return (store / CHAMPION).stat().st_mtime_ns // 1000
    except FileNotFoundError:
        return 0


def unname(store: Path) -> None:
    """Let no version be the one that serves."""
    (store / CHAMPION).unlink(missing_ok=True)


def verify(store: Path, version: str) -> dict[str, Any]:
    """Check every file of an installed version and return its manifest. Raises UserError naming
    what does not agree.
    """
    folder = store / "versions" / version
    manifest = _manifest(folder)
    models = {
        f"models/{name}": path
        for name, path in files_of(store / "models").items()
        if _of(version, name)
    }
    _check(manifest, files_of(folder) | models, folder)
    return manifest


def trained(version: str) -> int:
    """The registry's number of the version that `version` is, or is a refresh of."""
    number = int(version)
    return number if number < REFRESHES else number // REFRESHES


def versions(store: Path) -> list[str]:
    """The installed versions, oldest first: a version's refreshes come after it and before what was
    trained later.
    """
    names = (path.name for path in (store / "versions").glob("[0-9]*"))
    return sorted(names, key=lambda version: (trained(version), int(version)))


def retire(store: Path, spare: int = SPARE_VERSIONS, needed: Collection[str] = ()) -> list[str]:
    """Remove all versions but the champion, a canary, those `needed`, and the newest `spare`
    others, with their histories in Redis; returns those removed.

    A server that has one of them loaded goes on with it: it holds what it read. Raises UserError
    when Redis refuses: then that version is still there, for the next time.
    """
    with _locked(store) as drafts:
        old = superfluous(versions(store), {*served(store).versions, *needed}, spare)
        for version in old:
            folder = store / "versions" / version
            remove_histories(
                folder, [other for other in folder.parent.iterdir() if other != folder]
            )
            _remove(store, version, drafts)
    return old


def superfluous(versions: list[str], needed: Collection[str], spare: int) -> list[str]:
    """Of the installed versions, oldest first, those that may go: all but those `needed`, and the
    newest `spare` others.
    """
    others = [version for version in versions if version not in needed]
    return others[: max(len(others) - spare, 0)]


@contextmanager
def _locked(store: Path) -> Iterator[Path]:
    """Hold the store while it is changed, and give a folder for drafts: empty at first, removed at
    the end.
    """
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
    """Take a version out of the store, first its name, then its models; or what a killed install
    left of it.
    """
    removed = drafts / f"old-{version}"
    removed.mkdir()
    folder = store / "versions" / version
    if folder.is_dir():
        folder.rename(removed / "version")
    for model in (store / "models").glob(f"*_{version}"):
        model.rename(removed / model.name)


def _manifest(package: Path) -> dict[str, Any]:
    try:
        return parsed_manifest((package / MANIFEST).read_bytes(), package)
    except FileNotFoundError:
        raise UserError(
            f"{package} holds no {MANIFEST}: it is no package. Make one with mtmh package RUN."
        ) from None


def parsed_manifest(content: bytes, package: Path | str) -> dict[str, Any]:
    """A manifest, read. Raises UserError naming `package` when it is none."""
    try:
        return Manifest.model_validate_json(content).model_dump()
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "the file"
        raise UserError(
            f"{package}/{MANIFEST}: {where}: {wrong['msg']}. Make the package again."
        ) from None


def check_same(installed: dict[str, Any], manifest: dict[str, Any], store: Path | str) -> None:
    """Raises UserError when two packages of one version are not of the same registered version, nor
    have the same files.
    """
    # The registry gives a number to a retriever and its settings; the feature store's files differ
    # by the time of their writing.
    registered = manifest.get("mlflow")
    if registered and registered == installed.get("mlflow"):
        return
    if manifest["sha256"] != installed["sha256"]:
        raise UserError(
            f"{store} has another package as version {manifest['version']}, which may serve: it is"
            " not replaced. Give this one a number that neither the store nor the registry has;"
            " where the registry was begun anew, use a new store, or remove the old one while"
            " nothing serves from it."
        )


def _check(manifest: dict[str, Any], files: dict[str, Path], package: Path) -> None:
    """Raises UserError when `files`, by their names in the package, are not what the manifest
    lists.
    """
    files.pop(MANIFEST)
    models = {name.split("/")[1] for name in manifest["sha256"] if name.startswith("models/")}
    if models != set(manifest["models"]) or not all(
        _of(manifest["version"], model) for model in models
    ):
        raise UserError(
            f"{package / MANIFEST} does not list the models whose files it lists: make the "
            f"package again."
        )
    if complaint := disagreement(files, manifest["sha256"], package):
        raise UserError(f"{complaint}: make the package again.")


def _of(version: str, model: str) -> bool:
    """Whether a file or folder of the models' belongs to the version; Triton loads what is called
    so.
    """
    return model.split("/")[0].endswith(f"_{version}")


def _share(package: Path, checksums: dict[str, str]) -> None:
    """Make equal files one: Triton's models map what they read, so memory then has it once."""
    first: dict[str, Path] = {}
    for name, checksum in checksums.items():
        path = package / name
        if (original := first.setdefault(checksum, path)) != path:
            path.unlink()
            _link(str(original), str(path))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
