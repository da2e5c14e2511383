"""Engagement-only against MTMH (alpha 50) among simulated users: sign and interval of every Table 5
metric.

Users live on a run over the synthetic world, in the world `default` and in the world `habit-only`,
where co-engagement is all that they want; each with the seeds 0, 1 and 2. The behaviour model is
that of simulation/README.md and knows nothing of this comparison; the verdict is that of `mtmh ab`.

Totals is the change of time spent in the default world, mean over the seeds; its baseline is the
same in the habit-only world. Exits 1 when MTMH is reported as a winner there, or a comparison
cannot be judged.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Self

import typer

from benchmarks.platform import Run
from benchmarks.result import write
from mtmh.experiment.comparison import ArmComparison, compare, read_tables
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.folder import open_experiment
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import Effect
from mtmh.experiment.verdict import PRIMARY
from simulation.run import SimulationPlan, run_simulation

WORLDS, SEEDS = ("default", "habit-only"), (0, 1, 2)
# Kept of an effect.
COLUMNS = ("control", "treatment", "lift", "lo", "hi", "always_lo", "always_hi", "adjusted_p")
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
topics as (select distinct user_id, topic, timestamp::date as day
    from past join items using (item_id)),
events as (select liked.user_id, liked.timestamp::date as day, arm, head, trigger_id, topic
    from liked join shown using (request_id, item_id) join items using (item_id)),
known as (select events.*,
    exists(from topics as t where t.user_id = events.user_id and t.topic = events.topic
        and t.day < events.day and t.day >= events.day - {days}) as old,
    exists(from items as i
        where i.item_id = events.trigger_id and i.topic = events.topic) as matching
    from events)
select arm, head, count(*), avg((not old)::int), avg(matching::int)
    from known group by all order by all
"""


@dataclass(frozen=True)
class ComparedWorld:
    """What came of one world: a comparison a seed, and why novel interests go the way they go.

    Of the engagements with lists, by arm and head, `novel` says how many there are, which share is
    in a topic that the user had none with in 28 days, and which share in a topic of the trigger.
    """

    comparisons: list[ArmComparison]
    novel: dict[str, dict[str, float]]

    @classmethod
    def lived(cls, run: Path, world: str, users: int, days: int, folder: Path) -> Self:
        """Simulate what `folder` does not hold yet, and compare the arms."""
        import duckdb

        comparisons = []
        for seed in SEEDS:
            simulated = folder / f"{world}-{users}-{days}-{seed}"
            if not simulated.exists():
                plan = SimulationPlan(days, users=users, world=world, seed=seed)
                totals = run_simulation(run, plan, simulated)
                count = f"{totals.visits:,} visits, {totals.exposures:,} exposures"
                print(f"{world}, seed {seed}: {count} in {totals.seconds:.0f} s", flush=True)
            opened = open_experiment(simulated)
            comparisons.append(compare(opened, read_tables(opened)))
        # Novel interests of the first seed alone, which has engagements enough.
        query = NOVEL.format(place=comparisons[0].folder.folder, days=DEFINITIONS.novel_days)
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            rows = connection.execute(query).fetchall()
        novel = {
            f"{arm}, {head} head": {
                "engagements": n,
                "novel": round(novel, 4),
                "on_topic": round(on, 4),
            }
            for arm, head, n, novel, on in rows
        }
        return cls(comparisons, novel)

    def effects(self, metric: str) -> list[Effect]:
        """The effect on a metric at every seed."""
        return [
            {effect.metric: effect for effect in comparison.effects}[metric]
            for comparison in self.comparisons
        ]

    def show(self) -> None:
        """Print every metric's change at every seed, the verdicts, and the novel interests."""
        print(
            f"{'':32}{'paper':>7}"
            + "".join(f"{f'seed {seed}':>29}" for seed in SEEDS)
            + "  against the paper"
        )
        for name in (*PAPER, *(name for name in METRICS if name not in PAPER)):
            changes = self.effects(name)
            paper = f"{PAPER[name]:+.2f}" if name in PAPER else ""
            cells = ""
            for effect in changes:
                # A lift that is no number: the control is 0, and nothing is relative to it.
                interval = f"[{100 * effect.lo:+.2f}, {100 * effect.hi:+.2f}]"
                is_relative = effect.lift == effect.lift
                cell = (
                    f"{100 * effect.lift:+.2f} {interval}" if is_relative else "no relative change"
                )
                cells += f"{cell:>29}"
            agreement = _agreement(changes) if name in PAPER else ""
            print(f"{METRICS[name].title:32}{paper:>7}{cells}  {agreement}")
        for seed, comparison in zip(SEEDS, self.comparisons, strict=True):
            print(f"seed {seed}: {comparison.verdict.title}. {comparison.verdict.lead}")
        for name, figures in self.novel.items():
            new = f"{figures['novel']:.0%} in a topic new to the user"
            shares = f"{new}, {figures['on_topic']:.0%} in one of the trigger"
            print(f"engagements of {name}: {figures['engagements']:,}, {shares} (seed {SEEDS[0]})")
        print()

    def details(self) -> dict[str, Any]:
        """What the result holds of this world; null for what is no number."""
        effects: dict[str, list[dict[str, float | None]]] = {}
        for name in METRICS:
            effects[name] = []
            for effect in self.effects(name):
                values = {column: float(getattr(effect, column)) for column in COLUMNS}
                effects[name].append(
                    {
                        # NaN is not JSON: a control of 0 has no lift.
                        column: round(value, 6) if value == value else None
                        for column, value in values.items()
                    }
                )
        # The verdicts of all seeds, since one seed may win by luck.
        verdicts = [
            {"outcome": comparison.verdict.outcome, "lead": comparison.verdict.lead}
            for comparison in self.comparisons
        ]
        return {
            "verdicts": verdicts,
            "against_paper": {name: _agreement(self.effects(name)) for name in PAPER},
            "users": [dict(comparison.sample_ratio.observed) for comparison in self.comparisons],
            "effects": effects,
            "novel_by_head": self.novel,
        }


def main(
    run: Run = Path("runs/latest"),
    users: Annotated[int, typer.Option(min=1, help="How many live there.")] = 3000,
    days: Annotated[int, typer.Option(min=1, help="How long they do.")] = 14,
    places: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what was simulated; what is there is not simulated again.",
            show_default="none",
        ),
    ] = None,
) -> None:
    """One head against the merge among simulated users: change of each Table 5 metric, in two
    worlds."""
    worlds: dict[str, ComparedWorld] = {}
    with TemporaryDirectory(prefix="mtmh-ab-") as temporary:
        folder = places or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for world in WORLDS:
            worlds[world] = ComparedWorld.lived(run, world, users, days, folder)
            print(
                f"\nWorld {world}: {users:,} simulated users, {days} days;"
                " change in %, fixed 95 % interval"
            )
            worlds[world].show()
    details: dict[str, Any] = {
        "baseline": "the same in the world habit-only",
        "users": users,
        "days": days,
        "seeds": list(SEEDS),
        "simulated": True,
        "paper_percent": PAPER,
        "worlds": {name: world.details() for name, world in worlds.items()},
    }
    # The habit-only world is the baseline: relevance is worth nothing there.
    means = [
        100 * statistics.mean(effect.lift for effect in worlds[world].effects(PRIMARY))
        for world in WORLDS
    ]
    write("ab", means[0], "% change of time spent, simulated users", means[1], details)
    outcomes = {
        name: [comparison.verdict.outcome for comparison in world.comparisons]
        for name, world in worlds.items()
    }
    if "wins" in outcomes["habit-only"] or any(
        "unjudged" in verdicts for verdicts in outcomes.values()
    ):
        sys.exit(1)


def _agreement(effects: Sequence[Effect]) -> str:
    """Whether the sign is the paper's, which is + for all: by the intervals of all seeds."""
    up, down = sum(effect.lo > 0 for effect in effects), sum(effect.hi < 0 for effect in effects)
    if up and not down:
        return f"same sign ({up} of {len(effects)} clear)"
    if down and not up:
        return f"opposite ({down} of {len(effects)} clear)"
    return "seeds differ" if up else "cannot be told from 0"
