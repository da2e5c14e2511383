"""What `describe` finds in a log, and what it says that it means."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.small_log import EVENTS, ITEMS, MakeFolder, small_tables

from mtmh.config import DataSettings
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.data.profile.advice import findings
from mtmh.data.profile.describe import describe
from mtmh.errors import UserError

TIME = pa.timestamp("us", tz="UTC")


def said(folder: Path, **settings: object) -> dict[str, tuple[str, str]]:
    """What is found: about -> state and sentence."""
    chosen = DataSettings.model_validate(settings)
    return {one.about: (one.state, one.means) for one in findings(describe(folder, chosen), chosen)}


def with_columns(name: str, **columns: pa.Array) -> pa.Table:
    table = small_tables()[name]
    for column, values in columns.items():
        table = table.drop_columns([column]) if column in table.column_names else table
        table = table.append_column(column, values)
    return table


def test_the_figures_are_those_of_a_run(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder, settings = make_folder(), DataSettings(min_value=2.0)
    found = describe(folder, settings)
    prepare(str(folder), tmp_path / "out", settings, seed=0)
    run = Prepared.load(tmp_path / "out")
    assert found.split is not None
    assert (found.log.rows, found.log.engagements, found.log.users) == (
        EVENTS,
        run.info["rows"],
        run.n_users,
    )
    assert found.split.test_users == run.info["test_users"] == len(run.targets()[0])
    assert found.split.targets == len(run.targets()[1].values)
    assert run.info["split_time"].replace("T", " ").startswith(found.split.time)
    assert (found.split.train, found.split.test) == (run.is_train.sum(), (~run.is_train).sum())
    assert found.split.learners == (run.train_histories().lengths > 1).sum()
    unknown = np.bincount(run.item[run.is_train], minlength=ITEMS)[run.item[~run.is_train]] == 0
    assert found.split.cold_share == pytest.approx(unknown.mean())
    assert found.log.items == len(np.unique(run.item))
    pairs = len(np.unique(run.user.astype(np.int64) * ITEMS + run.item))
    assert found.log.density == pytest.approx(pairs / (run.n_users * found.log.items))
    assert (found.l1.topics, found.l2.topics) == (
        len(run.topic_names("l1")),
        len(run.topic_names("l2")),
    )


def test_catalog_and_topics(make_folder: MakeFolder) -> None:
    items = with_columns(
        "items",
        title=pa.array(["", " ", *[f"item {n}" for n in range(ITEMS - 2)]]),
        text=pa.array(["some text", *[""] * (ITEMS - 1)]),
        creator_id=pa.array(["c1", "c2", "", None, *["c1"] * (ITEMS - 4)]),
        image_path=pa.array(["a.jpg", *[None] * (ITEMS - 1)]),
        created_at=pa.array([10**15, *[None] * (ITEMS - 1)], TIME),
    )
    found = describe(make_folder(items=items), DataSettings())
    catalog = found.catalog
    assert (catalog.items, catalog.creators, catalog.characters) == (ITEMS, 2, 7.0)
    shares = np.array(
        [
            catalog.title,
            catalog.text,
            catalog.words,
            catalog.creator,
            catalog.image,
            catalog.created_at,
        ]
    )
    assert shares * ITEMS == pytest.approx([28, 1, 29, 28, 1, 1])
    # of every four items: Food fine; Sports fine; Food fine and Music fine; none
    assert (found.l2.topics, found.l2.items_per_topic) == (3, 8.0)
    assert found.l2.largest == pytest.approx(15 / ITEMS)
    assert found.l2.without == pytest.approx(7 / ITEMS)


@pytest.mark.parametrize(
    ("title", "spells"),
    [
        ("a FOOD-fine place", True),
        ("Food fine", True),
        ("food finery", False),
        ("fine food", False),
        ("Music fine", False),  # not one of its own
    ],
)
def test_topics_spelled_in_the_text(make_folder: MakeFolder, title: str, spells: bool) -> None:
    folder = make_folder(items={"title": pa.array([title, *["other"] * (ITEMS - 1)])})
    assert describe(folder, DataSettings()).spelled == pytest.approx(spells / ITEMS)
    assert said(folder)["leak"][0] == ("warn" if spells else "ok")


def test_times_that_are_days(make_folder: MakeFolder) -> None:
    day = pa.array(
        np.datetime64("2024-01-01T07", "us") + (np.arange(EVENTS) // 10).astype("timedelta64[D]")
    )
    each = pa.array([f"event {e}" for e in range(EVENTS)])  # none repeats another
    folder = make_folder(interactions={"timestamp": day.cast(TIME), "event": each})
    log = describe(folder, DataSettings()).log
    assert (log.resolution, log.same_time_of_day) == ("days", 1.0)
    assert log.tied == pytest.approx(0.4)  # ten events a day in turn over eight users
    assert said(folder)["time"][0] == "warn"
    assert describe(make_folder(), DataSettings()).log.resolution == "hours"
    assert said(make_folder())["time"] == (
        "ok",
        "in hours: the order of a user's engagements is known.",
    )


def test_interactions_alone(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "items.parquet").unlink()
    found = said(folder)
    assert found["text"] == (
        "lacks",
        "no title or text: the relevance head has nothing to learn from; write "
        "train.objective=engagement.",
    )
    assert found["topics"][0] == found["creators"][0] == found["created_at"][0] == "lacks"
    assert "leak" not in found


def test_topics_at_l1_alone_do_not_reach_the_gate(make_folder: MakeFolder) -> None:
    none = pa.array([[]] * ITEMS, pa.list_(pa.string()))
    state, means = said(make_folder(items={"l2_topics": none}))["topics"]
    assert (state, "L1 relevance is shown, but the gate looks at L2" in means) == ("lacks", True)


def test_events_values_dwell_and_arms(make_folder: MakeFolder) -> None:
    interactions = with_columns(
        "interactions",
        event=pa.array(["impression"] * 50 + ["click"] * 150),
        dwell_seconds=pa.array([None] * 100 + [7.0] * 100),
        arm=pa.array(["a"] * 150 + ["b"] * 50),
    )
    folder = make_folder(interactions=interactions)
    log = describe(folder, DataSettings()).log
    assert log.events == {"click": 150, "impression": 50}
    assert (log.exposures, log.dwell, log.dwell_median, log.arms) == (
        50,
        0.5,
        7.0,
        {"a": 150, "b": 50},
    )
    assert log.values == (1.0, 5.0)
    means = [one.means for one in findings(describe(folder, DataSettings()), DataSettings())]
    assert any(one.startswith("50 rows sound like what was shown") for one in means)
    clicks = said(folder, positive_events=["click"], min_value=1.0)
    assert clicks["engagement"] == ("ok", "50 of 200 rows do not count, by data's settings.")
    assert said(folder)["engagement"][1].endswith("data.min_value leaves the lower ones out.")
    assert "arms (a, b)" in said(folder)["further"][1]


def test_rejected_rows_are_told_not_raised(make_folder: MakeFolder) -> None:
    users = pa.array([None] * 10 + [f"u{e % 8}" for e in range(EVENTS - 10)])
    folder = make_folder(interactions={"user_id": users})
    found = describe(folder, DataSettings())
    assert found.rejected["interactions"].reasons == {"user_id is null or empty": 10}
    state, means = said(folder)["contract"]
    assert state == "warn"
    assert means.startswith(
        "10 of 200 interactions are rejected, mostly because user_id is null or empty"
    )
    assert said(folder, max_rejected_share=0.1)["contract"] == ("ok", "10 rows are rejected.")


@pytest.mark.parametrize(
    ("column", "values", "about"),
    [
        ("user_id", pa.repeat("me", EVENTS), "users"),
        ("item_id", pa.repeat("i03", EVENTS), "items"),
        ("user_id", pa.array([f"u{e}" for e in range(EVENTS)]), "test users"),
        ("timestamp", pa.repeat(pa.scalar(10**15, TIME), EVENTS), "split"),
    ],
)
def test_what_stops_a_run_is_lacking(
    make_folder: MakeFolder, tmp_path: Path, column: str, values: pa.Array, about: str
) -> None:
    interactions = with_columns("interactions", value=pa.repeat(1.0, EVENTS), **{column: values})
    folder = make_folder(interactions=interactions)
    state, means = said(folder, max_rejected_share=1.0)[about]
    assert state == "lacks"
    assert "run stops" in means
    with pytest.raises(UserError):
        prepare(str(folder), tmp_path / "out", DataSettings(max_rejected_share=1.0), seed=0)


def test_nothing_left_is_an_error_that_leads_on(make_folder: MakeFolder) -> None:
    folder = make_folder(interactions={"user_id": pa.array([""] * EVENTS)})
    with pytest.raises(
        UserError,
        match=r"no interactions are left(.|\n)*`mtmh check .*` says which rows were rejected",
    ):
        describe(folder, DataSettings())
