"""New items into the version that serves, from a folder that they are put into: the work of `mtmh
intake`."""

import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.registry import fetch_run
from mtmh.data.new_items import read_new_items
from mtmh.errors import UserError
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import refresh
from serving.cluster.rollout import let_serve
from serving.triton import store as packages
from serving.triton.refreshed import install_refresh, retire_refreshes
from serving.triton.served import Served


def take_in(
    folder: Path, store: Path, tracking_uri: str, namespace: str = "", cache: Path | None = None
) -> str:
    """Let what serves from `store` hold the items of all `folder`/*.parquet too; returns in a
    sentence what was done.

    The folder keeps every item since the last training: each refresh is made of the trained version
    anew, whose run MLflow has at `tracking_uri`, and the texts of the items before come from
    `cache`. Nothing is done where there is no file, or no item that does not serve already. With
    `namespace` the version is rolled out on the cluster. Raises UserError when a file breaks the
    contract, when the champion has changed meanwhile, and as `refresh` and `let_serve` do.
    """
    items = read_new_items(folder)
    if items is None:
        return f"no new items: {folder} holds no .parquet file"
    serving = packages.champion(store)
    served = pq.read_table(store / "versions" / serving / "items.parquet", columns=["item_id"])
    is_served = pc.is_in(items["item_id"], value_set=served["item_id"].combine_chunks())
    new = len(items) - (pc.sum(is_served).as_py() or 0)
    if not new:
        return f"no new items: version {serving} holds all {len(items):,} of {folder}"

    with tempfile.TemporaryDirectory(prefix="mtmh-intake-") as temporary:
        # The trained version and what of the files it lacks: the refreshes before are in them.
        number = str(packages.trained(serving))
        names = ("config.yaml", "retriever")
        run = fetch_run(tracking_uri, f"mtmh-{store.name}", number, Path(temporary), names)
        out = Path(temporary) / "refreshed"
        refresh(run, items, out, Intake.load(run, cache=cache, root=folder), skip_known=True)
        version = install_refresh(out, store)
    # A training that ended meanwhile serves: a refresh of the version before must not replace it.
    if packages.champion(store) != serving:
        raise UserError(
            f"{store} has another champion than {serving} by now: run it again, for that one."
        )
    for old in retire_refreshes(store, let_serve(store, Served(version), namespace)):
        print(f"removed version {old} from {store}")
    return f"version {version} serves, with {new:,} new items"
