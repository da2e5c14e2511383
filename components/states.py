"""What became of a run's steps, for the one that ends it.

Kubeflow tells an exit handler that the run failed, and hardly where or why. On a cluster every step
keeps its own state on the volume, a small file a step; what began and never ended was killed.
"""

import json
import os
import shutil
from pathlib import Path

FOLDER = (
    "MTMH_STATES"  # variable: the folder of all runs' states; nothing is kept where it is unset
)
RUN = "MTMH_KUBEFLOW_RUN"  # variable: the run's id, from the pod's label
GOOD = ("SUCCEEDED", "COMPLETE")  # what Kubeflow calls a run that ended well
KILLED = (
    "began and did not end: its pod was killed. Kubeflow's page has the pod's last state:"
    " OOMKilled asks for more cluster.steps.{step}.memory, DeadlineExceeded for a longer"
    " cluster.steps.{step}.deadline, Evicted for a node with more disk."
)


def keep(step: str, state: str, message: str = "") -> None:
    """Write that `step` is `running`, `done` or `failed`; of two tries the later one counts."""
    folder, run = os.environ.get(FOLDER), os.environ.get(RUN)
    if not (folder and run):
        return
    path = Path(folder) / run / f"{step}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".unfinished")
    draft.write_text(json.dumps({"state": state, "message": message}))
    draft.replace(path)


def explain(run_id: str, folder: Path | None, state: str, error: str | None) -> str:
    """How a run ended, for people, in Markdown: what its steps left in `folder`, else Kubeflow's
    own `state` and `error`."""
    files = sorted(folder.glob("*.json")) if folder and folder.is_dir() else []
    states = {path.stem: json.loads(path.read_text()) for path in files}
    lines = []
    for step, result in states.items():
        if result["state"] == "failed":
            lines.append(f"* step **{step}** failed: {result['message']}")
        elif result["state"] == "running":
            lines.append(f"* step **{step}** {KILLED.format(step=step)}")
    if not lines and state in GOOD:
        return f"Run {run_id} ended well."
    if not lines:
        words = error or "no step says why: it may never have started (see its pod's events)"
        lines.append(f"* Kubeflow calls it {state}: {words}")
    advice = (
        "Mend it and submit again (`mtmh submit`, or Clone on the run's page): what is done comes"
        " from the cache, training goes on from its checkpoint."
    )
    return "\n".join([f"Run {run_id} failed.", "", *lines, "", advice])


def forget(folder: Path) -> None:
    """Remove what the steps of a run left in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
