"""Step prepare: the data contract and the time split."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    source: str,
    fingerprint: str,
    settings: str,
    seed: int,
    code_version: str,
    prepared: dsl.Output[dsl.Dataset],
) -> None:
    """Check and split the data at `source`; `fingerprint` makes changed data miss the cache."""
    from pathlib import Path

    from components.step import running

    out = Path(prepared.path)
    with running("prepare", out):
        from mtmh.config import DataSettings
        from mtmh.data.prepare import prepare

        prepare(source, out, DataSettings.model_validate_json(settings), seed)
