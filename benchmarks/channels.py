"""The price of channels: two heads, three channels of which one gives some items alone, and two
heads x four clusters, each a version of the synthetic world with random vectors.

Each is served by `mtmh serve` and asked for random triggers. Its merged lists are the offline
retriever's, or are counted; its times stand beside those of its own ensembles, called directly over
gRPC in turns with the router. Exits 1 when an item differs.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import numpy as np
import pyarrow.parquet as pq
import uvloop

from benchmarks.load import Call, ask, differing, ranked, session
from benchmarks.random_version import Items, make_run
from benchmarks.result import write
from benchmarks.server_process import FOLDER, RunningServer, make_store, serve
from benchmarks.serving import in_turns
from benchmarks.serving_paths import by_router, by_triton
from mtmh.config import RetrievalSettings
from mtmh.heads import HEADS
from mtmh.ragged import Ragged
from mtmh.retrieval.channel_items import with_clusters
from mtmh.retrieval.channels import channels_of
from mtmh.retrieval.retriever import Request, Retriever, merge_pools
from mtmh.retrieval.version import verify, write_manifest
from serving.router.heads import connect
from serving.router.package import Package
from serving.triton.store import promote

EQUAL_TRIGGERS, WIDTH, REQUESTS, MANY, CLUSTERS = 1000, 100, 100, 50, 4
FRESH = {"head": "relevance", "quota": 20, "name": "fresh", "items": "fresh:48"}
CHANNELS: dict[str, list[dict[str, Any]]] = {
    "two heads": [{"head": head, "quota": 50} for head in HEADS],
    "three channels": [
        {"head": "engagement", "quota": 50},
        {"head": "relevance", "quota": 30},
        FRESH,
    ],
    # 8 x 12.5 is 100: quotas are whole numbers.
    "heads x clusters": [
        {
            "head": head,
            "quota": quota,
            "name": f"{head}_{number}",
            "items": f"cluster:{number}/{CLUSTERS}",
        }
        for head, quota in zip(HEADS, (12, 13), strict=True)
        for number in range(1, CLUSTERS + 1)
    ],
}


def main(items: Items = 20_000) -> None:
    """What a request costs with two, three and eight channels; are its lists the offline ones?"""
    run, details = make_run(items, FOLDER), dict[str, Any]()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, channels in CHANNELS.items():
        with TemporaryDirectory(prefix="channels-", dir=FOLDER) as folder:
            version = with_channels(run / "retriever", channels, Path(folder) / "version")
            promote(make_store(Path(folder), {"1": version}, None), "1")
            with serve(Path(folder)) as served:
                details[name] = uvloop.run(measure(served, Retriever.load(version)))
        print(f"  {name}: {details[name]}", flush=True)
    two, most = (details[name]["one_trigger"]["router"]["p50_ms"] for name in list(CHANNELS)[::2])
    unit = "ms p50 of the router, one trigger, two heads x four clusters; beside two heads"
    write("channels", most, unit, two, {"items": items, "lists": details})
    if wrong := sum(figures["differing_items"] for figures in details.values()):
        sys.exit(f"{wrong} items of the served answers are not the offline retriever's")


def with_channels(retriever: Path, channels: list[dict[str, Any]], out: Path) -> Path:
    """The version in `retriever` with other channels, in the new directory `out`."""
    shutil.copytree(retriever, out)
    named = channels_of(HEADS, RetrievalSettings.model_validate({"channels": channels}))
    # Clusters are a column of the items.
    table = pq.read_table(out / "items.parquet")
    vectors = np.load(out / f"{named[0].head}.npy")
    pq.write_table(with_clusters(table, named, vectors, seed=0), out / "items.parquet")
    write_manifest(out, verify(retriever)["created_from"], named)
    return out


async def measure(served: RunningServer, retriever: Retriever) -> dict[str, Any]:
    """How many items differ, and the times of one trigger and of many."""
    ids = retriever.items["item_id"].to_pylist()
    rng = np.random.default_rng(0)
    package = Package.load(served.store / "versions" / "1")
    async with session() as http, connect(served.triton_url) as triton:
        triggers = rng.permutation(len(ids))[:EQUAL_TRIGGERS].astype(np.int32)
        wrong = await differing_items(http, served.url, retriever, triggers)
        works = {"router": by_router(http, served.url), "ensembles": by_triton(triton, package)}
        single = [[ids[row]] for row in rng.integers(len(ids), size=REQUESTS)]
        many = [[ids[row] for row in rng.permutation(len(ids))[:MANY]] for _ in range(REQUESTS)]
        one_trigger, cpu = await in_turns(served, works, single)
        many_triggers, _ = await in_turns(served, works, many)
    return {
        "differing_items": wrong,
        "compared": len(triggers) * WIDTH,
        "one_trigger": one_trigger,
        "cpu_ms_a_request": cpu["router"],
        f"{MANY}_triggers": many_triggers,
    }


async def differing_items(
    http: aiohttp.ClientSession, url: str, retriever: Retriever, triggers: np.ndarray
) -> int:
    """Of the merged lists for each of the `triggers`, int32 [n], how many items are not the
    offline ones."""
    ids = np.array(retriever.items["item_id"].to_pylist(), object)
    names = np.array(retriever.names, object)
    one_each = Ragged(np.arange(len(triggers) + 1, dtype=np.int64), triggers)
    pools = retriever.pools(Request.of(one_each, one_each, RetrievalSettings()))
    quotas = [channel.quota for channel in retriever.channels]
    merged = merge_pools(list(pools.values()), quotas, WIDTH)
    wrong = 0
    for row, trigger in enumerate(ids[triggers]):
        reply = await ask(http, url, Call("/v1/retrieve", {"triggers": [trigger], "k": WIDTH}))
        ranks = np.flatnonzero(merged.item[row] >= 0)
        # As an answer has them: a candidate's channel, and its item.
        channels, items = names[merged.channel[row, ranks]], ids[merged.item[row, ranks]]
        right = [f"{channel} {item}" for channel, item in zip(channels, items, strict=True)]
        score = merged.score[row, ranks].astype(np.float64)
        wrong += differing(ranked(reply.answer), (right, score)) if reply.whole else WIDTH
    return wrong
