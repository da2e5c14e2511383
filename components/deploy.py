"""Step deploy: the new version becomes the one that serves. Never cached."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    run: dsl.Input[dsl.Artifact],
    package: dsl.Input[dsl.Artifact],
    approved: bool,
    version: str,
    champion_link: str,
    store: str,
    model_name: str,
    tracking_uri: str,
    namespace: str = "",
    canary: float = 0.0,
) -> None:
    """Check verdict and checksums once more; put the package into `store` and make it the champion
    there, which a running server takes up; then move MLflow's alias `champion` to it, and make the
    `champion_link`, where there is one, lead to the run's retriever, atomically.

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
        from functools import partial

        from components.registry import make_champion
        from mtmh.errors import UserError
        from mtmh.retrieval.version import verify
        from serving.deployment import put_into_service

        retriever = Path(run.path) / "retriever"
        verdict = json.loads((Path(run.path) / "metrics.json").read_text())["gate"]
        if not (approved and verdict["passed"]):
            raise UserError(
                f"version {version} did not pass the gate: {champion_link} stays where it is."
            )
        verify(retriever)
        crown = partial(make_champion, tracking_uri, model_name, version)
        made = Path(package.path)
        serves = put_into_service(made, store, version, namespace, canary, crown)
        if serves.canary:
            print(f"version {version} serves {canary:.4g} of the users, until mtmh promote")
            return
        if not champion_link:  # on a cluster a run lies in the artifact store, where no link leads
            print(f"version {version} is the champion, served from {store}")
            return
        link = Path(champion_link)
        link.parent.mkdir(parents=True, exist_ok=True)
        draft = link.with_name(f".{link.name}.{os.getpid()}")
        draft.symlink_to(os.path.relpath(retriever, link.parent))
        draft.replace(link)
        print(f"version {version} is the champion: {link}, served from {store}")
