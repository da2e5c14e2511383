"""A user's history from Feast's online store: read in a thread, within a budget of its own."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from serving.router.settings import Features

if TYPE_CHECKING:
    from feast import FeatureStore

OPEN_SECONDS = 30.0  # Feast alone takes several to import

log = logging.getLogger("mtmh.router")


class Histories:
    """The stores opened so far, and the threads that read them."""

    def __init__(self, settings: Features) -> None:
        self.settings = settings
        self.threads = ThreadPoolExecutor(settings.threads, "history")
        self.stores: dict[Path, FeatureStore] = {}
        self.opening: set[Path] = set()
        self.quiet_until = 0.0

    async def open(self, package: Path) -> None:
        """Open the store of a version, unless it is open. Says in the log why it cannot be; ask again later."""
        place = self._place(package)
        if place is None or place in self.stores or place in self.opening:
            return
        self.opening.add(place)  # a store that hangs takes one thread, not all
        opening = asyncio.get_running_loop().run_in_executor(self.threads, _open, place)
        opening.add_done_callback(lambda _: self.opening.discard(place))
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                self.stores[place] = await asyncio.shield(opening)
        except TimeoutError:
            self._warn(f"{place} is not open after {OPEN_SECONDS:g} s")
        except Exception as error:  # Feast raises what its backend does: sqlite3, redis, or its own
            self._warn(f"{place} cannot be opened: {type(error).__name__}: {error}")

    def close(self, packages: list[Path]) -> None:
        """Forget the stores of all but these versions."""
        kept = {self._place(package) for package in packages}
        self.stores = {place: store for place, store in self.stores.items() if place in kept}

    async def read(self, package: Path, user_id: str, seconds: float) -> list[str] | None:
        """Item ids newest first, empty for an unknown user; None when the store does not answer in time.

        `seconds` is what the request has left. A version without a store knows no user.
        """
        place = self._place(package)
        if place is None:
            return []
        store = self.stores.get(place)
        if store is None:
            return None
        try:
            # When the store hangs, what waits for a thread is taken back after its time: nothing piles up.
            async with asyncio.timeout(min(seconds, self.settings.timeout_ms / 1000)):
                return await asyncio.get_running_loop().run_in_executor(self.threads, _read, store, user_id)
        except TimeoutError:
            self._warn(f"no answer within {self.settings.timeout_ms} ms")
        except Exception as error:  # as above
            self._warn(f"{type(error).__name__}: {error}")
        return None

    def _warn(self, why: str) -> None:
        """One line a second: a store that is down is asked by every request."""
        if time.monotonic() >= self.quiet_until:
            self.quiet_until = time.monotonic() + 1.0
            log.warning("history unavailable", extra={"told": {"why": why}})

    def _place(self, package: Path) -> Path | None:
        place = self.settings.directory or package / "features"
        return place if (place / "registry.db").is_file() else None


def _open(place: Path) -> "FeatureStore":
    from feature_repo.store import online_user_history, open_store

    store = open_store(place)
    online_user_history(store, [""])  # reads the registry and connects
    return store


def _read(store: "FeatureStore", user_id: str) -> list[str]:
    from feature_repo.store import online_user_history

    return online_user_history(store, [user_id])[0].item_ids
