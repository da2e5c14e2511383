"""Step monitor: one day of a watched place. Never cached: its log may still grow."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def monitor(place: str, out: str, day: str, bounds: str) -> bool:
    """Figures, snapshots and bounds of `day` (empty: yesterday, in UTC), into the folder `out`.

    `bounds` is a file, empty for the project's own. True when the day raises a retraining run.
    """
    from pathlib import Path

    from components.step import running

    with running("monitor"):
        from datetime import UTC, date, datetime, timedelta

        from monitoring.evidently.bounds import DEFAULT, read_bounds
        from monitoring.evidently.monitor import monitor
        from monitoring.retraining import due
        from mtmh.experiment.folder import open_experiment

        chosen = date.fromisoformat(day) if day else (datetime.now(UTC) - timedelta(days=1)).date()
        limits = read_bounds(Path(bounds) if bounds else DEFAULT)
        monitored = monitor(open_experiment(Path(place)), Path(out), limits, chosen, chosen)
        for line in monitored.summary():
            print(line)
        raised = due(monitored, Path(out), limits)
        if monitored.retrain and not raised:
            print("a retraining run was raised not long ago: not again")
        return raised
