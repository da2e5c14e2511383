"""Which version serves: back to an earlier one, on this machine or on a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import Runs, app

if TYPE_CHECKING:
    from collections.abc import Collection

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


@app.command()
def rollback(
    data: DataName = None,
    runs: Runs = Path("runs"),
    version: Annotated[
        str | None, typer.Option(help="Which to go back to.", show_default="the one before")
    ] = None,
    namespace: Namespace = "",
    tracking_uri: Registry = "",
) -> None:
    """Let an earlier version serve again, and be the champion that runs are compared with.

    With --namespace on a cluster: Triton loads it where it has not, the routers switch.
    """
    from components.registry import make_champion, passed_run
    from pipelines.runs_folder import point, serving
    from serving.triton import store as packages
    from serving.triton.refreshed import trained, version_before

    registry = _registry(runs, namespace, tracking_uri)
    store = serving(runs, data)
    number = version or version_before(store)
    if number not in packages.versions(store):
        raise UserError(
            f"{store} has no version {number}: there is {_listed(packages.versions(store))}."
        )
    # A refresh is registered as the version that it was made from.
    model_name, registered = f"mtmh-{store.name}", str(trained(number))
    if (run := passed_run(registry, model_name, registered)) is None:
        raise UserError(
            f"{model_name} has no version {registered} that passed the gate: runs cannot be"
            " compared with it. Only --promote of mtmh package lets such a version serve."
        )
    # In the order of a run's deploy: first what serves, then what the next run is compared with.
    _serve(store, number, namespace)
    make_champion(registry, model_name, registered)
    if not namespace and (run / "retriever").is_dir():
        point(runs / "champions" / store.name, run / "retriever")
    print(f"version {number} is the champion, served from {store}")


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


def _serve(store: Path, version: str, namespace: str) -> None:
    """Let the version serve: on a cluster, or here, where a running server takes it up."""
    from serving.cluster.pods import Cluster, RolloutError, connected
    from serving.cluster.rollout import roll_out
    from serving.triton import store as packages

    if not namespace:
        packages.promote(store, version)
        return
    try:
        roll_out(store, version, Cluster(connected(), namespace))
    except RolloutError as error:  # what serves was kept, as the message says
        raise UserError(str(error)) from None


def _listed(versions: "Collection[str]") -> str:
    return ", ".join(versions) or "none"
