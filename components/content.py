"""Step content: vectors of the items' text and images, by an encoder trained on concepts where
there are any.
"""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def content(
    prepared: dsl.Input[dsl.Dataset],
    settings: str,
    seed: int,
    scratch: str,
    code_version: str,
    content: dsl.Output[dsl.Dataset],
) -> None:
    """Train the encoder and encode the items; backbone vectors seen before come from the cache
    under `scratch`.
    """
    from pathlib import Path

    from components.step import running

    out = Path(content.path)
    with running("content", out):
        from components.writers import folders_of, write_content
        from mtmh.config import ContentSettings
        from mtmh.scratch import scratch_folder

        folders = folders_of(prepared=prepared)
        chosen = ContentSettings.model_validate_json(settings)
        with scratch_folder(f"{scratch}/content") as cache:
            write_content(folders, out, chosen, seed, cache)
