"""A registry in SQL that runs share: for who else wants to read features at a point in time."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.feast_import import import_feast
from mtmh.data.files import replacing
from mtmh.errors import UserError

if TYPE_CHECKING:
    from feast import FeatureStore


def open_shared(registry: str, project: str) -> "FeatureStore":
    """A store for reads at a point in time, over what `share` registered. Raises as SQLAlchemy."""
    import_feast()
    from sqlalchemy.pool import NullPool

    from feature_repo.store import open_offline

    # Feast closes no connection: none is kept.
    settings = {"poolclass": NullPool}
    return open_offline(
        project, {"registry_type": "sql", "path": registry, "sqlalchemy_config_kwargs": settings}
    )


def share(registry: str, project: str, tables: Sequence[Path], folder: Path) -> None:
    """Register item_statistics.parquet and user_history.parquet (`tables`) as `project` in the SQL
    registry at the URL `registry` (SQLAlchemy's).

    They are copied to `folder`, which outlives this process and is where readers find them; those
    of an earlier run over the same data are replaced, other projects stay as they are. Raises
    UserError when the database cannot be used.
    """
    for table in tables:
        with replacing(folder / table.name) as draft:
            shutil.copyfile(table, draft)
    with warnings.catch_warnings():
        import_feast()
        from sqlalchemy.exc import SQLAlchemyError

        from feature_repo.views import item_definitions, user_definitions

        try:
            store = open_shared(registry, project)
            store.apply([*item_definitions(folder), *user_definitions(folder)])
        except SQLAlchemyError as error:
            raise UserError(
                f"FEAST_REGISTRY: the shared registry cannot be used: {error}. Write a URL such as"
                " postgresql+psycopg://user:password@host:5432/feast of a database that is there."
            ) from None
    print(f"{project}: tables in {folder}, registered for other readers", flush=True)
