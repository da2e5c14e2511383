"""Step register: the run and its retriever, kept by MLflow. Never cached."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    run: dsl.Input[dsl.Artifact],
    model_name: str,
    tracking_uri: str,
    artifacts: str,
    run_id: str,
) -> str:
    """Log the run under its id and register its retriever as a version, tagged with the gate's
    verdict; the alias `champion` stays where it is.

    Returns the version's number.
    """
    from pathlib import Path

    from components.step import running

    with running("register"):
        from components.tracking import register_run

        return register_run(Path(run.path), model_name, tracking_uri, artifacts, run_id)
