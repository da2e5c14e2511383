"""New items into a trained version: what refreshing finds and costs, beside training anew with
them, and doing nothing.

On the synthetic world: a version is trained on a world without the items that nobody engaged with
before the split. Then those come, once by a refresh of that version and once by a run of all stages
on the whole world. All are asked for the same test users' lists. Writes refresh.json: recall@500 on
targets among the new items, their share of the lists, how many stand in any list, the figures over
all targets, and the seconds that each took to take them in, with the texts of all other items
encoded before.
"""

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks.result import spread, write
from benchmarks.studies.grids import SEEDS
from benchmarks.studies.study import Seeds, Settings, config_of
from components.writers import WRITERS
from mtmh.config import Config
from mtmh.data.files import write_parquet
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.data.synthetic import make_world
from mtmh.evaluation.champion import champion_pool
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import refresh
from mtmh.retrieval.retriever import Pool
from mtmh.stages import STAGES, StageFolders

METRICS = ("cold_recall_at_500", "cold_share", "recall_at_500", "l2_relevance", "coverage")


def main(seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Recall of new items and seconds: refreshed into a trained version, and trained anew with
    them."""
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(_seed(Path(folder), config_of("synthetic", tuple(settings or ()), seed)))
        for name, rows in runs[-1].items():
            print(
                f"refresh: seed {seed}: {name}: "
                + ", ".join(f"{k} {v:.4f}" for k, v in rows.items()),
                flush=True,
            )
    table = {
        name: {figure: spread([run[name][figure] for run in runs]) for figure in runs[0][name]}
        for name in runs[0]
    }
    refreshed, whole = (
        table[name]["cold_recall_at_500"]["mean"] for name in ("refreshed", "trained anew")
    )
    details = {"baseline": "trained anew", "seeds": len(runs), "versions": table}
    write("refresh", refreshed, "recall@500 on new items", whole, details)


def _seed(work: Path, config: Config) -> dict[str, dict[str, float]]:
    # New is what training did not see; the version before is made without those items.
    size, seed = config.data.synthetic, config.seed
    world = make_world(size.users, size.items, size.days, seed).tables
    whole = _write(world, work / "whole-data")
    prepare(str(whole), work / "look", config.data, config.seed)
    data = Prepared.load(work / "look")
    old = data.items["item_id"].filter(pa.array(data.in_train)).combine_chunks()
    is_old = pc.is_in(world["items"]["item_id"], value_set=old)
    log = world["interactions"].filter(pc.is_in(world["interactions"]["item_id"], value_set=old))
    before = _write(
        {"items": world["items"].filter(is_old), "interactions": log}, work / "before-data"
    )
    # The same moment of the split, though the log after it is shorter.
    share = 1 - (data.is_train.sum() + 0.5) / len(log)
    same_split = config.model_copy(
        update={"data": config.data.model_copy(update={"test_fraction": float(share)})}
    )
    _version(before, work / "before", same_split, work / "cache")
    if (trained := int(Prepared.load(work / "before" / "prepared").is_train.sum())) != int(
        data.is_train.sum()
    ):
        raise AssertionError(
            f"{trained:,} engagements to train on before, {data.is_train.sum():,} after"
        )
    write_parquet(world["items"].filter(pc.invert(is_old)), work / "new.parquet")

    # Both ways to the new items, timed, each with a cache of its own.
    seconds = {"not refreshed": 0.0}
    shutil.copytree(work / "cache", work / "other-cache")
    start = time.perf_counter()
    intake = Intake.load(work / "before", cache=work / "cache")
    done = refresh(work / "before", pq.read_table(work / "new.parquet"), work / "refreshed", intake)
    seconds["refreshed"] = time.perf_counter() - start
    print(
        f"refresh: seed {seed}: {len(done.items):,} items in {seconds['refreshed']:.2f} s",
        flush=True,
    )
    start = time.perf_counter()
    _version(whole, work / "anew", config, work / "other-cache")
    seconds["trained anew"] = time.perf_counter() - start

    # All three versions answer the same test users.
    content, retrieval = np.load(work / "anew" / "content" / "content.npy"), config.retrieval
    test = Test.of(data, content, retrieval.triggers, config.evaluation.fresh_hours)
    versions = {"not refreshed": work / "before" / "retriever", "refreshed": work / "refreshed"}
    versions |= {"trained anew": work / "anew" / "retriever"}
    rows = {}
    for name, version in versions.items():
        pool = champion_pool(version, data, test.triggers, test.seen, retrieval)[0]
        rows[name] = {**_figures(pool, test, ~data.in_train), "seconds": seconds[name]}
    return rows


def _figures(pool: Pool, test: Test, new: np.ndarray) -> dict[str, float]:
    row: dict[str, Any] = summary(measure(pool, test), pool, test)
    figures = {name: float(row[name]) for name in METRICS}
    for depth in (100, pool.item.shape[1]):
        top = pool.item[:, :depth]
        figures[f"new_items_in_top_{depth}"] = float(np.isin(np.flatnonzero(new), top).mean())
    return figures


def _write(tables: dict[str, pa.Table], folder: Path) -> Path:
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    return folder


def _version(source: Path, out: Path, config: Config, cache: Path) -> None:
    """All stages from the data to a version, each in a folder of `out`, which so becomes a run."""
    folders = StageFolders()
    for stage in STAGES[: [stage.name for stage in STAGES].index("index") + 1]:
        folder = out / stage.artifact
        folder.mkdir(parents=True)
        if stage.name == "prepare":
            prepare(str(source), folder, config.data, config.seed)
        else:
            settings = getattr(config, stage.sections[0])
            WRITERS[stage.name](folders, folder, settings, config.seed, cache)
        folders = replace(folders, **{stage.artifact: folder})
    (out / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
