"""Step finish: how the run ended, said once. Kubeflow runs it whatever became of the others."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    status: dsl.PipelineTaskFinalStatus,
    run_id: str,
    states: str,
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Say what failed, why, and what to do, in the log and on the run's page. `states` is where the
    steps kept theirs (components/states.py); empty where they share no volume.
    """
    from pathlib import Path

    from components.step import running

    with running("finish"):
        from components.states import explain, forget

        folder = Path(states) / run_id if states else None
        text = explain(run_id, folder, status.state, status.error_message)
        print(text)
        Path(summary.path).write_text(text + "\n")
        if folder:
            forget(folder)
