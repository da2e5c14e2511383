"""Step package: the registered version as Triton and the router take it. Never cached: its number
is this run's.
"""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def package(
    run: dsl.Input[dsl.Artifact],
    histories: dsl.Input[dsl.Artifact],
    version: str,
    model_name: str,
    tracking_uri: str,
    package: dsl.Output[dsl.Artifact],
) -> None:
    """Write the package of the run's retriever, with the registry of its users' histories."""
    from pathlib import Path

    from components.step import running

    with running("package"):
        from components.registry import logged_run
        from serving.triton.export import write_package

        mlflow = {"model_name": model_name, "run_id": logged_run(tracking_uri, model_name, version)}
        out = Path(package.path)
        write_package(Path(run.path), version, out, Path(histories.path), mlflow)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
        print(f"version {version}: {len(list((out / 'models').iterdir()))} models, {size:,.0f} MiB")
