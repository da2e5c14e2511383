"""A user's history from Feast's online store: read in a thread, within a budget of its own."""

import asyncio
import logging
import time
from collections.abc import Collection
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
        self.directories: dict[
            Path, Path | None
        ] = {}  # a version's folder -> its store, None where it carries none
        self.stores: dict[Path, FeatureStore] = {}
        self.opening: dict[Path, asyncio.Future[FeatureStore]] = {}
        self.background: set[asyncio.Task[None]] = set()
        self.quiet_until = 0.0

    async def open(self, package: Path) -> None:
        """Open the store of a version, unless it is open. Says in the log why it cannot be; ask
        again later.

        Whether the version has a store is looked up once, when it is loaded: one that goes missing
        is no version without a store.
        """
        if package not in self.directories:
            self.directories[package] = await asyncio.to_thread(self._directory, package)
        directory = self.directories[package]
        if directory is None or directory in self.stores:
            return

        # Imported in the thread as well: Feast takes seconds, and requests go on meanwhile.
        def connected() -> "FeatureStore":
            from feature_repo.feast_import import import_feast

            import_feast()
            from feature_repo.online import online_user_history
            from feature_repo.store import open_store

            (directory / "registry.db").stat()  # Feast would begin an empty store where none is
            store = open_store(directory)  # the registry says which project is this version's
            online_user_history(store, [""])  # reads the registry and connects
            return store

        opening = self.opening.get(directory)
        if opening is None:  # a store that hangs takes one thread, not all
            opening = asyncio.get_running_loop().run_in_executor(self.threads, connected)
            self.opening[directory] = opening
            opening.add_done_callback(lambda _: self.opening.pop(directory, None))
        # Shielded, as a thread cannot be stopped: it stays in `opening`, and no second one starts.
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                self.stores[directory] = await asyncio.shield(opening)
        except TimeoutError:
            self._warn(f"{directory} is not open after {OPEN_SECONDS:g} s")
        except Exception as error:  # Feast raises what its backend does: sqlite3, redis, or its own
            self._warn(f"{directory} cannot be opened: {type(error).__name__}: {error}")

    def reopen(self, packages: Collection[Path]) -> None:
        """Try again, behind what goes on, to open those stores of these versions that are not
        open.
        """
        for package in packages:
            directory = self.directories.get(package)
            if (
                directory is not None
                and directory not in self.stores
                and directory not in self.opening
            ):
                task = asyncio.create_task(self.open(package))
                self.background.add(task)
                task.add_done_callback(self.background.discard)

    def close(self, packages: Collection[Path]) -> None:
        """Forget the stores of all but these versions."""
        self.directories = {
            package: store for package, store in self.directories.items() if package in packages
        }
        needed = set(self.directories.values())
        self.stores = {
            directory: store for directory, store in self.stores.items() if directory in needed
        }

    async def read(self, package: Path, user_id: str, seconds: float) -> list[str] | None:
        """Item ids newest first, empty for an unknown user; None when the store does not answer in
        time.

        `seconds` is what the request has left. A version that was loaded without a store knows no
        user.
        """
        directory = self.directories.get(package, package)
        if directory is None:
            return []
        store = self.stores.get(directory)
        if store is None:
            return None

        def newest_first() -> list[str]:
            from feature_repo.online import online_user_history  # it is loaded since `open`

            return online_user_history(store, [user_id])[0].item_ids

        try:
            # When the store hangs, what waits for a thread is taken back after its time: nothing
            # piles up.
            async with asyncio.timeout(min(seconds, self.settings.timeout_ms / 1000)):
                return await asyncio.get_running_loop().run_in_executor(self.threads, newest_first)
        except TimeoutError:
            self._warn(f"no answer within {self.settings.timeout_ms} ms")
        except Exception as error:  # as above
            self._warn(f"{type(error).__name__}: {error}")
        return None

    def _warn(self, why: str) -> None:
        """One line a second: a store that is down is asked by every request."""
        if time.monotonic() >= self.quiet_until:
            self.quiet_until = time.monotonic() + 1.0
            log.warning("history unavailable", extra={"fields": {"why": why}})

    def _directory(self, package: Path) -> Path | None:
        directory = self.settings.directory or package / "features"
        if (directory / "registry.db").is_file():
            return directory
        log.warning(
            "no feature store: users have no history",
            extra={"fields": {"directory": str(directory)}},
        )
        return None
