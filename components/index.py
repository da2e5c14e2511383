"""Step index: one searchable version of model and indexes."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def index(
    prepared: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    preranker: dsl.Input[dsl.Model],
    settings: str,
    seed: int,
    code_version: str,
    retriever: dsl.Output[dsl.Model],
) -> None:
    """Build the retriever directory: weights, an index per head, preranker, item table,
    manifest.
    """
    from pathlib import Path

    from components.step import running

    out = Path(retriever.path)
    with running("index", out):
        from components.writers import folders_of, write_retriever
        from mtmh.config import RetrievalSettings

        folders = folders_of(
            prepared=prepared, features=features, content=content, model=model, preranker=preranker
        )
        write_retriever(folders, out, RetrievalSettings.model_validate_json(settings), seed, out)
