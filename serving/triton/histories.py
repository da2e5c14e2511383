"""Histories of a retired version that lie in a server such as Redis, not in its package."""

from collections.abc import Iterable
from pathlib import Path


def remove_histories(version: Path, others: Iterable[Path]) -> None:
    """Remove the rows that the version in the folder `version` of the store reads, unless one of
    `others`, the folders beside it, reads them as well. Raises UserError when Redis refuses.
    """
    registry = version / "features" / "registry.db"
    # SQLite's rows are in the package, and go with it.
    if not registry.is_file() or registry.with_name("online.db").is_file():
        return
    # A refresh has the registry, and so the rows, of the version that it was made from.
    others_registries = (other / "features" / registry.name for other in others)
    content = registry.read_bytes()
    if any(other.is_file() and other.read_bytes() == content for other in others_registries):
        return
    from feature_repo.feast_import import import_feast

    import_feast()
    from feature_repo.online import remove_rows

    remove_rows(registry.parent)
