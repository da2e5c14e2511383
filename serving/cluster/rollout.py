"""A new version on a cluster: Triton's pods load it beside the old one, then the routers switch to
it.

Which versions Triton loads stands in an annotation of its pods (k8s/base/triton.yaml), which one
serves in the store's file `champion`, as on a laptop. Wherever this is killed, what serves is
loaded: the champion changes only while every pod of Triton has both, and Triton keeps the old one
until the next version comes.
"""

from contextlib import suppress
from pathlib import Path

from mtmh.errors import UserError
from serving.cluster.pods import Cluster, RolloutError, connected
from serving.triton.stores import library_of


def roll_out(store: Path | str, version: str, cluster: Cluster) -> list[str]:
    """Make the installed `version` the one that serves from `store`, a folder or a bucket's URL;
    returns the versions that Triton then has, oldest first.

    Raises RolloutError, or UserError where somebody can mend it, when the version does not come up
    on Triton or the routers do not take it: the champion and Triton's versions are then what they
    were, and the message says so.
    """
    packages = library_of(store)
    packages.verify(store, version)
    before = _champion(store)
    loaded = cluster.loaded()
    needed = {before, version} | cluster.pinned()
    if before == version:  # a second try: what went before is still there to go back to
        needed.update(loaded or [])
    to_load = [number for number in packages.versions(store) if number in needed]
    try:
        cluster.load(to_load, loaded)
        packages.promote(store, version, cluster.namespace)
        cluster.wait_for_routers(version, packages.champion_named_us(store))
    except Exception as error:
        kind = UserError if isinstance(error, UserError) else RolloutError
        why = f"version {version} does not serve: {error}"
        with suppress(RolloutError, UserError):  # the cluster does not answer, as `error` says
            if complaints := cluster.container_errors():
                why += f" ({complaints})"
        raise kind(f"{why}. {_undo(store, before, loaded, to_load, cluster)}") from error
    return to_load


def let_serve(store: Path | str, version: str, namespace: str) -> list[str]:
    """Make the installed `version` the one that serves: by a rollout in the cluster's `namespace`,
    or at once where that is empty, as on one machine. Returns the versions that the cluster's
    Triton then has. Raises UserError where it does not come to serve.
    """
    if not namespace:
        library_of(store).promote(store, version)
        return []
    try:
        return roll_out(store, version, Cluster(connected(), namespace))
    except RolloutError as error:  # what serves was kept, as the message says
        raise UserError(str(error)) from None


def _undo(
    store: Path | str, before: str, loaded: list[str] | None, to_load: list[str], cluster: Cluster
) -> str:
    """Bring back what was, the routers first: until they have switched, Triton must keep both. Says
    what serves.
    """
    packages = library_of(store)
    try:
        if _champion(store) != before:
            if before:
                packages.promote(store, before, cluster.namespace)
                cluster.wait_for_routers(before, packages.champion_named_us(store))
            else:
                packages.unname(store)
        cluster.load(loaded, to_load)
    except Exception as error:
        left = f"version {_champion(store)}" if _champion(store) else "no version"
        return (
            f"What was could not be brought back in full: {error}. The store's champion is {left}."
        )
    return f"Version {before} serves as before." if before else "No version serves, as before."


def _champion(store: Path | str) -> str:
    """The version that serves, empty where none does yet."""
    packages = library_of(store)
    return packages.champion(store) if packages.champion_named_us(store) else ""
