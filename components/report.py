"""Step report: the run directory, whole or not at all. Never cached: it is this run's."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    prepared: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    pairs: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    preranker: dsl.Input[dsl.Model],
    retriever: dsl.Input[dsl.Model],
    result: dsl.Input[dsl.Dataset],
    verdict: dsl.Input[dsl.Artifact],
    config: str,
    source: str,
    seed: int,
    code_version: str,
    runs: str,
    run_id: str,
    run: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Assemble `runs/run_id` and write its report.html; where `runs` is empty, as on a cluster, the
    artifact's own folder, which Kubeflow uploads. `page` is that report for Kubeflow's page.
    """
    import shutil
    from pathlib import Path

    from components.step import running

    with running("report"):
        from components.writers import folders_of
        from mtmh.config import Config
        from mtmh.evaluation.run_directory import write as write_run
        from mtmh.report.report import write as write_report

        final = Path(runs) / run_id if runs else Path(run.path)
        draft = final.with_name(f".{final.name}.unfinished")
        folders = folders_of(
            prepared=prepared, content=content, features=features, pairs=pairs, model=model,
            preranker=preranker, retriever=retriever, result=result, verdict=verdict,
        )  # fmt: skip
        write_run(draft, folders, Config.model_validate_json(config), code_version, seed, source)
        write_report(draft)
        draft.rename(final)
        shutil.copyfile(final / "report.html", page.path)
        # On a cluster the URI is Kubeflow's: steps that read an artifact outside of its buckets
        # never start.
        if runs:
            run.uri = str(final)
