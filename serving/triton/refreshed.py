"""A refreshed version into the store, as the refresh of the version that serves there."""

import json
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.errors import UserError
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.version import verify
from serving.triton import store as packages
from serving.triton.export import write_package
from serving.triton.store import REFRESHES, trained


def version_before(store: Path) -> str:
    """The installed version that came before the champion: of its refreshes, else of what was
    trained earlier. Raises UserError when there is none.
    """
    serving = packages.champion(store)
    by_age = packages.versions(store)
    earlier = by_age[: by_age.index(serving)]
    if not earlier:
        raise UserError(f"{store} has no version before {serving}, which serves.")
    return earlier[-1]


def install_refresh(retriever: Path, store: Path) -> str:
    """Package what `mtmh.retrieval.refresh` wrote, install it beside the champion, and return its
    number.

    Histories, users and the registry's names stay the champion's: what is new are items alone.
    Raises UserError when `retriever` was not refreshed, or from another version than the one that
    serves.
    """
    serving = packages.champion(store)
    if "refreshed" not in verify(retriever)["created_from"]:
        raise UserError(f"{retriever} was not refreshed: package a run with mtmh package.")
    manifest = packages.verify(store, serving)
    _check_same(retriever, store, serving)
    taken = [
        int(version) for version in packages.versions(store) if trained(version) == trained(serving)
    ]
    number = str(max(*taken, trained(serving) * REFRESHES) + 1)
    served_version = store / "versions" / serving
    features = served_version / "features" if (served_version / "features").is_dir() else None
    users = json.loads((served_version / "serving.json").read_text()).get("users", [])
    with tempfile.TemporaryDirectory(
        prefix=".package-", dir=store
    ) as folder:  # there, so that it can be hard links
        out = Path(folder) / number
        packages.install(
            write_package(retriever, number, out, features, manifest["mlflow"], users), store
        )
    return number


def retire_refreshes(store: Path, needed: Collection[str] = ()) -> list[str]:
    """Remove the champion's older refreshes, as `store.retire` does; what was trained stays, and
    those `needed`. Returns those removed.
    """
    base = trained(packages.champion(store))
    trained_versions = [
        version
        for version in packages.versions(store)
        if int(version) < REFRESHES or trained(version) != base
    ]
    return packages.retire(store, needed=[*trained_versions, *needed])


def _check_same(retriever: Path, store: Path, serving: str) -> None:
    """Of one model, and no item that is served is gone: a refresh adds."""
    served, refreshed = (
        pq.read_table(folder / "items.parquet", columns=["item_id", "in_train"])
        for folder in (store / "versions" / serving, retriever)
    )
    missing = served.filter(
        pc.invert(pc.is_in(served["item_id"], value_set=refreshed["item_id"].combine_chunks()))
    )
    if len(missing):
        raise UserError(
            f"{len(missing):,} items that version {serving} serves are not in {retriever}, such as"
            f" {missing['item_id'][0].as_py()!r}. Refresh what was refreshed last, or name all "
            f"items that are new since"
            " the training."
        )
    # What was trained has the same vectors, to the bit.
    served_rows = np.flatnonzero(served["in_train"].to_numpy())
    refreshed_rows = np.flatnonzero(refreshed["in_train"].to_numpy())
    served_settings = json.loads((store / "versions" / serving / "serving.json").read_text())
    for channel in channels_in(served_settings):
        served_path = store / "models" / f"{channel.name}_{serving}" / serving / "vectors.npy"
        vectors = np.load(served_path, mmap_mode="r")[served_rows]
        if not np.array_equal(
            vectors, np.load(retriever / f"{channel.head}.npy", mmap_mode="r")[refreshed_rows]
        ):
            raise UserError(
                f"{retriever} is no refresh of version {serving}, which serves: their"
                f" {channel.head} heads differ. Refresh the run that it was packaged from, or"
                " package this one with mtmh package."
            )
