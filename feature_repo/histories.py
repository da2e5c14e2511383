"""What serving reads: the users' histories as of now, in a Feast project of one version."""

import time
import warnings
from pathlib import Path

from feature_repo.feast_import import import_feast
from mtmh.data.feature_tables import write_user_history


def build_histories(prepared: Path, out: Path, project: str) -> None:
    """Write the users' histories of all interactions in `prepared`, the directory of that stage,
    and load them into the online store under `project`.

    Writes `out`/user_history.parquet (user_id, item_ids: 50 distinct items, newest first; topics,
    topic_shares: L2 interests), `out`/registry.db, and `out`/online.db where the store that the
    environment describes is the embedded one; an earlier store there is replaced. They are as of
    the log's newest event, users and events after the split included.

    Raises MaterializationError when the online store does not hold every user afterwards, and
    UserError when it refuses.
    """
    with warnings.catch_warnings():
        import_feast()
        # Importing the store sets warning filters of its own: it comes before this one.
        from feature_repo.online import materialize
        from feature_repo.store import REGISTRY, open_store
        from feature_repo.views import user_definitions

        # Ibis 12 on DuckDB 1.5.
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        start = time.perf_counter()
        now = write_user_history(prepared, out / "user_history.parquet")
        # Rows of another run must not show through.
        for name in (REGISTRY, "online.db"):
            (out / name).unlink(missing_ok=True)
        store = open_store(out, project)
        store.apply(user_definitions(out))
        count = materialize(store, "user_history")
        seconds = time.perf_counter() - start
        print(
            f"{project}: {count:,} users' histories as of {now:%Y-%m-%d %H:%M:%S} UTC, loaded in"
            f" {seconds:.1f} s",
            flush=True,
        )
