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
from mtmh.stages import STAGES, StageFolders

METRICS = ("cold_recall_at_500", "cold_share", "recall_at_500", "l2_relevance", "coverage")


def main(seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Recall of new items and seconds: refreshed into a trained version, and trained anew with
    them."""
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(_take_in(Path(folder), config_of("synthetic", tuple(settings or ()), seed)))
        for name, rows in runs[-1].items():
            print(
                f"refresh: seed {seed}: {name}: "
                + ", ".join(f"{k} {v:.4f}" for k, v in rows.items()),
                flush=True,
            )
    # Over the seeds, as a single world may happen to suit one way.
    table = {
        name: {figure: spread([run[name][figure] for run in runs]) for figure in runs[0][name]}
        for name in runs[0]
    }
    # The whole training is what a refresh spares, so it is the baseline.
    refreshed, whole = (
        table[name]["cold_recall_at_500"]["mean"] for name in ("refreshed", "trained anew")
    )
    details = {"baseline": "trained anew", "seeds": len(runs), "versions": table}
    write("refresh", refreshed, "recall@500 on new items", whole, details)


def _make_worlds(work: Path, config: Config) -> Prepared:
    """The whole data, the version before trained without the new items, and these by themselves,
    all in `work`; new is what training does not see of the whole world, which is returned."""
    size = config.data.synthetic
    world = make_world(size.users, size.items, size.days, config.seed).tables
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
    return data


def _take_in(work: Path, config: Config) -> dict[str, dict[str, float]]:
    """Take in the new items of a seed's world in each way; figures and seconds of the versions."""
    data = _make_worlds(work, config)
    # Both ways to the new items, timed, each with a cache of its own.
    seconds = {"not refreshed": 0.0}
    shutil.copytree(work / "cache", work / "other-cache")
    start = time.perf_counter()
    intake = Intake.load(work / "before", cache=work / "cache")
    done = refresh(work / "before", pq.read_table(work / "new.parquet"), work / "refreshed", intake)
    seconds["refreshed"] = time.perf_counter() - start
    print(
        f"refresh: seed {config.seed}: {len(done.items):,} items in {seconds['refreshed']:.2f} s",
        flush=True,
    )
    start = time.perf_counter()
    _version(work / "whole-data", work / "anew", config, work / "other-cache")
    seconds["trained anew"] = time.perf_counter() - start

    # All three versions answer the same test users.
    content, retrieval = np.load(work / "anew" / "content" / "content.npy"), config.retrieval
    test = Test.of(data, content, retrieval.triggers, config.evaluation.fresh_hours)
    versions = {"not refreshed": work / "before" / "retriever", "refreshed": work / "refreshed"}
    versions |= {"trained anew": work / "anew" / "retriever"}
    rows = {}
    for name, version in versions.items():
        pool = champion_pool(version, data, test.triggers, test.seen, retrieval)[0]
        row: dict[str, Any] = summary(measure(pool, test), pool, test)
        rows[name] = {metric: float(row[metric]) for metric in METRICS}
        # How many of the new items anybody sees at all.
        for depth in (100, pool.item.shape[1]):
            listed = np.isin(np.flatnonzero(~data.in_train), pool.item[:, :depth])
            rows[name][f"new_items_in_top_{depth}"] = float(listed.mean())
        rows[name]["seconds"] = seconds[name]
    return rows


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
