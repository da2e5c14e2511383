"""Step pairs: co-engagement pairs from the interaction histories."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pairs(
    prepared: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    settings: str,
    code_version: str,
    pairs: dsl.Output[dsl.Dataset],
) -> None:
    """Mine weighted (trigger, candidate) pairs (paper section 2)."""
    from pathlib import Path

    from components.step import running

    out = Path(pairs.path)
    with running("pairs", out):
        from mtmh.config import PairSettings
        from mtmh.data.pairs import write_pairs

        write_pairs(Path(prepared.path), Path(content.path), out, PairSettings.model_validate_json(settings))
