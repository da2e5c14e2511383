"""The command line. It sits on top of all rooms, imports them when a command needs them, and nothing imports it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mtmh.errors import UserError

app = typer.Typer(
    help="Item-to-item retrieval that is both engaging and relevant: from an interaction log to a gated retriever.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(help="Look at a data set.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Runs = Annotated[Path, typer.Option(help="Folder of the runs, of MLflow's database and of the steps' cache.")]
Data = Annotated[str, typer.Option(help="Folder with the data, in the contract's or a public form, or 'synthetic'.")]
Size = Annotated[str, typer.Option(help="laptop, gpu or paper: a file of pipelines/configs.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file, over that of the size.")]
RouterFile = Annotated[Path | None, typer.Option("--config", help="The router's settings, over its defaults.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be given many times.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]


@app.command()
def run(
    data: Data = "synthetic",
    size: Size = "laptop",
    config: ConfigFile = None,
    settings: Settings = None,
    seed: Seed = None,
    runs: Runs = Path("runs"),
) -> None:
    """Run the whole pipeline: prepare, train, index, evaluate, gate, report, register, package, deploy."""
    from mtmh.config import load_config
    from pipelines import local
    from pipelines.arguments import layers
    from pipelines.summary import announce, summarize

    files = layers(data, size, config)
    chosen = load_config(*files, settings=_with_seed(settings, seed))
    announce(data, files)
    try:
        finished = local.run(data, chosen, runs)
    except local.StepError as error:
        print(f"mtmh: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    summarize(finished, runs)


def _with_seed(settings: list[str] | None, seed: int | None) -> list[str]:
    return [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]


@app.command(name="compile")
def compile_(
    out: Annotated[Path, typer.Argument(help="Where to write the YAML.")],
    data: Data = "synthetic",
    size: Size = "laptop",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Write the pipeline as Kubeflow's IR YAML, with these settings as defaults."""
    from mtmh.config import load_config
    from pipelines.arguments import layers
    from pipelines.compile import compile_pipeline

    compile_pipeline(out, load_config(*layers(data, size, config), settings=settings))
    print(f"wrote {out}")


@app.command()
def submit(
    host: Annotated[str, typer.Argument(help="URL of the Kubeflow Pipelines server.")],
    tracking_uri: Annotated[str, typer.Option(help="MLflow server, as the steps reach it.")],
    data: Data = "synthetic",
    size: Size = "gpu",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Start the pipeline on a Kubeflow Pipelines server."""
    from mtmh.config import load_config
    from pipelines.arguments import layers
    from pipelines.submit import submit as start

    chosen = load_config(*layers(data, size, config), settings=settings)
    print(f"run {start(host, data, chosen, tracking_uri)}")


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder to read, in the contract's or a public form.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the contract's Parquet files to.")],
    max_rejected_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of bad rows to put up with.")
    ] = 0.01,
) -> None:
    """Turn public data (MIND, MovieLens, Amazon, KuaiRand, Yelp) into the data contract's Parquet files."""
    from mtmh.data.importers import write_contract

    for name, rows in write_contract(source, out, max_rejected_share).items():
        print(f"{name}: {rows:,} rows -> {out / name}.parquet")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Folder with the data.")],
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Check data against the contract, split it as a run would, and say what was found."""
    import tempfile

    from mtmh.config import load_config
    from mtmh.data.prepare import prepare
    from pipelines.arguments import layers

    chosen = load_config(*layers(str(data), "laptop", config), settings=settings)
    with tempfile.TemporaryDirectory() as out:
        try:
            prepare(str(data), Path(out) / "prepared", chosen.data, chosen.seed)
        except UserError as error:
            raise UserError(_kept(str(error), Path(out) / "prepared" / "rejected.parquet")) from None
    print(f"{data} keeps the contract")


@data_app.command()
def describe(
    folder: Annotated[Path, typer.Argument(help="Folder with the data.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say what a data set holds, and what it lacks for this method."""
    import json
    from contextlib import redirect_stdout

    from mtmh.config import load_config
    from mtmh.data.describe import describe as figures
    from mtmh.data.findings import findings
    from pipelines import description
    from pipelines.arguments import layers

    settings = load_config(*layers(str(folder), "laptop", None)).data
    with redirect_stdout(sys.stderr if as_json else sys.stdout):  # what the readers say is no JSON
        found = figures(folder, settings)
    means = findings(found, settings)
    if as_json:
        print(json.dumps(description.as_json(found, means), indent=2))
    else:
        description.show_description(found, means)


def _kept(message: str, rejected: Path) -> str:
    """Rejected rows outlive the temporary folder: they move into the current one, and the message says so."""
    if not rejected.exists():
        return message
    import shutil

    kept = Path("rejected.parquet").resolve()
    shutil.move(rejected, kept)
    return message.replace(str(rejected), str(kept))


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to write the contract's Parquet files to.")],
    users: Annotated[int, typer.Option(min=1)] = 1500,
    items: Annotated[int, typer.Option(min=1)] = 1400,
    days: Annotated[int, typer.Option(min=1)] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a synthetic world as contract Parquet."""
    from mtmh.data.files import write_parquet
    from mtmh.data.synthetic import make_world

    for name, table in make_world(users, items, days, seed).tables.items():
        write_parquet(table, out / f"{name}.parquet")
        print(f"{name}: {table.num_rows:,} rows -> {out / name}.parquet")


@app.command()
def tune(
    data: Data,
    size: Size = "laptop",
    config: ConfigFile = None,
    settings: Settings = None,
    seed: Seed = None,
    runs: Runs = Path("runs"),
) -> None:
    """Choose the teacher's temperature and w_r for a data set on T1's tail; runs over it use them from then on."""
    from mtmh.config import load_config
    from pipelines.arguments import layers
    from pipelines.summary import announce
    from pipelines.trial import scratch
    from pipelines.tune import tune as choose
    from pipelines.tune import write_overlay

    files = layers(data, size, config)
    chosen = load_config(*files, settings=_with_seed(settings, seed))
    announce(data, files)
    print(f"wrote {write_overlay(choose(data, chosen, scratch(data, runs)))}")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="training, merge, quality, ablation, sweep: a file of benchmarks/.")],
) -> None:
    """Measure this machine; the result goes to benchmarks/results/NAME.json."""
    import importlib

    from pipelines.arguments import ROOT

    known = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main(" in path.read_text()}
    if name not in known:
        raise UserError(f"no benchmark {name!r}. Known: {', '.join(sorted(known)) or 'none, outside of a checkout'}.")
    sys.path.insert(0, str(ROOT))  # benchmarks are part of the checkout, not of the installed package
    importlib.import_module(f"benchmarks.{name}").main()


Run = Annotated[Path, typer.Argument(help="A run, such as runs/latest, or a retriever directory.")]
Alpha = Annotated[
    int | None, typer.Option(min=0, max=100, help="Percent from the engagement head.", show_default="the run's")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")]
Count = Annotated[int, typer.Option("-k", "--count", min=1, help="How many candidates to show.")]


@app.command()
def similar(
    run: Run,
    item: Annotated[str, typer.Argument(help="item_id of the trigger.")],
    alpha: Alpha = None,
    count: Count = 10,
) -> None:
    """Show the candidates for an item: of each head, and merged."""
    from mtmh.retrieval import ask
    from pipelines.summary import show_candidates

    retriever = ask.load(run)
    quota = ask.retrieval_settings(run).alpha if alpha is None else alpha
    print(ask.describe(retriever, item))
    for name, found in ask.similar(retriever, item, count, quota).items():
        show_candidates(f"{name}, alpha {quota}" if name == "merged" else f"{name} head", found)


@app.command()
def recommend(
    run: Run,
    user: Annotated[str | None, typer.Argument(help="user_id of a test user of the run.")] = None,
    history: Annotated[str | None, typer.Option(help="Instead of a user: item_ids engaged with, A,B,C.")] = None,
    alpha: Alpha = None,
    count: Count = 10,
) -> None:
    """Show what a user would get: a test user's list as evaluated, or a list for any history."""
    from mtmh.retrieval import ask
    from pipelines.summary import show_candidates

    if (user is None) == (history is None):
        raise UserError("give a user or a history: mtmh recommend RUN USER, or mtmh recommend RUN --history A,B.")
    settings = ask.retrieval_settings(run)
    quota = settings.alpha if alpha is None else alpha
    if user is not None:
        found = ask.evaluated(run, user, count, quota)
    else:
        found = ask.recommend(ask.load(run), (history or "").split(","), count, quota, settings)
    show_candidates(f"{user or 'this history'}, alpha {quota}", found, with_trigger=True)


@app.command()
def ui(runs: Runs = Path("runs"), port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Open MLflow's page over the runs, on this machine only."""
    from pipelines.local import tracking_uri

    if not (runs / "mlflow.db").exists():
        raise UserError(f"{runs} has no mlflow.db: do a run first (mtmh run), or name its folder with --runs.")
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    place = ["--backend-store-uri", tracking_uri(runs), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *place])


log_app = typer.Typer(help="Look after the router's log of exposures and engagements.", no_args_is_help=True)
app.add_typer(log_app, name="log")


@log_app.command()
def compact(
    directory: Annotated[Path, typer.Argument(help="The log's folder: log.directory of the router.")],
    out: Annotated[Path, typer.Argument(help="Folder of the Parquet tables; rows are added to what is there.")],
) -> None:
    """Turn the finished segments of the log into Parquet, each record exactly once. Safe to kill and to run again."""
    from mtmh.experiment.compact import compact as compact_log

    try:
        done = compact_log(directory, out)
    except OSError as error:  # such as a full disk
        raise UserError(f"stopped by {error}. Nothing is lost: mend that, and run it again.") from None
    print(f"{done.segments:,} segments: {done.exposures:,} exposures, {done.engagements:,} engagements -> {out}")
    if done.rejected:
        print(f"{done.rejected:,} pieces that could not be read, with reasons -> {out / 'rejected'}")


@app.command()
def package(
    run: Run,
    version: Annotated[str, typer.Option(help="Number of the version, as in the registry.")],
    store: Annotated[Path, typer.Option(help="Folder of the deployed versions, such as runs/serving/synthetic.")],
    features: Annotated[
        Path | None, typer.Option(help="Folder with the feature store's registry.db and online.db.")
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Let this version serve from now on.")] = False,
) -> None:
    """Package a run's retriever for Triton and the router, and install it into a store. The pipeline does it itself."""
    import tempfile

    from serving.triton import store as packages
    from serving.triton.export import write_package

    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=store) as folder:  # there, so that it can be hard links
        packages.install(write_package(run, version, Path(folder) / version, features), store)
    if promote:
        packages.promote(store, version)
    print(f"version {version} is in {store}{', and serves' if promote else ''}")


@app.command()
def serve(
    data: Annotated[str | None, typer.Option(help="Whose champion to serve.", show_default="the latest run's")] = None,
    runs: Runs = Path("runs"),
    config: RouterFile = None,
    settings: Settings = None,
    port: Port = 8080,
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
) -> None:
    """Serve the champion until Ctrl-C: the router on `port` (gRPC one above), Triton behind it on the three others.

    Exposures and engagements go to the folder `log` beside the served versions.
    """
    from pipelines.store import serving
    from serving.router.settings import Source
    from serving.serve import serve as start
    from serving.triton.supervisor import Ports

    store = serving(runs, data)
    places = [f"listen.port={port}", f"listen.grpc_port={port + 1}", f"log.directory={store.resolve() / 'log'}"]
    start(store, Ports(http_port, grpc_port, metrics_port), Source(config, [*places, *(settings or [])]))


@app.command()
def route(config: RouterFile = None, settings: Settings = None) -> None:
    """Run the router alone, in front of a Triton that runs elsewhere (serving/router/router.yaml has its settings)."""
    from serving.router.app import serve as start
    from serving.router.settings import Source

    start(Source(config, settings or []))


def main() -> None:
    """Entry point: a UserError is one message and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"mtmh: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mtmh: interrupted. Finished steps are kept: the same command goes on from there.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
