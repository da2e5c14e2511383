"""Which versions take traffic: the store's champion and the arms', loaded in Triton, warmed up,
swapped, drained.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mtmh.errors import UserError
from serving.router.history import Histories
from serving.router.live import Live, Serving
from serving.router.loading import Models, NotReadyError
from serving.router.metrics import Loaded, Metrics
from serving.router.package import Package
from serving.router.quotas import misfit
from serving.router.readiness import Readiness
from serving.router.refusals import Refusals
from serving.router.settings import ExperimentSettings
from serving.router.triton_channel import Outage
from serving.triton import store
from serving.triton.served import Served

log = logging.getLogger("mtmh.router")


class RefusedError(Exception):
    """A version that must not take traffic; the message is a short reason, its cause has the
    details.
    """


@contextmanager
def refusing(reason: str) -> Iterator[None]:
    """Whatever fails in here is the version's fault, unless Triton is not ready."""
    try:
        yield
    except NotReadyError:
        raise
    except Exception as error:
        raise RefusedError(reason) from error


@dataclass
class Versions:
    """Watches the store and Triton. `serving` is None until the first version is ready."""

    directory: Path  # the store
    models: Models
    histories: Histories
    readiness: Readiness
    metrics: Metrics
    experiment: ExperimentSettings  # as configured
    serving: Serving | None = None
    loaded: dict[str, Live] = field(default_factory=dict)  # warm: what serves, and what waits to
    refusals: Refusals = field(default_factory=Refusals)
    # Version -> unloaded when, users.
    draining: dict[str, tuple[float, Live | None]] = field(default_factory=dict)
    outage: Outage = field(default_factory=Outage)  # of Triton
    named: Served = field(default_factory=lambda: Served(""))  # as the store says

    @property
    def ready(self) -> bool:
        """Whether a version takes traffic, and a head of it answers."""
        return self.serving is not None and self.readiness.answers(self.serving.champion)

    @property
    def instead_of(self) -> str:
        """The store's champion where another version serves in its place, else empty."""
        champion = self.named.champion
        is_other = self.serving is not None and champion not in ("", self.serving.champion)
        return champion if is_other else ""

    @property
    def silent(self) -> dict[str, dict[str, str]]:
        """Version that takes traffic -> its channels that do not answer, and why."""
        live = self.serving.live if self.serving else ()
        return {number: heads for number in live if (heads := self.readiness.silent(number))}

    def _is_silent(self, channel: str) -> bool:
        return any(channel in channels for channels in self.silent.values())

    def adopt(self, experiment: ExperimentSettings) -> None:
        """Serve a new configuration's arms from now on, or as soon as their versions are loaded."""
        self.experiment = experiment
        if self.serving is not None:
            self._publish(self.serving.named)

    async def look(self) -> None:
        """One round: what Triton lost is loaded again, what is new is taken over, what is old is
        unloaded.
        """
        try:
            # Triton is asked once a round; all three steps below go by its answer.
            packages = [live.package for live in self.loaded.values()]
            ready = await self.models.ready(
                [model for package in packages for model in package.models]
            )
            # First what serves already, then what is new; only then is anything unloaded.
            await self.models.restore(packages, ready)
            await self._take_over(ready)
            await self._retire(ready)
            self.outage.note_answer()
        except NotReadyError as error:
            self.outage.note_silence(str(error))
            # Before the first version nobody else uses the client, so that no call is cut off.
            if self.serving is None:
                await self.models.channel.renew()
        # Histories do not need Triton, so they are tried again even while it is away.
        self.histories.reopen([live.package.folder for live in self.loaded.values()])

    async def _take_over(self, ready: set[str]) -> None:
        named = await self._read_champion()
        for number in dict.fromkeys([named.champion, named.canary, *self.experiment.versions]):
            if number and number not in self.loaded and (live := await self._take(number, ready)):
                self.loaded[number] = live
        serves = named
        if self.serving is None and named.champion and named.champion not in self.loaded:
            serves = Served(await self._fall_back(named.champion, ready))
        self._publish(serves)
        # Until something serves, what was refused in the champion's place is not tried again.
        if self.serving is not None:
            named_now = {"champion", "experiment", *named.versions, *self.experiment.versions}
            self.refusals.keep(named_now)
        self.named = named
        self.metrics.champion_missing.set(bool(self.instead_of))

    async def _fall_back(self, champion: str, ready: set[str]) -> str:
        """The newest other version that Triton has loaded, taken, where a router that starts has no
        champion to serve; `champion` where there is none, or where it is this router that loads.
        """
        if self.models.settings.manages_models:
            return champion
        for number in reversed(await asyncio.to_thread(store.versions, self.directory)):
            if number != champion and (live := await self._take(number, ready)):
                self.loaded[number] = live
                fields = {"champion": champion, "serves": number}
                log.warning("the champion is not there to serve", extra={"fields": fields})
                return number
        return champion

    async def _read_champion(self) -> Served:
        """The store's champion and canary; those that serve where the store cannot tell."""

        def read() -> tuple[int, Served]:
            # The time first: a champion that is named between the two is new at the next look.
            return store.champion_named_us(self.directory), store.served(self.directory)

        try:
            named_us, named = await asyncio.to_thread(read)
        except (UserError, ValueError, OSError) as error:
            self._refuse(
                "champion",
                "the store's file champion names no version that is there",
                error,
                str(error),
            )
            return self.serving.named if self.serving else Served("")
        self.refusals.drop("champion")
        self.refusals.follow(named_us)
        return named

    def _publish(self, named: Served) -> None:
        """Serve the champion, the canary and the configured arms; where one is not loaded, what
        served before it goes on.
        """
        old, wanted = self.serving, named.versions
        # A champion that is refused or not loaded yet leaves the old one where it is.
        if named.champion not in self.loaded:
            if old is None:
                return
            named = old.named
        elif named.canary not in self.loaded:
            named = Served(named.champion)
        experiment = self.experiment
        # All arms start together: with one of them missing there is nothing to compare.
        pending = any(number not in self.loaded for number in experiment.versions)
        if why := "" if pending else self._misfit(experiment, named):
            self.refusals.wait("experiment", why)
        else:
            self.refusals.drop("experiment")
        if pending or why:
            experiment = old.experiment if old else ExperimentSettings()
            # A champion whose channels the running arms do not know waits as well.
            named = old.named if old and self._misfit(experiment, named) else named
        self.metrics.experiment_pending.set(bool(pending or why))
        live = {number: self.loaded[number] for number in {*named.versions, *experiment.versions}}
        # Versions of what waits stay, or every look would load them again.
        needed = {*live, *wanted, *self.experiment.versions}
        for number in [number for number in self.loaded if number not in needed]:
            self.draining[number] = (
                time.monotonic() + self.models.settings.drain_seconds,
                self.loaded.pop(number),
            )
        new = Serving(named, live, experiment)
        if new != old:
            self._tell(old, new)
            self.serving = new

    def _misfit(self, experiment: ExperimentSettings, named: Served) -> str:
        """Why an arm's quotas are none of its version's; empty where they are."""
        arms = experiment.arms or ()
        return misfit(arms, [self.loaded[arm.version or named.champion].package for arm in arms])

    def _tell(self, old: Serving | None, new: Serving) -> None:
        # Replaced as a whole: a scrape in between must not see half of each.
        self.metrics.loaded = {
            number: Loaded(
                champion=number == new.champion,
                items=len(live.package.item_ids),
                packaged=live.package.packaged,
                newest_item=live.package.newest_item,
            )
            for number, live in new.live.items()
        }
        for number, live in new.live.items():
            self.metrics.by_version.begin(number)
            for channel in live.package.channel_names:
                self.metrics.channels.begin(channel, self._is_silent)
        # Arms that begin or end are no swap of the champion.
        if old is None or old.champion != new.champion:
            self.metrics.swaps.inc()
        arms = [arm.name for arm in new.experiment.arms or ()]
        log.info(
            "serving",
            extra={"fields": {**new.named._asdict(), "versions": list(new.live), "arms": arms}},
        )

    async def _take(self, number: str, ready: set[str]) -> Live | None:
        """The version, loaded and warm; None where it failed, now or before, or is not ready
        yet.
        """
        # Before it is tried: what changes meanwhile may mend it, and is tried as well.
        stamp = await asyncio.to_thread(self._stamp, number)
        if self.refusals.stands(number, stamp):
            return None
        start = time.perf_counter()
        try:
            live = await self._prepare(number, ready)
        except (
            RefusedError
        ) as refusal:  # whatever is wrong with a version, the one before it goes on
            error = refusal.__cause__ or refusal
            # What cannot be read may come back as it was: that is tried again at every look.
            stamp = str(error) if isinstance(error, OSError) else stamp
            self._refuse(number, str(refusal), error, stamp)
            await self.models.unload(
                [model for model in await self.models.ready([]) if model.endswith(f"_{number}")]
            )
            return None
        if live is not None:
            self.refusals.drop(number)
            self.draining.pop(number, None)
            self.readiness.note_answers(number, live.package.channel_names)
            seconds = round(time.perf_counter() - start, 2)
            log.info("version loaded", extra={"fields": {"version": number, "seconds": seconds}})
        return live

    async def _prepare(self, number: str, ready: set[str]) -> Live | None:
        """Check, load and warm up a version; None where somebody else is to load it. Raises
        RefusedError.
        """
        folder = self.directory / "versions" / number
        if not self.models.settings.manages_models:
            with refusing("it is not in the store, or cannot be read"):
                manifest = json.loads(await asyncio.to_thread((folder / store.MANIFEST).read_text))
            if missing := sorted(
                set(manifest["models"]) - await self.models.ready(manifest["models"])
            ):
                self.refusals.wait(number, f"for somebody to load {', '.join(missing)}")
                return None
        _, live = self.draining.get(number, (0.0, None))
        if live is None:
            with refusing("it is not in the store, or a file of it does not have its checksum"):
                await asyncio.to_thread(store.verify, self.directory, number)
                live = Live(await asyncio.to_thread(Package.load, folder))
        # Meanwhile, and whether or not it opens: a version can serve without histories.
        opening = asyncio.create_task(self.histories.open(folder))
        with refusing("a model of it does not load in Triton"):
            await self.models.load(self.models.lacking(live.package, ready))
        with refusing("its warm-up failed: a head did not answer, or wrongly"):
            await self.models.warm_up(live.package)
        await opening
        return live

    def _refuse(self, number: str, reason: str, error: BaseException, stamp: object) -> None:
        is_news = self.refusals.add(number, reason, error, stamp)
        if is_news and (self.serving is not None or number != "champion"):
            self.metrics.refused.inc()  # a new store has no champion yet

    async def _retire(self, ready: set[str]) -> None:
        """Unload versions that nobody uses any more, and those that an earlier router left
        behind.
        """
        in_triton: dict[str, list[str]] = {}
        # Nothing is unloaded before something serves, and nothing that is not a version's model.
        for model in ready if self.serving and self.models.settings.manages_models else ():
            if match := re.fullmatch(r"[a-z][a-z0-9_]*_(\d+)", model):
                in_triton.setdefault(match[1], []).append(model)
        # An earlier router may have left these: they drain like any other.
        left = {
            number
            for number, models in in_triton.items()
            if any(model.startswith(("retrieve_", "preranker_")) for model in models)
        }
        for number in left - self.loaded.keys():
            self.draining.setdefault(
                number, (time.monotonic() + self.models.settings.drain_seconds, None)
            )
        for number, (until, live) in list(self.draining.items()):
            # Time for other routers, who may be a look behind; our own requests are counted.
            if time.monotonic() < until or (live is not None and live.in_flight):
                continue
            await self.models.unload(in_triton.get(number, []))
            del self.draining[number]
            self.readiness.forget(number)
            self.metrics.by_version.forget(number)
            log.info("version retired", extra={"fields": {"version": number}})
        # A draining version may still be asked, so its histories stay open.
        drained = [live for _, live in self.draining.values() if live is not None]
        self.histories.close([live.package.folder for live in (*self.loaded.values(), *drained)])

    def _stamp(self, number: str) -> object:
        """Changes when a file of the version does."""
        folders = [
            self.directory / "versions" / number,
            *(self.directory / "models").glob(f"*_{number}"),
        ]
        files = [file for folder in folders for file in sorted(folder.rglob("*"))]
        states = ((file, file.stat()) for file in files if file.is_file())
        return tuple((str(file), state.st_mtime_ns, state.st_size) for file, state in states)
