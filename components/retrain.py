"""Step retrain: the main pipeline, on what is known by now. Never cached. Runs on clusters
alone.
"""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def retrain(
    place: str, out: str, day: str, data: str, command: str, submission: str, bounds: str
) -> None:
    """Write history and log up to `day` (empty: yesterday) as the data set `data`, and start a run
    over it.

    `submission` names the compiled pipeline on its server (components/submission.py, as JSON),
    `command` the words of `mtmh` that would do the same, a JSON list for the note. `bounds` is a
    file, empty for the project's own: a run that was raised within its `pause_days` is not raised
    again.
    """
    from pathlib import Path

    from components.step import running

    with running("retrain"):
        import json
        from datetime import UTC, date, datetime, timedelta

        from components.submission import Submission, submit
        from monitoring.evidently.bounds import DEFAULT, read_bounds
        from monitoring.retraining import retrain
        from mtmh.experiment.folder import open_experiment

        until = date.fromisoformat(day) if day else (datetime.now(UTC) - timedelta(days=1)).date()
        limits = read_bounds(Path(bounds) if bounds else DEFAULT)
        server = Submission(**json.loads(submission))

        def start(written: Path) -> None:
            print(f"run {submit(server, str(written))} on {server.host}")

        if not retrain(
            open_experiment(Path(place)),
            until,
            Path(data),
            Path(out),
            json.loads(command),
            limits,
            start,
        ):
            print("a retraining run was raised not long ago: not again")
