"""An experiment folder: an experiment's log and what is needed to read it.

FOLDER/experiment.json   `Experiment`: the arms, the days, who was simulated
FOLDER/tables/           the log, compacted (mtmh/exposures/compact.py)
FOLDER/log/              segments that are not compacted yet; may be missing
FOLDER/items.parquet     items there are by the end of the log (the contract's `items`)
FOLDER/history.parquet   user_id, item_id, timestamp[, value, dwell_seconds]: engagements before
                         the log begins
"""

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtmh.data.contract import UTC_MICROSECONDS, accepts
from mtmh.errors import UserError, fault_lines
from mtmh.experiment.arms import Arms
from mtmh.experiment.dealt import deal
from mtmh.exposures.read import LogRelations, read

_TEXTS = pa.list_(pa.string())
# What the metrics read; further columns may be there.
ITEMS = {"item_id": pa.string(), "created_at": UTC_MICROSECONDS, "l2_topics": _TEXTS}
HISTORY = {"user_id": pa.string(), "item_id": pa.string(), "timestamp": UTC_MICROSECONDS}


class Experiment(BaseModel):
    """What experiment.json says; keys that are not named here are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    salt: str
    control: str
    treatment: str
    arms: Arms
    first_day: date
    days: Annotated[int, Field(ge=1, le=3650)]
    simulated: bool  # users are simulated: every page says so
    world: str | None = None  # which behaviour they have
    seed: int | None = None
    # The arm of the log whose users are dealt to the arms here, which are served alike: an A/A test
    # (mtmh/experiment/dealt.py). None: the log has the arms.
    dealt_from: str | None = None
    retriever: Path | None = None  # the version directory that served: the training reference
    run: Path | None = None  # the directory of the run that it comes from

    @model_validator(mode="after")
    def _compared(self) -> "Experiment":
        names = [arm.name for arm in self.arms]
        if missing := [name for name in (self.control, self.treatment) if name not in names]:
            raise ValueError(
                f"control and treatment must be arms; not among {names}: {', '.join(missing)}"
            )
        if self.control == self.treatment:
            raise ValueError(f"control and treatment must differ, both are {self.control!r}")
        return self

    @property
    def last_day(self) -> date:
        """The last day of the experiment, which is part of it."""
        return self.first_day + timedelta(days=self.days - 1)

    def eve_of(self, day: date) -> date:
        """The day before, where that is one of the experiment: an engagement may go back to an
        impression of it.
        """
        return max(self.first_day, day - timedelta(days=1))


@dataclass(frozen=True)
class ExperimentFolder:
    """A folder that `open_experiment` has checked."""

    folder: Path
    experiment: Experiment

    @property
    def tables(self) -> Path:
        """Where the compacted log is."""
        return self.folder / "tables"

    @property
    def items(self) -> Path:
        """The item table, Parquet."""
        return self.folder / "items.parquet"

    @property
    def history(self) -> Path:
        """What users engaged with before the log begins, Parquet."""
        return self.folder / "history.parquet"

    def logged(self) -> LogRelations:
        """The log as it is now (mtmh/exposures/read.py), in a DuckDB of its own."""
        log, experiment = read(self.folder / "log", self.tables), self.experiment
        if experiment.dealt_from is None:
            return log
        return deal(log, experiment.dealt_from, experiment.salt, experiment.arms)

    def span(self, first: date | None, last: date | None, now: datetime) -> tuple[date, date]:
        """The days to look at; without days, all of the experiment up to `now`. Raises UserError
        when they are not the experiment's.
        """
        start, end = self.experiment.first_day, min(self.experiment.last_day, now.date())
        first, last = first or start, last or max(end, start)
        if not start <= first <= last <= self.experiment.last_day:
            raise UserError(
                f"{self.folder}: the days {first} to {last} are not days of the experiment, which "
                f"runs from {start} to {self.experiment.last_day}."
            )
        return first, last


def open_experiment(folder: Path) -> ExperimentFolder:
    """The experiment in `folder`.

    Raises UserError that says which part is missing or wrong, and what to write instead.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder. `mtmh watch folder` makes one of what is served, `mtmh"
            f" simulate --out {folder}` one of simulated users."
        )
    path = folder / "experiment.json"
    try:
        experiment = Experiment.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing. It names salt, control, treatment, arms, first_day and days."
        ) from None
    # Before ValueError, of which pydantic's error is a kind.
    except ValidationError as error:
        lines = fault_lines(error)
        raise UserError(f"{path} is no experiment: {len(lines)} errors{''.join(lines)}") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path} is no experiment: not JSON ({error}). Write it anew.") from None
    opened = ExperimentFolder(folder, experiment)
    # A log may lie there compacted, as segments, or partly as both.
    if not opened.tables.is_dir() and not (folder / "log").is_dir():
        raise UserError(
            f"{folder} has no log: there is neither {opened.tables} nor {folder / 'log'}. Compact "
            "one there."
        )
    # What is wrong with a table shows here, not in the middle of a comparison.
    _check(opened.items, ITEMS)
    _check(opened.history, HISTORY)
    return opened


def _check(path: Path, columns: dict[str, pa.DataType]) -> None:
    try:
        # The schema alone: the tables may be large.
        schema = pq.read_schema(path)
    except FileNotFoundError:
        names = ", ".join(columns)
        raise UserError(
            f"{path} is missing. Write it as Parquet with the columns {names}."
        ) from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not readable as Parquet ({reason}). Write it anew.") from None
    # All columns at once, so that the table is written anew only once.
    faults = []
    for name, kind in columns.items():
        actual = schema.field(name).type if name in schema.names else "no such column"
        if schema.names.count(name) != 1 or not accepts(kind, actual):
            faults.append(f"\n  {name}: expected {kind}, found {actual}")
    if faults:
        raise UserError(f"{path} has {len(faults)} wrong columns:{''.join(faults)}")
