"""Folders in an object store, by URL: s3://bucket/path, gs://bucket/path, az://container/path.

A path stays a path: only what is called here with a URL talks to a server. Keys and endpoint come
from the environment, as for every client of S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_ENDPOINT_URL (where it is not Amazon's), AWS_DEFAULT_REGION; GOOGLE_APPLICATION_CREDENTIALS; or
the account that the cluster gives a pod. An object is there whole or not at all; a folder is there
whole once its manifest is, which is therefore put last. UserError says which URL, and what to do.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mtmh.clock import Progress
from mtmh.errors import UserError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

SCHEMES = ("s3", "gs", "az")
RETRIES: "RetryConfig" = {"max_retries": 10, "retry_timeout": timedelta(minutes=3)}
AT_ONCE = 8  # files that are moved side by side
BLOCK = 2**20  # bytes

# What a server or its client says, first match: what is wrong, and what to do.
TROUBLES = (
    (("NoSuchBucket", "ContainerNotFound"), "there is no such bucket: make it, or mend its name"),
    (
        ("QuotaExceeded", "StorageFull", "507 Insufficient", "no space left", "disk full"),
        "the bucket is full: make room there, or raise its quota; what was whole is kept",
    ),
    (
        ("169.254.169.254", "metadata.google"),
        "no key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster the Secret of"
        " cluster.object_secret), or give the pod's account the right",
    ),
    (
        ("401 ", "403 ", "SignatureDoesNotMatch", "InvalidAccessKeyId", "UnsupportedAlgorithm"),
        "the server refuses the key: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be one that"
        " may read, write and list there",
    ),
    (
        ("InternalError", "NoSuchUpload", "500 Internal", "503 "),
        "the server cannot take or give it now, say because its disk is full: its log says why",
    ),
    (
        ("HTTP error", "operation timed out"),
        "the server does not answer: is AWS_ENDPOINT_URL right, and may this machine or pod reach"
        " it?",
    ),
)


def is_url(location: str | Path) -> bool:
    """Whether `location` is no path. Raises UserError for a URL of no object store."""
    scheme, separator, _ = str(location).partition("://")
    if separator and scheme not in SCHEMES:
        schemes = ", ".join(f"{name}://" for name in SCHEMES)
        raise UserError(f"{location}: no such kind of store. Write {schemes}, or a path.")
    return bool(separator)


def resolved(location: str) -> str:
    """A path in full; a URL as it is, without a slash at its end."""
    return location.rstrip("/") if is_url(location) else str(Path(location).resolve())


def listed(url: str) -> dict[str, dict[str, Any]]:
    """The objects below `url`, by their names from there: `size` (bytes), `e_tag`,
    `last_modified`.
    """
    import obstore

    with _explained(url):
        objects = [metadata for part in obstore.list(_opened(url)) for metadata in part]
    prefix = urlsplit(url).path.strip("/")
    names = [metadata["path"].removeprefix(prefix).lstrip("/") for metadata in objects]
    return {name: dict(metadata) for name, metadata in zip(names, objects, strict=True) if name}


def read(url: str) -> tuple[bytes, datetime] | None:
    """An object and when it was written; None where there is none."""
    import obstore

    folder, _, name = url.rpartition("/")
    with _explained(url):
        try:
            response = obstore.get(_opened(folder), name)
            return bytes(response.bytes()), response.meta["last_modified"]
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
    return None


def write(url: str, content: bytes | Path) -> None:
    """Put an object, or a file as one, in place of what is there."""
    import obstore

    folder, _, name = url.rpartition("/")
    with _explained(url):
        obstore.put(_opened(folder), name, content)


def remove(url: str, names: list[str]) -> None:
    """Remove objects below `url`, in order; those that are gone already are no error."""
    import obstore

    with _explained(url):
        obstore.delete(_opened(url), names)


def put(folder: Path, url: str, last: str = "") -> None:
    """Put every file of `folder` below `url`, the one called `last` when all others are there."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    manifest = names.pop(last, None)
    _move_all(names, f"put {url}", lambda name: write(f"{url}/{name}", folder / name))
    if manifest is not None:
        write(f"{url}/{last}", folder / last)


def fetch(url: str, folder: Path, sha256: Mapping[str, str] | None = None) -> None:
    """Fetch what lies below `url` into `folder`, each file whole or not at all.

    With `sha256`, a manifest's checksums by name, exactly these files, and each is verified. Raises
    UserError where one is missing, or not what it was.
    """
    sizes = {name: int(metadata["size"]) for name, metadata in listed(url).items()}
    if sha256 is not None:
        if missing := sorted(set(sha256) - set(sizes)):
            raise UserError(f"{url}/{missing[0]} is missing, though its checksum is listed.")
        sizes = {name: sizes[name] for name in sha256}
    for name in sizes:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{url}: {name!r} would lie outside of the folder: remove it.")

    def fetch_one(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            checksum = _download(url, name, draft)
            if sha256 is not None and checksum != sha256[name]:
                raise UserError(f"{url}/{name} does not have its checksum: put it there again.")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    folder.mkdir(parents=True, exist_ok=True)
    _move_all(sizes, f"fetch {url}", fetch_one)


@contextmanager
def as_folder(location: str) -> Iterator[Path]:
    """`location` itself where it is a path; what lies below the URL, in a temporary folder of the
    same name, while this is open. Raises UserError where nothing does.
    """
    if not is_url(location):
        yield Path(location)
        return
    with TemporaryDirectory(prefix="mtmh-") as temporary:
        folder = Path(temporary) / (location.rstrip("/").rpartition("/")[2] or "data")
        fetch(location.rstrip("/"), folder)
        if not any(folder.iterdir()):
            raise UserError(f"{location}: nothing lies there. Give the URL of a folder.")
        yield folder


def fingerprint(url: str) -> str:
    """Sha256 of what lies below `url`: names, sizes and the server's own marks of the content."""
    objects = sorted(listed(url.rstrip("/")).items())
    if not objects:
        raise UserError(f"{url}: nothing lies there. Give the URL of a folder.")
    marks = [f"{name} {stored['size']} {stored['e_tag']}\n" for name, stored in objects]
    return hashlib.sha256("".join(marks).encode()).hexdigest()


def _move_all(sizes: Mapping[str, int], label: str, move: Any) -> None:
    """`move` every name, some side by side; lines of progress where it takes long."""
    progress = Progress(label, max(sum(sizes.values()), 1), "B")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, _ in zip(sizes, pool.map(move, sizes), strict=True):
            progress.advance(sizes[name])


def _download(url: str, name: str, draft: Path) -> str:
    """Write an object to `draft`; its sha256."""
    import obstore

    digest = hashlib.sha256()
    with _explained(f"{url}/{name}"), draft.open("wb") as file:
        stream = obstore.get(_opened(url), name).stream(min_chunk_size=BLOCK)
        for block in stream:
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _opened(url: str) -> Any:
    """The store below `url`. Plain http is the endpoint's choice: it is spoken only where
    AWS_ENDPOINT_URL says so.
    """
    from obstore.store import from_url

    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return from_url(url, client_options={"allow_http": plain}, retry_config=RETRIES)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """UserError in place of what the store's client raises."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        text = str(error)
        for words, advice in TROUBLES:
            if any(word in text for word in words):
                raise UserError(f"{url}: {advice}.") from error
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{url}: there is no such object.") from error
        raise UserError(f"{url}: {text.partition('Debug source')[0].strip()}") from error
