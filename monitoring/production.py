"""The watched folder of what is served: an experiment folder made from the routers' logs, the
version that serves, and the data that it was trained on.

What `mtmh simulate` writes of simulated users stands here of real ones; the log itself is compacted
into the folder's `tables` (mtmh log compact), and its link `log` leads to what is not compacted
yet.
"""

import json
import os
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.config import load_config
from mtmh.data.contract import INTERACTIONS, ITEMS, conform
from mtmh.data.engagement import engagements
from mtmh.data.files import write_json, write_parquet
from mtmh.data.new_items import read_new_items
from mtmh.data.prepare import read_checked
from mtmh.errors import UserError
from mtmh.experiment.arms import NO_ARM
from mtmh.experiment.dealt import HALVES, SALT
from mtmh.experiment.folder import Experiment
from mtmh.experiment.relations import once, possible
from mtmh.exposures.read import LogRelations, read
from serving.router.settings import ExperimentSettings
from serving.triton import store as packages

DAY = timedelta(days=1)
A_A_DAYS = 28  # an A/A test begins anew after so many
HISTORY = ["user_id", "item_id", "timestamp", "event", "value", "dwell_seconds"]


def write_folder(
    out: Path,
    store: Path,
    run: Path,
    settings: ExperimentSettings,
    new: Path | None = None,
    first_day: date | None = None,
    now: datetime | None = None,
) -> Experiment:
    """Write the folder `out` of what serves from `store`, or bring it up to date; experiment.json
    comes last.

    `run` is the directory of the run that the champion comes from (config.yaml, metrics.json,
    retriever; candidates.parquet for drift), `settings` the router's experiment, `new` the folder
    of items since that run's data. The experiment's days go from `first_day` (by default the first
    on which the log has its arms) to the last that is over by `now`. Without an experiment the
    users are dealt to two halves (mtmh/experiment/dealt.py), four weeks at a time. Raises UserError
    where there is no log, or the run's data cannot be read.
    """
    log, now = store / "log", now or datetime.now(UTC)
    _link(out / "log", log)
    logged = read(log, out / "tables")
    experiment = experiment_of(settings, logged, run, first_day, now.date())
    # The data as the run saw them, and what has come since.
    config = load_config(run / "config.yaml")
    source = json.loads((run / "metrics.json").read_text())["data"]["path"]
    checked = read_checked(source, config.data, config.seed)
    items = _items(checked["items"].clean, new, store)
    engaged = engagements(checked["interactions"].clean, config.data)
    write_parquet(items, out / "items.parquet")
    write_parquet(_history(engaged, logged, experiment.first_day), out / "history.parquet")
    write_json(experiment.model_dump(mode="json"), out / "experiment.json")
    return experiment


def experiment_of(
    settings: ExperimentSettings,
    logged: LogRelations,
    run: Path,
    first_day: date | None,
    today: date,
) -> Experiment:
    """What the log is looked at as: the first two arms of the router's experiment that have a
    weight, the control first; or an A/A test, where it has none, or one arm.
    """
    last, arms = today - DAY, settings.arms or ()
    compared = [arm.name for arm in arms if arm.weight > 0]
    salt, dealt_from, begin = settings.salt, None, date.min
    if len(compared) < 2:
        dealt_from = compared[0] if compared else NO_ARM
        salt, arms, compared = SALT, HALVES, [arm.name for arm in HALVES]
        begin = last - timedelta(days=last.toordinal() % A_A_DAYS)
    if first_day is None:
        names = [dealt_from] if dealt_from else [arm.name for arm in arms]
        rows = logged.exposures.filter(logged.exposures.arm.isin(names))
        rows = rows.filter(rows.day >= begin)
        first_day = rows.day.min().as_scalar().to_pyarrow().as_py() or today
    return Experiment(
        salt=salt,
        control=compared[0],
        treatment=compared[1],
        arms=arms,
        first_day=first_day,
        days=(max(last, first_day) - first_day).days + 1,
        simulated=False,
        dealt_from=dealt_from,
        retriever=(run / "retriever").resolve(),
        run=run.resolve(),
    )


def _link(link: Path, log: Path) -> None:
    """Let `link` lead to the routers' log, by a path that holds wherever the volume is mounted."""
    if not log.is_dir():
        raise UserError(
            f"{log}: no such folder. The routers write their log there (log.directory): is it the"
            " store that they serve from?"
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(log.resolve(), link.parent.resolve()))
    elif link.resolve() != log.resolve():
        raise UserError(f"{link} is there, and no link to {log}: name another folder to write.")


def _items(data: pa.Table, new: Path | None, store: Path) -> pa.Table:
    """The contract's items of the data, then the new ones, then what only the served version
    has.
    """
    table = conform(data, ITEMS, "")
    served = store / "versions" / packages.champion(store) / "items.parquet"
    further = [(pq.read_table(served), str(served))]
    if new is not None and (added := read_new_items(new)) is not None:
        further.insert(0, (added, str(new)))
    for rows, file in further:
        rows = conform(rows, ITEMS, file)
        is_known = pc.is_in(rows["item_id"], value_set=table["item_id"].combine_chunks())
        table = pa.concat_tables([table, rows.filter(pc.invert(is_known))])
    return table


def _history(engaged: pa.Table, logged: LogRelations, first_day: date) -> pa.Table:
    """Engagements before `first_day`: of the data, and of the log. A run that trained on the log
    has those of it in its data: each counts once.
    """
    begin = datetime.combine(first_day, time(), UTC)
    before = engaged.filter(pc.less(engaged["timestamp"], pa.scalar(begin)))
    events: ir.Table = once(logged.engagements)
    events = events.filter(events.timestamp < ibis.literal(begin), possible(events))
    of_log = events.filter(events["value"] > 0).select(HISTORY).to_pyarrow()
    schema = pa.schema([(column.name, column.type) for column in INTERACTIONS])
    parts = [conform(part, INTERACTIONS, "") for part in (before, of_log) if len(part)]
    both = pa.concat_tables([schema.empty_table(), *parts])
    keys = ["user_id", "item_id", "timestamp", "event"]
    once_each = both.group_by(keys).aggregate([("value", "max"), ("dwell_seconds", "max")])
    return once_each.rename_columns(HISTORY).sort_by("timestamp")
