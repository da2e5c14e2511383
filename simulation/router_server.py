"""The real router, over HTTP, as the server of the living platform.

The router must run the same experiment: its arms and its salt (`experiment` in its configuration);
each answer is checked for it. Whatever it logs itself has the times of this machine's clock.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import pyarrow as pa

from mtmh.errors import UserError
from mtmh.experiment.arms import Arm
from mtmh.head_settings import quotas_text
from mtmh.heads import HEADS
from mtmh.ids import Ids
from mtmh.ragged import Ragged
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import refresh
from simulation.local_server import numbers, rows_of
from simulation.server import Slates

BATCH, BATCHES = 16, 2  # requests in one call, calls at a time
TRIES, PAUSE = 8, 0.5  # seconds, doubled from one try to the next
TAKE_OVER = 120.0  # seconds until a router must have taken over a version
AddItems = Callable[[pa.Table], str]


class RouterServer:
    """Asks /v1/retrieve/batch, with the user's id and triggers; a context, which hangs up at its
    end.

    Arguments: `url`; the population's `user_ids` and item table, row = number; `served`, the
    item_ids of the version that serves; `triggers`, how many it takes; `arms`, each with its alpha;
    `token`, where the router asks for one; `add_new`, which adds items to what is served and
    returns the number of the version that the router then has to take over (without it no item is
    added).
    """

    def __init__(
        self,
        url: str,
        user_ids: pa.Array,
        items: pa.Table,
        served: pa.ChunkedArray,
        triggers: int,
        arms: Sequence[Arm],
        token: str | None = None,
        add_new: AddItems | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60.0)
        self.users, self.items = user_ids.to_pylist(), items
        self.item_ids = Ids(items["item_id"])
        self.row_of = numbers(served, items["item_id"])[1]
        self.names = self.item_ids.values.to_pylist()
        self.triggers, self.arms, self.add_new = triggers, arms, add_new

    def answer(self, users: np.ndarray, triggers: Ragged, arms: np.ndarray, k: int) -> Slates:
        """See simulation.server.Server. Raises UserError where the router is not of this
        experiment."""
        # The triggers that are served, as numbers of the world's.
        item_of = np.zeros(self.row_of.max() + 1, np.int32)
        item_of[self.row_of[self.row_of >= 0]] = np.flatnonzero(self.row_of >= 0)
        served = rows_of(triggers, self.row_of, self.triggers)
        indptr, items = served.indptr, item_of[served.values]
        # A few calls at a time, each of a few requests.
        requests = [
            {
                "user_id": self.users[user],
                "triggers": [self.names[item] for item in items[start:end]],
                "k": k,
            }
            for user, start, end in zip(users, indptr[:-1], indptr[1:], strict=True)
        ]
        batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
        with ThreadPoolExecutor(BATCHES) as threads:
            answers = [answer for batch in threads.map(self._call, batches) for answer in batch]
        # The router must have put every user into the arm that the simulation has them in.
        for answer, number in zip(answers, arms.tolist(), strict=True):
            arm, alpha = self.arms[number], answer["alpha"]
            mix = quotas_text(answer["quotas"]) if alpha is None else f"alpha {alpha:g}"
            if (answer["arm"], mix) != (arm.name, arm.mix):
                raise UserError(
                    f"the router has a user in arm {answer['arm']!r} with {mix}, here it is"
                    f" {arm.name!r} with {arm.mix}: give the router this experiment's salt and"
                    " arms."
                )
        return self._slates(answers, k)

    def refresh(self, items: int) -> None:
        """Take in those of the first `items` that are not served yet, and wait until the router
        serves them."""
        new = np.flatnonzero(self.row_of[:items] < 0)
        if self.add_new is None or not len(new):
            return
        version = self.add_new(self.items.take(pa.array(new)))
        self.row_of[new] = self.row_of.max() + 1 + np.arange(len(new))
        end = time.monotonic() + TAKE_OVER
        while (serving := self.http.get("/readyz").json().get("model_version")) != version:
            if time.monotonic() > end:
                raise UserError(
                    f"the router still serves version {serving}, not {version}:"
                    " is its store another?"
                )
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def _call(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One answer per request; requests that are turned away for a moment are sent again."""
        answers: dict[int, dict[str, Any]] = {}
        refusal = ""
        for attempt in range(TRIES):
            # Only what has no answer yet is sent again.
            open_requests = [number for number in range(len(requests)) if number not in answers]
            body = {"requests": [requests[number] for number in open_requests]}
            try:
                response = self.http.post("/v1/retrieve/batch", json=body)
            except httpx.TransportError as error:
                raise UserError(
                    f"no router answers at {self.http.base_url} ({error}): start one, mtmh serve."
                ) from None
            content = response.json()
            if response.is_success:
                for number, answer in zip(open_requests, content["answers"], strict=True):
                    if "error" in answer:
                        refusal = _momentary(answer["status"], answer["error"])
                    else:
                        answers[number] = answer
            else:
                refusal = _momentary(response.status_code, content["error"])
            if len(answers) == len(requests):
                return [answers[number] for number in range(len(requests))]
            # A router that is swapping versions needs a moment, not a crowd.
            time.sleep(PAUSE * 2**attempt)
        raise UserError(
            f"the router turned {len(open_requests)} requests away {TRIES} times: {refusal}"
        )

    def _slates(self, answers: list[dict[str, Any]], k: int) -> Slates:
        candidates = [candidate for answer in answers for candidate in answer["candidates"]]
        # Where each candidate stands: its answer, and its position in it.
        counts = np.array([len(answer["candidates"]) for answer in answers])
        cells = Ragged.of_lengths(counts, np.arange(len(candidates)))
        row, position = cells.row_of, cells.position_of

        def column(values: np.ndarray | list[Any], fill: int, dtype: type) -> np.ndarray:
            table: np.ndarray = np.full((len(answers), k), fill, dtype)
            table[row, position] = values
            return table

        def field(name: str) -> list[Any]:
            return [candidate[name] for candidate in candidates]

        channels = tuple(dict.fromkeys([*HEADS, *field("head")]))
        head = np.array([channels.index(name) for name in field("head")], np.int8)
        return Slates(
            item=column(self._numbers(field("item_id")), -1, np.int32),
            head=column(head, -1, np.int8),
            head_rank=column(field("head_rank"), 0, np.int32),
            score=column(np.array(field("score"), np.float32), 0, np.float32),
            trigger=column(self._numbers(field("trigger_id")), -1, np.int32),
            degraded=np.array([answer["degraded"] for answer in answers]),
            version=np.array([answer["model_version"] for answer in answers]),
            channels=channels,
        )

    def _numbers(self, item_ids: list[str]) -> np.ndarray:
        numbers = self.item_ids.rows(item_ids)
        if (numbers < 0).any():
            stranger = item_ids[int((numbers < 0).argmax())]
            raise UserError(
                f"the router answers with item {stranger!r}, which is not of this world:"
                " it serves another."
            )
        return numbers


def _momentary(status: int, error: str) -> str:
    """The refusal of a router that may answer in a moment. Raises UserError for every other
    refusal."""
    if status not in (429, 503):
        raise UserError(f"the router refuses a request: {status}: {error}")
    return f"{status}: {error}"


@contextmanager
def into_store(run: Path, store: Path) -> Iterator[AddItems]:
    """Adds items to the version of `run`, which serves from `store`, and promotes what comes of it.

    The versions that it makes stay in the store as those of `mtmh refresh` do.
    """
    # Imported here: a simulation without a router needs none of the serving packages.
    from serving.triton import store as packages
    from serving.triton.refreshed import install_refresh, retire_refreshes

    with tempfile.TemporaryDirectory(prefix="mtmh-simulated-") as folder:
        root, versions = Path(folder), [run]
        # One cache for the whole simulation: no text is encoded twice.
        intake = Intake.load(run, cache=root / "texts")

        def add_new(items: pa.Table) -> str:
            out = root / f"version-{len(versions)}"
            # On top of the newest version: on top of the run, earlier items would be lost.
            refresh(versions[-1], items, out, intake)
            number = install_refresh(out, store)
            # Promoted right away, as the simulation waits until the router serves it.
            packages.promote(store, number)
            retire_refreshes(store)
            versions.append(out)
            return number

        yield add_new
