"""Step histories: what serving knows of the users. Never cached: it fills the store that serves."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def histories(
    prepared: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    version: str,
    model_name: str,
    shared_tables: str,
    histories: dsl.Output[dsl.Artifact],
) -> None:
    """Load the users' histories as of the log's newest event into the online store, under a Feast
    project of this version (feature_repo/histories.py).

    Where FEAST_REGISTRY names a registry in SQL, these tables and those that training read are
    registered there, too, for other readers: copied to the folder `shared_tables`, under the
    project of the data.
    """
    from pathlib import Path

    from components.step import running

    out = Path(histories.path)
    with running("histories", out):
        import os

        from feature_repo.histories import build_histories
        from feature_repo.project import project_of

        build_histories(Path(prepared.path), out, project_of(model_name, version))
        if registry := os.environ.get("FEAST_REGISTRY"):
            from feature_repo.shared import share

            statistics = Path(features.path) / "sources" / "item_statistics.parquet"
            tables = (statistics, out / "user_history.parquet")
            share(registry, project_of(model_name), tables, Path(shared_tables))
