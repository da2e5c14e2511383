"""A store is a folder or a bucket's URL: two libraries have the same functions for them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from mtmh.object_store import is_url
from serving.triton import bucket, store
from serving.triton.served import Served


class Library(Protocol):
    """What `serving.triton.store` does in a folder and `serving.triton.bucket` at a URL."""

    def install(self, package: Path, store: Any) -> str: ...
    def promote(self, store: Any, version: str, namespace: str = ...) -> None: ...
    def serve(self, store: Any, served: Served, namespace: str = ...) -> None: ...
    def champion(self, store: Any) -> str: ...
    def served(self, store: Any) -> Served: ...
    def champion_named_us(self, store: Any) -> int: ...
    def unname(self, store: Any) -> None: ...
    def verify(self, store: Any, version: str) -> dict[str, Any]: ...
    def versions(self, store: Any) -> list[str]: ...
    def retire(self, store: Any, spare: int = ..., needed: Collection[str] = ...) -> list[str]: ...


def library_of(location: Path | str) -> Library:
    """The library that handles the store at `location`."""
    return bucket if isinstance(location, str) else store


def opened(location: str) -> tuple[Library, Path | str]:
    """The store at a path or URL as its library takes it, after that library."""
    store_location = location.rstrip("/") if is_url(location) else Path(location)
    return library_of(store_location), store_location
