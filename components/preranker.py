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
        from mtmh.config import PrerankSettings
        from mtmh.training.preranker import train_preranker

        train_preranker(
            Path(prepared.path),
            Path(features.path),
            Path(content.path),
            out,
            PrerankSettings.model_validate_json(settings),
            seed,
        )
