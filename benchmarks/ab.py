"""Engagement-only against MTMH (alpha 50) among simulated users: sign and interval of every Table 5 metric.

Users live on the run at MTMH_BENCH_RUN (default: runs/latest, over the synthetic world), MTMH_BENCH_USERS of them
(default 3,000) for MTMH_BENCH_DAYS (default 14), in the world `default` and in the world `habit-only`, where
co-engagement is all that they want; each with the seeds 0, 1 and 2. The behaviour model is that of
simulation/README.md and knows nothing of this comparison; the verdict is that of `mtmh ab`. MTMH_BENCH_PLACES
names a folder to keep what was simulated in (default: none); what is there already is not simulated again.

Told is the change of time spent in the default world, mean over the seeds; its baseline is the same in the habit-only
world. Exits 1 when MTMH is reported as a winner there, or a comparison cannot be judged.
"""

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.result import write
from mtmh.experiment.comparison import ArmComparison, compare, read_tables
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.folder import open_experiment
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import Effect
from mtmh.experiment.verdict import PRIMARY
from simulation.run import Plan, live

RUN = Path(os.environ.get("MTMH_BENCH_RUN", "runs/latest"))
USERS = int(os.environ.get("MTMH_BENCH_USERS", "3000"))
DAYS = int(os.environ.get("MTMH_BENCH_DAYS", "14"))
WORLDS, SEEDS = ("default", "habit-only"), (0, 1, 2)
# The paper's Table 5: change by MTMH, in percent.
PAPER = {
    "daily_active_users": 0.05,
    "time_spent": 0.22,
    "distinct_item_views": 0.31,
    "fresh_share": 0.25,
    "novel_interests": 0.33,
    "interest_recall": 0.14,
}
NOVEL = """
with items as (select item_id, unnest(l2_topics) as topic from '{place}/items.parquet'),
shown as (from read_parquet('{place}/tables/exposures/*/*.parquet')),
liked as (from read_parquet('{place}/tables/engagements/*/*.parquet') where value > 0),
past as (select user_id, item_id, timestamp from liked
    union all select user_id, item_id, timestamp from '{place}/history.parquet'),
topics as (select distinct user_id, topic, timestamp::date as day from past join items using (item_id)),
events as (select liked.user_id, liked.timestamp::date as day, arm, head, trigger_id, topic
    from liked join shown using (request_id, item_id) join items using (item_id)),
known as (select events.*,
    exists(from topics as t where t.user_id = events.user_id and t.topic = events.topic
        and t.day < events.day and t.day >= events.day - {days}) as old,
    exists(from items as i where i.item_id = events.trigger_id and i.topic = events.topic) as matching
    from events)
select arm, head, count(*), avg((not old)::int), avg(matching::int) from known group by all order by all
"""


def main() -> None:
    """Simulate, compare, print a table a world. Raises UserError when there is no such run."""
    found: dict[str, list[ArmComparison]] = {}
    novel: dict[str, Any] = {}
    with TemporaryDirectory(prefix="mtmh-ab-") as temporary:
        folder = Path(os.environ.get("MTMH_BENCH_PLACES", temporary))
        folder.mkdir(parents=True, exist_ok=True)
        for world in WORLDS:
            found[world] = [_compared(world, seed, folder) for seed in SEEDS]
            novel[world] = _novel(found[world][0].folder.folder)
            _show(world, found[world], novel[world])
    lifts = {world: [_effects(one)[PRIMARY].lift for one in comparisons] for world, comparisons in found.items()}
    details: dict[str, Any] = {
        "baseline": "the same in the world habit-only",
        "users": USERS,
        "days": DAYS,
        "seeds": list(SEEDS),
        "simulated": True,
        "paper_percent": PAPER,
        "worlds": {world: {**_details(each), "novel_by_head": novel[world]} for world, each in found.items()},
    }
    means = [100 * statistics.mean(lifts[world]) for world in WORLDS]
    write("ab", means[0], "% change of time spent, simulated users", means[1], details)
    outcomes = {world: [one.verdict.outcome for one in comparisons] for world, comparisons in found.items()}
    if "wins" in outcomes["habit-only"] or any("unjudged" in each for each in outcomes.values()):
        sys.exit(1)


def _compared(world: str, seed: int, folder: Path) -> ArmComparison:
    place = folder / f"{world}-{USERS}-{DAYS}-{seed}"
    if not place.exists():
        told = live(RUN, Plan(DAYS, users=USERS, world=world, seed=seed), place)
        count = f"{told.visits:,} visits, {told.exposures:,} exposures"
        print(f"{world}, seed {seed}: {count} in {told.seconds:.0f} s", flush=True)
    opened = open_experiment(place)
    return compare(opened, read_tables(opened))


def _novel(place: Path) -> dict[str, dict[str, float]]:
    """Why novel interests go the way they go: of the engagements with lists, by arm and head, how many there are, which
    share is in a topic that the user had none with in 28 days, and which share in a topic of the trigger."""
    import duckdb

    query = NOVEL.format(place=place, days=DEFINITIONS.novel_days)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.execute(query).fetchall()
    return {
        f"{arm}, {head} head": {"engagements": n, "novel": round(novel, 4), "on_topic": round(on, 4)}
        for arm, head, n, novel, on in rows
    }


def _effects(comparison: ArmComparison) -> dict[str, Effect]:
    return {effect.metric: effect for effect in comparison.effects}


def _show(world: str, comparisons: Sequence[ArmComparison], novel: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\nWorld {world}: {USERS:,} simulated users, {DAYS} days; change in %, fixed 95 % interval")
    print(f"{'':32}{'paper':>7}" + "".join(f"{f'seed {seed}':>29}" for seed in SEEDS) + "  against the paper")
    for name in (*PAPER, *(name for name in METRICS if name not in PAPER)):
        own = [_effects(one)[name] for one in comparisons]
        paper = f"{PAPER[name]:+.2f}" if name in PAPER else ""
        cells = "".join(f"{_cell(effect):>29}" for effect in own)
        print(f"{METRICS[name].title:32}{paper:>7}{cells}  {_agreement(own) if name in PAPER else ''}")
    for seed, one in zip(SEEDS, comparisons, strict=True):
        print(f"seed {seed}: {one.verdict.title}. {one.verdict.lead}")
    for name, each in novel.items():
        shares = f"{each['novel']:.0%} in a topic new to the user, {each['on_topic']:.0%} in one of the trigger"
        print(f"engagements of {name}: {each['engagements']:,}, {shares} (seed {SEEDS[0]})")
    print()


def _cell(effect: Effect) -> str:
    if effect.lift != effect.lift:
        return "no relative change"
    return f"{100 * effect.lift:+.2f} [{100 * effect.lo:+.2f}, {100 * effect.hi:+.2f}]"


def _agreement(effects: Sequence[Effect]) -> str:
    """Whether the sign is the paper's, which is + for all: by the intervals of all seeds."""
    up, down = sum(effect.lo > 0 for effect in effects), sum(effect.hi < 0 for effect in effects)
    if up and not down:
        return f"same sign ({up} of {len(effects)} clear)"
    if down and not up:
        return f"opposite ({down} of {len(effects)} clear)"
    return "seeds differ" if up else "cannot be told from 0"


def _details(comparisons: Sequence[ArmComparison]) -> Mapping[str, Any]:
    effects = {name: [_numbers(_effects(one)[name]) for one in comparisons] for name in METRICS}
    agreement = {name: _agreement([_effects(one)[name] for one in comparisons]) for name in PAPER}
    verdicts = [{"outcome": one.verdict.outcome, "lead": one.verdict.lead} for one in comparisons]
    sizes = [dict(one.sample_ratio.observed) for one in comparisons]
    return {"verdicts": verdicts, "against_paper": agreement, "users": sizes, "effects": effects}


def _numbers(effect: Effect) -> dict[str, float | None]:
    names = ("control", "treatment", "lift", "lo", "hi", "always_lo", "always_hi", "adjusted_p")
    values = {name: float(getattr(effect, name)) for name in names}
    return {name: round(value, 6) if value == value else None for name, value in values.items()}
