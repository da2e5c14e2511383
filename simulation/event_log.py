"""What happened, hour by hour, as the tables of the log (mtmh/exposures/records.py), with simulated times."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data.synthetic import timestamps
from mtmh.experiment.arms import Arm
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES
from mtmh.exposures.tables import REJECTED, LogTables
from mtmh.heads import HEADS
from simulation.counter_rng import uniform
from simulation.population import Population
from simulation.response import Page, Response
from simulation.server import Slates

READING = 1.5  # seconds that a user looks at an item without opening it
SECONDS = 86_400
Columns = dict[str, np.ndarray]


@dataclass
class Diary:
    """Columns of what is not written yet. Users, items and requests are numbers until then."""

    people: Population
    arms: Sequence[Arm]
    arm_of: np.ndarray  # int [users]
    asked: int
    seed: int
    shown: list[Columns] = field(default_factory=list)
    done: list[Columns] = field(default_factory=list)

    def visits(self, page: Page, place: np.ndarray, slates: Slates, response: Response) -> None:
        """Note the answers of one hour as far as they were shown, and what users did with them."""
        start = self.people.start + (page.hour + uniform(self.seed, "minute", page.user, page.hour)) / 24
        row, position = np.nonzero(page.item >= 0)
        at = place[row, position]
        self.shown.append(
            {
                "user": page.user[row],
                "hour": np.full(len(row), page.hour),
                "day": start[row],
                "version": slates.version[row],
                "degraded": slates.degraded[row],
                "item": page.item[row, position],
                "position": position + 1,
                **{name: getattr(slates, name)[row, at] for name in ("head", "head_rank", "score", "trigger")},
            }
        )
        row, position = np.nonzero(response.engaged | response.glanced)
        before = np.cumsum(response.dwell + READING, axis=1) - response.dwell
        self.done.append(
            {
                "user": page.user[row],
                "hour": np.full(len(row), page.hour),
                "day": start[row] + before[row, position] / SECONDS,
                "item": page.item[row, position],
                "value": response.engaged[row, position].astype(float),
                "dwell": response.dwell[row, position],
            }
        )

    def elsewhere(self, user: np.ndarray, item: np.ndarray, day: np.ndarray, dwell: np.ndarray) -> None:
        """Note engagements beside the lists."""
        columns = {"user": user, "hour": np.full(len(user), -1), "day": day, "item": item, "dwell": dwell}
        self.done.append({**columns, "value": np.ones(len(user))})

    def tables(self) -> LogTables:
        """Everything noted since the last call."""
        tables = LogTables(self._exposures(), self._engagements(), REJECTED.empty_table())
        self.shown, self.done = [], []
        return tables

    def _exposures(self) -> pa.Table:
        if not self.shown:
            return EXPOSURES.empty_table()
        of = _joined(self.shown)
        count, item_ids = len(of["user"]), self.people.item_table["item_id"].combine_chunks()
        arm = self.arm_of[of["user"]]
        columns = {
            "exposure_id": self._requests(of),
            "request_id": self._requests(of),
            "timestamp": timestamps(of["day"]),
            "user_id": self.people.user_ids.take(pa.array(of["user"])),
            "arm": pa.array([one.name for one in self.arms]).take(pa.array(arm)),
            "model_version": pa.array(of["version"]),
            "alpha": np.array([one.alpha for one in self.arms], np.float64)[arm],
            "arm_alpha": np.array([one.alpha for one in self.arms], np.float64)[arm],
            "own_alpha": np.zeros(count, bool),
            "degraded": of["degraded"],
            "k": pa.repeat(pa.scalar(self.asked, pa.int32()), count),
            "surface": pa.repeat("retrieve", count),
            "log_version": pa.repeat(pa.scalar(2, pa.int32()), count),
            "item_id": item_ids.take(pa.array(of["item"])),
            "head": pa.array(HEADS).take(pa.array(of["head"])),
            "head_rank": of["head_rank"],
            "score": of["score"].astype(np.float64),
            "trigger_id": item_ids.take(pa.array(of["trigger"])),
            "position": of["position"].astype(np.int32),
        }
        return _with_day(columns, EXPOSURES)

    def _engagements(self) -> pa.Table:
        if not self.done:
            return ENGAGEMENTS.empty_table()
        of = _joined(self.done)
        order = np.argsort(of["day"], kind="stable")
        of = {name: column[order] for name, column in of.items()}
        engaged = of["value"] > 0
        columns = {
            "event_id": pa.nulls(len(engaged), pa.string()),
            "call_id": pa.nulls(len(engaged), pa.string()),
            "exposure_id": self._requests(of),
            "request_id": self._requests(of),
            "timestamp": timestamps(of["day"]),
            "user_id": self.people.user_ids.take(pa.array(of["user"])),
            "item_id": self.people.item_table["item_id"].combine_chunks().take(pa.array(of["item"])),
            "event": pa.array(["view", "engage"]).take(pa.array(engaged.astype(np.int8))),
            "value": of["value"],
            "dwell_seconds": of["dwell"],
            "log_version": pa.repeat(pa.scalar(2, pa.int32()), len(engaged)),
        }
        return _with_day(columns, ENGAGEMENTS)

    def _requests(self, of: Columns) -> pa.Array:
        """Names of the requests: a user makes one an hour at the most; null beside the lists."""
        number = pa.array(of["hour"], mask=of["hour"] < 0).cast(pa.string())
        return pc.binary_join_element_wise(f"s{self.seed}", pc.utf8_lpad(number, 4, "0"), self._names(of), "-")

    def _names(self, of: Columns) -> pa.Array:
        return self.people.user_ids.take(pa.array(of["user"]))


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_day(columns: dict[str, pa.Array | np.ndarray], schema: pa.Schema) -> pa.Table:
    table = pa.table(columns)
    day = table["timestamp"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    return table.append_column("day", day).select(schema.names).cast(schema)
