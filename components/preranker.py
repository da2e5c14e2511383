"""Step preranker: users to items, to rank each head's candidates."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preranker(
    prepared: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    settings: str,
    seed: int,
    code_version: str,
    preranker: dsl.Output[dsl.Model],
) -> None:
    """Fit the preranker on T1; it needs neither pairs nor heads."""
    from pathlib import Path

    from components.step import running

    out = Path(preranker.path)
    with running("preranker", out):
        from components.writers import folders_of, write_preranker
        from mtmh.config import PrerankSettings

        folders = folders_of(prepared=prepared, features=features, content=content)
        write_preranker(folders, out, PrerankSettings.model_validate_json(settings), seed, out)
