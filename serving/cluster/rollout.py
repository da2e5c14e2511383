"""What serves on a cluster: Triton's pods load a version beside the old one, then the routers
switch to it, or give it to a share of the users (a canary).

Which versions Triton loads stands in an annotation of its pods (k8s/base/triton.yaml), which one
serves in the store's file `champion`, as on a laptop. Wherever this is killed, what serves is
loaded: the champion changes only while every pod of Triton has both, and Triton keeps the old one
until the next version comes.
"""

import socket
from contextlib import suppress
from pathlib import Path

from mtmh.errors import UserError
from serving.cluster.lease import held
from serving.cluster.pods import Cluster, RolloutError, connected
from serving.triton.served import Served
from serving.triton.stores import library_of

NOTHING = Served("")


def roll_out(store: Path | str, version: str, cluster: Cluster) -> list[str]:
    """Make the installed `version` the one that serves, alone; see `switch`."""
    return switch(store, Served(version), cluster)


def switch(store: Path | str, served: Served, cluster: Cluster) -> list[str]:
    """Make these installed versions the ones that serve from `store`, a folder or a bucket's URL;
    returns the versions that Triton then has, oldest first.

    Raises RolloutError, or UserError where somebody can mend it, when a version does not come up on
    Triton or the routers do not take it: what serves and Triton's versions are then what they were,
    and the message says so.
    """
    packages = library_of(store)
    served.check()
    for version in served.versions:
        packages.verify(store, version)
    before, loaded, arms = _served(store), cluster.loaded(), cluster.arms()
    if served.canary and arms:
        raise UserError(
            "an experiment is running (router.yaml), whose users get their arms' versions and no"
            f" canary: let an arm name version {served.canary}, or end the experiment first."
        )
    needed = before.versions | served.versions
    needed |= {str(arm["version"]) for arm in arms if arm.get("version")}
    if before == served:  # a second try: what went before is still there to go back to
        needed.update(loaded or [])
    to_load = [number for number in packages.versions(store) if number in needed]
    try:
        cluster.load(to_load, loaded)
        packages.serve(store, served, cluster.namespace)
        cluster.wait_for_routers(served, packages.champion_named_us(store))
    except Exception as error:
        kind = UserError if isinstance(error, UserError) else RolloutError
        why = f"version {served.canary or served.champion} does not serve: {error}"
        with suppress(RolloutError, UserError):  # the cluster does not answer, as `error` says
            if complaints := cluster.container_errors():
                why += f" ({complaints})"
        raise kind(f"{why}. {_undo(store, before, loaded, to_load, cluster)}") from error
    return to_load


def beside(store: Path | str, version: str, share: float) -> Served:
    """What serves when `version` comes as a canary for a share of the users; as the champion where
    the share is 0, there is none yet, or it is the champion itself.
    """
    champion = _served(store).champion
    is_canary = share > 0 and champion not in ("", version)
    return Served(champion, version, share) if is_canary else Served(version)


def let_serve(store: Path | str, served: Served, namespace: str) -> list[str]:
    """Make these installed versions the ones that serve: in the cluster's `namespace` by a rollout,
    one at a time, or at once where that is empty, as on one machine. Returns the versions that the
    cluster's Triton then has. Raises UserError where they do not come to serve.
    """
    if not namespace:
        library_of(store).serve(store, served)
        return []
    cluster = Cluster(connected(), namespace)
    versions = " and ".join(sorted(served.versions))
    try:
        with held(cluster, f"{socket.gethostname()} (version {versions})"):
            return switch(store, served, cluster)
    except RolloutError as error:  # what serves was kept, as the message says
        raise UserError(str(error)) from None


def _undo(
    store: Path | str,
    before: Served,
    loaded: list[str] | None,
    to_load: list[str],
    cluster: Cluster,
) -> str:
    """Bring back what was, the routers first: until they have switched, Triton must keep both. Says
    what serves.
    """
    packages = library_of(store)
    try:
        if _served(store) != before:
            if before.champion:
                packages.serve(store, before, cluster.namespace)
                cluster.wait_for_routers(before, packages.champion_named_us(store))
            else:
                packages.unname(store)
        cluster.load(loaded, to_load)
    except Exception as error:
        champion = _served(store).champion
        left = f"version {champion}" if champion else "no version"
        return (
            f"What was could not be brought back in full: {error}. The store's champion is {left}."
        )
    if before.canary:
        return f"Version {before.champion} and canary {before.canary} serve as before."
    if before.champion:
        return f"Version {before.champion} serves as before."
    return "No version serves, as before."


def _served(store: Path | str) -> Served:
    """What serves, NOTHING where nothing does."""
    packages = library_of(store)
    return packages.served(store) if packages.champion_named_us(store) else NOTHING
