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
        from components.writers import folders_of, write_pairs
        from mtmh.config import PairSettings

        folders = folders_of(prepared=prepared, content=content)
        write_pairs(folders, out, PairSettings.model_validate_json(settings), 0, out)
