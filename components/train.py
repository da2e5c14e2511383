"""Step train: both heads."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    prepared: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    content: dsl.Input[dsl.Dataset],
    pairs: dsl.Input[dsl.Dataset],
    settings: str,
    seed: int,
    scratch: str,
    code_version: str,
    model: dsl.Output[dsl.Model],
) -> None:
    """Fit the model; a run that was cut short goes on from its last checkpoint under `scratch`."""
    from pathlib import Path

    from components.step import running

    out = Path(model.path)
    with running("train", out):
        from components.writers import folders_of, write_model
        from mtmh.config import TrainSettings
        from mtmh.scratch import scratch_folder

        folders = folders_of(prepared=prepared, features=features, content=content, pairs=pairs)
        chosen = TrainSettings.model_validate_json(settings)
        # Never mix two versions of the code.
        with scratch_folder(f"{scratch}/checkpoints/{code_version}") as checkpoints:
            write_model(folders, out, chosen, seed, checkpoints)
