"""Step features: what training reads of the feature store, as of the split."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def features(
    prepared: dsl.Input[dsl.Dataset],
    settings: str,
    code_version: str,
    features: dsl.Output[dsl.Dataset],
) -> None:
    """Item features as of the split, by Feast's point-in-time join; nothing goes online."""
    from pathlib import Path

    from components.step import running

    out = Path(features.path)
    with running("features", out):
        from components.writers import folders_of, write_features
        from mtmh.config import DataSettings

        folders = folders_of(prepared=prepared)
        write_features(folders, out, DataSettings.model_validate_json(settings), 0, out)
