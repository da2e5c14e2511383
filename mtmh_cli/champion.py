"""Which version serves: back to an earlier one, a share of the users for a new one; on this machine
or on a cluster.
"""

from pathlib import Path
from typing import Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import Runs, app

DataName = Annotated[
    str | None,
    typer.Option(envvar="MTMH_DATA", help="Whose champion.", show_default="the latest run's"),
]
Namespace = Annotated[
    str,
    typer.Option(
        envvar="MTMH_NAMESPACE",
        help="Of the cluster that serves from --runs, its volume.",
        show_default="this machine serves",
    ),
]
Registry = Annotated[
    str,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI", help="MLflow server.", show_default="--runs' mlflow.db"
    ),
]
Back = Annotated[
    str | None,
    typer.Option(
        help="Which to go back to.", show_default="the one before, or the champion without canary"
    ),
]


@app.command()
def rollback(
    data: DataName = None,
    runs: Runs = Path("runs"),
    version: Back = None,
    namespace: Namespace = "",
    tracking_uri: Registry = "",
) -> None:
    """Let an earlier version serve again, and be the champion that runs are compared with. A canary
    ends.

    With --namespace on a cluster: Triton loads it where it has not, the routers switch.
    """
    from pipelines.runs_folder import serving
    from serving.cluster.rollout import let_serve
    from serving.triton import store as packages
    from serving.triton.refreshed import version_before
    from serving.triton.served import Served

    registry, store = _registry(runs, namespace, tracking_uri), serving(runs, data)
    served = packages.served(store)
    if served.canary and version is None:
        let_serve(store, Served(served.champion), namespace)
        print(f"canary {served.canary} ended; version {served.champion} serves, from {store}")
        return
    _crown(runs, store, version or version_before(store), registry, namespace)


@app.command()
def canary(
    version: Annotated[str, typer.Argument(help="An installed version that passed the gate.")],
    share: Annotated[
        float, typer.Option(help="Of the users, and of requests that name none; 0.05 is 5 %.")
    ] = 0.05,
    data: DataName = None,
    runs: Runs = Path("runs"),
    namespace: Namespace = "",
    tracking_uri: Registry = "",
) -> None:
    """Let a version serve a share of the users beside the champion: the same users every time.

    `mtmh promote` makes it the champion, `mtmh rollback` ends it.
    """
    from pipelines.runs_folder import serving
    from serving.cluster.rollout import let_serve
    from serving.triton import store as packages
    from serving.triton.served import Served

    registry, store = _registry(runs, namespace, tracking_uri), serving(runs, data)
    _passed(store, version, registry)
    champion = packages.champion(store)
    if version == champion:
        raise UserError(f"version {version} is the champion: all users have it.")
    let_serve(store, Served(champion, version, share), namespace)
    print(f"version {version} serves {share:.4g} of the users, version {champion} the others")


@app.command()
def promote(
    data: DataName = None,
    runs: Runs = Path("runs"),
    namespace: Namespace = "",
    tracking_uri: Registry = "",
) -> None:
    """Let the canary serve all users, and be the champion that runs are compared with."""
    from pipelines.runs_folder import serving
    from serving.triton import store as packages

    registry, store = _registry(runs, namespace, tracking_uri), serving(runs, data)
    if not (number := packages.served(store).canary):
        raise UserError(f"{store} has no canary to promote: begin one with mtmh canary VERSION.")
    _crown(runs, store, number, registry, namespace)


def _crown(runs: Path, store: Path, version: str, registry: str, namespace: str) -> None:
    """As a run's deploy: first what serves, then what the next run is compared with."""
    from components.registry import make_champion
    from pipelines.runs_folder import point
    from serving.cluster.rollout import let_serve
    from serving.triton.served import Served

    run, registered = _passed(store, version, registry)
    let_serve(store, Served(version), namespace)
    make_champion(registry, f"mtmh-{store.name}", registered)
    if not namespace and (run / "retriever").is_dir():
        point(runs / "champions" / store.name, run / "retriever")
    print(f"version {version} is the champion, served from {store}")


def _passed(store: Path, version: str, registry: str) -> tuple[Path, str]:
    """The run of an installed version, and its number in the registry. Raises UserError when it is
    not installed, or did not pass the gate.
    """
    from components.registry import passed_run
    from serving.triton import store as packages
    from serving.triton.store import trained

    if version not in packages.versions(store):
        installed = ", ".join(packages.versions(store)) or "none"
        raise UserError(f"{store} has no version {version}: there is {installed}.")
    # A refresh is registered as the version that it was made from.
    model_name, registered = f"mtmh-{store.name}", str(trained(version))
    if (run := passed_run(registry, model_name, registered)) is None:
        raise UserError(
            f"{model_name} has no version {registered} that passed the gate: runs cannot be"
            " compared with it. Only --promote of mtmh package lets such a version serve."
        )
    return run, registered


def _registry(runs: Path, namespace: str, tracking_uri: str) -> str:
    """MLflow's address: of the runs here, or as given. Raises UserError where there is none."""
    from pipelines.local import tracking_uri as of_runs

    if tracking_uri:
        return tracking_uri
    if namespace:
        raise UserError(
            "--namespace needs --tracking-uri, the MLflow server whose alias `champion` moves too."
        )
    if not (runs / "mlflow.db").exists():
        raise UserError(f"{runs} has no mlflow.db: name the folder of the runs with --runs.")
    return of_runs(runs)
