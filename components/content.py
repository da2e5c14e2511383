"""Step content: frozen text embeddings of the items."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def content(
    prepared: dsl.Input[dsl.Dataset],
    settings: str,
    scratch: str,
    code_version: str,
    content: dsl.Output[dsl.Dataset],
) -> None:
    """Encode the items' text; texts seen before come from the cache under `scratch`."""
    from pathlib import Path

    from components.step import running

    out = Path(content.path)
    with running("content", out):
        from mtmh.config import ContentSettings
        from mtmh.content.encode import encode

        encode(Path(prepared.path), out, ContentSettings.model_validate_json(settings), Path(scratch) / "content")
