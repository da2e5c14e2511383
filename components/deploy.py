"""Step deploy: the new version becomes the one that serves. Never cached."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    run: dsl.Input[dsl.Artifact],
    package: dsl.Input[dsl.Artifact],
    approved: bool,
    version: str,
    place: str,
    store: str,
    model_name: str,
    tracking_uri: str,
    namespace: str = "",
    canary: float = 0.0,
) -> None:
    """Check verdict and checksums once more; put the package into `store` and make it the champion
    there, which a running server takes up; then move MLflow's alias `champion` to it, and make the
    link `place`, where there is one, lead to the run's retriever, atomically.

    With `namespace`, a cluster serves from the store: its Triton loads the version first, the
    champion changes only then, and all is as it was, the alias too, where the version does not come
    to serve (serving/cluster/rollout.py). With `canary` there, the version first serves that share
    of the users, and all else waits for `mtmh promote`.
    """
    from pathlib import Path

    from components.step import running

    with running("deploy"):
        import json
        import os
        import socket
        from contextlib import ExitStack

        from components.registry import make_champion
        from mtmh.errors import UserError
        from mtmh.retrieval.version import verify
        from serving.triton.stores import opened

        retriever = Path(run.path) / "retriever"
        verdict = json.loads((Path(run.path) / "metrics.json").read_text())["gate"]
        if not (approved and verdict["passed"]):
            raise UserError(f"version {version} did not pass the gate: {place} stays where it is.")
        verify(retriever)
        packages, served = opened(store)
        # On a cluster nobody else rolls out meanwhile: another deploy waits.
        with ExitStack() as stack:
            if namespace:
                from serving.cluster.lease import held
                from serving.cluster.pods import Cluster, connected
                from serving.cluster.rollout import beside, switch

                cluster = Cluster(connected(), namespace)
                stack.enter_context(held(cluster, f"{socket.gethostname()} (version {version})"))
            packages.install(Path(package.path), served)
            loaded: list[str] = []
            if namespace:
                serving = beside(served, version, canary)
                loaded = switch(served, serving, cluster)
                if serving.canary:
                    print(f"version {version} serves {canary:.4g} of the users, until mtmh promote")
                    return
            else:
                packages.promote(served, version)
            # Last, so that the next run is compared with what served.
            make_champion(tracking_uri, model_name, version)
            for old in packages.retire(served, needed=loaded):
                print(f"removed version {old} from {store}")
        if not place:  # on a cluster a run lies in the artifact store, where no link leads
            print(f"version {version} is the champion, served from {store}")
            return
        link = Path(place)
        link.parent.mkdir(parents=True, exist_ok=True)
        draft = link.with_name(f".{link.name}.{os.getpid()}")
        draft.symlink_to(os.path.relpath(retriever, link.parent))
        draft.replace(link)
        print(f"version {version} is the champion: {link}, served from {store}")
