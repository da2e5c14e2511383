"""The store of one data set in a bucket, by URL: what serving/triton/store.py does in a folder.

    packages/<version>/   a package as the pipeline made it; it is there once its manifest is
    champion              the version that serves

Nobody mounts it. Who serves from it has a store of its own, on a disk that may go with its pod:
`mirror` brings versions there, verified, and `follow` the champion too.
"""

import os
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mtmh import object_store
from mtmh.data.files import replacing
from mtmh.errors import UserError
from serving.triton import store as folders
from serving.triton.histories import remove_histories
from serving.triton.served import Served
from serving.triton.store import CHAMPION, MANIFEST, SPARE_VERSIONS


def install(package: Path, url: str) -> str:
    """Put a package into the bucket; returns its version. The same package again changes nothing.

    Raises UserError as `store.install` does.
    """
    manifest = folders.checked_manifest(package)
    version = str(manifest["version"])
    if (stored := _read_manifest(url, version)) is not None:
        folders.check_same(folders.parsed_manifest(stored, url), manifest, url)
        return version
    object_store.put(package, f"{url}/packages/{version}", last=MANIFEST)
    return version


def promote(url: str, version: str, namespace: str = "") -> None:
    """Make `version` the one that serves, alone; see `serve`."""
    serve(url, Served(version), namespace)


def serve(url: str, served: Served, namespace: str = "") -> None:
    """Let these versions serve, once all of them is there. Raises UserError when it is not, or the
    share is none. A rollout's `namespace` is not kept: from a bucket nobody but a cluster serves.
    """
    served.check()
    for version in served.versions:
        verify(url, version)
    object_store.write(f"{url}/{CHAMPION}", served.text.encode())


def champion(url: str) -> str:
    """The version that serves. Raises UserError when the bucket has none."""
    return served(url).champion


def served(url: str) -> Served:
    """The version that serves, and the canary. Raises UserError when the bucket has none."""
    named = _named(url)
    if named is None:
        raise UserError(f"{url} has no champion to serve: the pipeline's step deploy names it.")
    return named[0]


def champion_named_us(url: str) -> int:
    """When the champion was named, in microseconds since 1970 by the server's clock, which counts
    whole seconds; 0 where none is.
    """
    named = _named(url)
    return named[1] if named else 0


def unname(url: str) -> None:
    """Let no version be the one that serves."""
    object_store.remove(url, [CHAMPION])


def verify(url: str, version: str) -> dict[str, Any]:
    """The manifest of a version whose files are all there; whoever fetches them verifies each.
    Raises UserError naming what is missing.
    """
    folder = f"{url}/packages/{version}"
    stored = _read_manifest(url, version)
    if stored is None:
        raise UserError(f"{folder} holds no {MANIFEST}: deploy version {version} again.")
    manifest = folders.parsed_manifest(stored, folder)
    if missing := sorted(set(manifest["sha256"]) - set(object_store.listed(folder))):
        raise UserError(f"{folder}/{missing[0]} is missing: deploy version {version} again.")
    return manifest


def versions(url: str) -> list[str]:
    """The installed versions, oldest first, as `store.versions` orders them."""
    paths = [name.split("/") for name in object_store.listed(f"{url}/packages")]
    numbers = (path[0] for path in paths if path[1:] == [MANIFEST])
    return sorted(numbers, key=lambda version: (folders.trained(version), int(version)))


def retire(url: str, spare: int = SPARE_VERSIONS, needed: Collection[str] = ()) -> list[str]:
    """Remove what `store.retire` would; returns the versions removed."""
    old = folders.superfluous(versions(url), {*served(url).versions, *needed}, spare)
    for version in old:
        _remove_histories(url, version)
        # The manifest first: what is left of one that was removed in part is no version.
        folder = f"{url}/packages/{version}"
        object_store.remove(folder, [MANIFEST])
        object_store.remove(folder, list(object_store.listed(folder)))
    return old


def mirror(url: str, store: Path, versions: Collection[str]) -> None:
    """Bring versions from the bucket into the folder `store`, where they are not there yet.

    Each comes whole and verified, or not at all. Raises UserError as `verify` and `fetch` do.
    """
    store.mkdir(parents=True, exist_ok=True)
    for version in sorted(set(versions) - set(folders.versions(store)), key=int):
        location = f"{url}/packages/{version}"
        with TemporaryDirectory(prefix=".fetch-", dir=store) as temporary:
            package = Path(temporary) / version
            object_store.fetch(location, package, verify(url, version)["sha256"])
            (package / MANIFEST).write_bytes(_read_manifest(url, version) or b"")
            folders.install(package, store)


def follow(url: str, store: Path, pinned: Collection[str] = ()) -> None:
    """Make the folder `store` serve what the bucket says, its champion and canary, and have the
    versions `pinned`.

    The champion changes once its version is there, and is named when it was named in the bucket.
    What is neither goes as `store.retire` has it: requests may still be answered from the last.
    """
    named = _named(url)
    if named is None:
        folders.unname(store)
        return
    serving, named_us = named
    mirror(url, store, {*serving.versions, *pinned})
    if folders.champion_named_us(store) != named_us or folders.served(store) != serving:
        with replacing(store / CHAMPION) as draft:
            draft.write_text(serving.text)
            os.utime(draft, ns=(named_us * 1000, named_us * 1000))
    folders.retire(store, needed=pinned)


def _named(url: str) -> tuple[Served, int] | None:
    """What serves, and when it was named; None where nothing is."""
    named = object_store.read(f"{url}/{CHAMPION}")
    if named is None:
        return None
    serving = Served.read(named[0].decode(errors="replace"), f"{url}/{CHAMPION}")
    return serving, int(named[1].timestamp()) * 1_000_000


def _remove_histories(url: str, version: str) -> None:
    """Remove what `version` has in Redis, unless another version reads it too: what tells is the
    registry of each."""
    with TemporaryDirectory() as temporary:
        for number in versions(url):
            for name in ("registry.db", "online.db"):
                stored = object_store.read(f"{url}/packages/{number}/features/{name}")
                if stored is not None:
                    (folder := Path(temporary) / number / "features").mkdir(
                        parents=True, exist_ok=True
                    )
                    (folder / name).write_bytes(stored[0])
        removed = Path(temporary) / version
        remove_histories(
            removed, [folder for folder in Path(temporary).iterdir() if folder != removed]
        )


def _read_manifest(url: str, version: str) -> bytes | None:
    stored = object_store.read(f"{url}/packages/{version}/{MANIFEST}")
    return stored[0] if stored else None
