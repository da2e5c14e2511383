"""Step features: what the feature store knows at the split time."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def features(
    prepared: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    settings: str,
    code_version: str,
    features: dsl.Output[dsl.Dataset],
) -> None:
    """Apply, materialize and read item features and user histories as of the split time (Feast)."""
    from pathlib import Path

    from components.step import running

    out = Path(features.path)
    with running("features", out):
        from components.writers import folders_of, write_features
        from mtmh.config import DataSettings

        folders = folders_of(prepared=prepared, content=content)
        write_features(folders, out, DataSettings.model_validate_json(settings), 0, out)
