"""The store of one data set: packages side by side, the models of all of them for Triton, and the
champion's number.

    versions/<version>/   a package without its models
    models/<name>/        Triton's model repository; a model's name ends with its version
    champion              the version that serves; in a second line, a canary: `canary 8 0.05`

A version is there when versions/<version> is: its models come before it and go after it. What a
manifest does not list is in no package: a file more is as wrong as one less, and neither may be a
link.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from mtmh.data.files import replacing
from mtmh.errors import UserError
from serving.triton.backend.files import disagreement, files_of

MANIFEST, CHAMPION = "manifest.json", "champion"
SPARE_VERSIONS = 2  # versions beside the champion


class Served(NamedTuple):
    """What the file `champion` says: the version that serves, and, while there is one, a canary
    that a `share` (0 to 1) of the users outside of an experiment get instead.
    """

    champion: str
    canary: str = ""
    share: float = 0.0

    @property
    def versions(self) -> set[str]:
        """Those that must be loaded."""
        return {self.champion, self.canary} - {""}

    @property
    def text(self) -> str:
        """As the file has it."""
        canary = f"canary {self.canary} {self.share:g}\n" if self.canary else ""
        return f"{self.champion}\n{canary}"

    @classmethod
    def read(cls, text: str, where: object) -> "Served":
        """From the text of the file `where`. Raises UserError when it is something else."""
        line = r"([0-9]{1,18})(?:\s+canary ([0-9]{1,18}) (0\.[0-9]{1,4}))?"
        if (match := re.fullmatch(line, text.strip())) is None:
            raise UserError(
                f"{where} holds {text.strip()[:20]!r}, which is no version: write its number there."
            )
        champion, canary, share = match.groups()
        return cls(champion, canary or "", float(share or 0.0))


class Manifest(BaseModel, extra="allow"):
    """What of a manifest must be so that nothing is read, moved or loaded from elsewhere than its
    package.
    """

    version: Annotated[str, Field(pattern="^[1-9][0-9]{0,17}$")]
    models: list[Annotated[str, Field(pattern="^[a-z_]+_[1-9][0-9]{0,17}$")]]
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


def install(package: Path, store: Path) -> str:
    """Put a package into the store; returns its version. The same package again changes nothing.

    Hard links where the file system has them, copies otherwise. Raises UserError when the package
    is not what its manifest lists, no file less and none more, and when the store has another
    package of that version: what a server may have loaded is never replaced.
    """
    manifest = _manifest(package)
    version = str(manifest["version"])
    folder = store / "versions" / version
    _check(manifest, files_of(package), package)
    for model in manifest["models"]:
        if not any(name.startswith(f"models/{model}/{version}/") for name in manifest["sha256"]):
            raise UserError(
                f"{package}: models/{model}/{version} is empty, and Triton takes no model without "
                "files in its version's folder: make the package again with mtmh package RUN."
            )
    with _locked(store) as drafts:
        if folder.is_dir():
            _check_same(_manifest(folder), manifest, store)
            return version
        draft = drafts / version
        shutil.copytree(package, draft, copy_function=_link)
        _remove(store, version, drafts)
        for model in manifest["models"]:
            (draft / "models" / model).rename(store / "models" / model)
        (draft / "models").rmdir()
        draft.rename(folder)
    return version


def promote(store: Path, version: str) -> None:
    """Make `version` the one that serves, alone, after its checksums agree. Raises UserError when
    they do not.
    """
    serve(store, Served(version))


def serve(store: Path, served: Served) -> None:
    """Let these versions serve, after `verify_served`."""
    verify_served(store, served)
    with replacing(store / CHAMPION) as draft:
        draft.write_text(served.text)


def verify_served(store: Path, served: Served) -> None:
    """Raises UserError when a version's checksums do not agree, or a canary's share is none."""
    if served.canary and not (0.0 < served.share < 1.0 and round(served.share, 4) == served.share):
        raise UserError(
            f"a canary's share is from 0.0001 to 0.9999, such as 0.05, not {served.share:g}."
        )
    for version in served.versions:
        verify(store, version)


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


def versions(store: Path) -> list[str]:
    """The installed versions, oldest first."""
    return sorted((path.name for path in (store / "versions").glob("[0-9]*")), key=int)


def retire(store: Path, spare: int = SPARE_VERSIONS, needed: Collection[str] = ()) -> list[str]:
    """Remove all versions but the champion, a canary, those `needed`, and the newest `spare`
    others; returns those removed.

    A server that has one of them loaded goes on with it: it holds what it read.
    """
    with _locked(store) as drafts:
        serving = served(store).versions
        others = [version for version in versions(store) if version not in (*serving, *needed)]
        old = others[: max(len(others) - spare, 0)]
        for version in old:
            _remove(store, version, drafts)
    return old


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
        return Manifest.model_validate_json((package / MANIFEST).read_bytes()).model_dump()
    except FileNotFoundError:
        raise UserError(
            f"{package} holds no {MANIFEST}: it is no package. Make one with mtmh package RUN."
        ) from None
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "the file"
        raise UserError(
            f"{package / MANIFEST}: {where}: {wrong['msg']}. Make the package again."
        ) from None


def _check_same(installed: dict[str, Any], manifest: dict[str, Any], store: Path) -> None:
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


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
