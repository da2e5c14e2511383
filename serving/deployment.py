"""A package into service: installed, rolled out or promoted, crowned in the registry; what is old
goes.
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from serving.triton.served import Served
from serving.triton.stores import opened


def put_into_service(
    package: Path,
    store: str,
    version: str,
    namespace: str,
    canary: float,
    crown: Callable[[], None],
) -> Served:
    """Put `package` into the store, a folder or URL, and let `version` serve; returns what serves.

    With `namespace` by a rollout on that cluster, for a share `canary` of the users where that is
    not 0 and another version serves. `crown` makes it the registry's champion, once it serves all
    users: the next run is compared with what served. Raises UserError or RolloutError where it does
    not come to serve: all is then as it was.
    """
    packages, location = opened(store)
    # On a cluster nobody else rolls out meanwhile: another deploy waits.
    with ExitStack() as stack:
        serves, loaded = Served(version), list[str]()
        if namespace:
            from serving.cluster.lease import held
            from serving.cluster.pods import Cluster, connected
            from serving.cluster.rollout import beside, switch

            cluster = Cluster(connected(), namespace)
            stack.enter_context(held(cluster, f"{socket.gethostname()} (version {version})"))
            packages.install(package, location)
            serves = beside(location, version, canary)
            loaded = switch(location, serves, cluster)
        else:
            packages.install(package, location)
            packages.promote(location, version)
        if not serves.canary:
            crown()
            for old in packages.retire(location, needed=loaded):
                print(f"removed version {old} from {store}")
    return serves
