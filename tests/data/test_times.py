"""Times that cannot be true: rejected with a reason, taken for missing, or served; never an error
of a library.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.small_log import EVENTS, ITEMS, MakeFolder, small_tables

from feature_repo.histories import build_histories
from feature_repo.stage import build_features
from mtmh.config import DataSettings, PairSettings
from mtmh.data.pairs import write_pairs
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError

TIME = pa.timestamp("us", tz="UTC")
YEAR_1, YEAR_1601, YEAR_9999 = (
    -62_135_596_800,
    -11_644_473_600,
    253_402_300_799,
)  # seconds since 1970
GOOD = 1_704_067_200


def with_created_at(times: pa.Array) -> pa.Table:
    return small_tables()["items"].append_column("created_at", times)


def chain(folder: Path, out: Path) -> Prepared:
    """Prepare, features and pairs, with random content."""
    prepare(str(folder), out / "prepared", DataSettings(), seed=0)
    data = Prepared.load(out / "prepared")
    content = out / "content"
    content.mkdir(parents=True)
    vectors = np.random.default_rng(0).normal(size=(data.n_items, 4))
    np.save(
        content / "content.npy",
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
    )
    (out / "pairs").mkdir()
    build_features(out / "prepared", out / "features", DataSettings())
    build_histories(out / "prepared", out / "histories", "mtmh_small_1")
    write_pairs(out / "prepared", content, out / "pairs", PairSettings())
    return data


@pytest.mark.parametrize("second", [0, 60, -1, YEAR_1, YEAR_1601, YEAR_9999])
def test_items_of_any_time_are_served(make_folder: MakeFolder, tmp_path: Path, second: int) -> None:
    created = pa.array([second * 10**6, *[None] * (ITEMS - 1)], TIME)
    data = chain(make_folder(items=with_created_at(created)), tmp_path / "out")
    assert data.n_items == ITEMS
    assert data.items["created_at"].null_count == ITEMS - (second not in (0, 60))


def test_a_created_at_of_1970_is_said_to_be_missing(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(items=with_created_at(pa.array([0] * ITEMS, TIME)))
    prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)
    assert (
        "created_at lies in January 1970 in 30 of 30 rows: taken for missing"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("second", [0, 1600, YEAR_1, YEAR_1601, YEAR_9999])
def test_an_event_of_no_real_time_is_rejected(
    make_folder: MakeFolder, tmp_path: Path, second: int
) -> None:
    times = [second, *(GOOD + 3600 * np.arange(EVENTS - 1)).tolist()]
    data = chain(
        make_folder(interactions={"timestamp": pa.array(times, pa.timestamp("s"))}),
        tmp_path / "out",
    )
    assert data.info["rejected_rows"] == 1
    assert len(data.user) == EVENTS - 1


@pytest.mark.parametrize(("unit", "per_second"), [("ns", 1), ("ns", 1000), ("us", 1), ("ms", 1)])
def test_seconds_read_as_a_finer_unit_are_named(
    make_folder: MakeFolder, tmp_path: Path, unit: str, per_second: int
) -> None:
    numbers = (GOOD + 3600 * np.arange(EVENTS)) * per_second
    folder = make_folder(interactions={"timestamp": pa.array(numbers, pa.timestamp(unit, "UTC"))})
    with pytest.raises(
        UserError,
        match=r"200 x timestamp lies before 1971 \(seconds or milliseconds read as a finer",
    ):
        prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)


def test_milliseconds_read_as_seconds_are_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    numbers = (GOOD + 3600 * np.arange(EVENTS)) * 1000
    folder = make_folder(interactions={"timestamp": pa.array(numbers, pa.timestamp("s", "UTC"))})
    with pytest.raises(UserError, match="milliseconds or finer, read as seconds"):
        prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)


def test_times_without_a_zone_are_named(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = pa.array(GOOD + 3600 * np.arange(EVENTS), pa.timestamp("s"))
    prepare(
        str(make_folder(interactions={"timestamp": local})),
        tmp_path / "out",
        DataSettings(),
        seed=0,
    )
    assert "timestamp has no time zone: taken for UTC" in capsys.readouterr().out


@pytest.mark.parametrize("mark", [*"%#?:'\"& ü", "%20"])
def test_the_chain_works_in_a_folder_of_any_name(
    make_folder: MakeFolder, tmp_path: Path, mark: str
) -> None:
    assert chain(make_folder(), tmp_path / f"out{mark}put").n_items == ITEMS
