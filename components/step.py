"""How a step speaks to its runner: lines on standard output that mark start, end and a user's
mistake.

A step runs in a process of its own. The local runner (pipelines/local.py) turns these lines into
progress and into the one message for people; on a cluster they stand in the step's log.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from components.states import keep
from mtmh.clock import measured
from mtmh.disk import full_disk_explained
from mtmh.environment import set_environment
from mtmh.errors import UserError

MARK = "::mtmh"


@contextmanager
def running(step: str, out: Path | None = None) -> Iterator[None]:
    """Run the body of a step, measured into `out/step.json` when it has a directory of its own.

    Prints `::mtmh start STEP`, then `::mtmh end STEP` or, for a UserError, `::mtmh error STEP
    "message as JSON"`. A full disk is such an error.
    """
    set_environment()
    print(f"{MARK} start {step}", flush=True)
    keep(step, "running")
    with ExitStack() as stack:
        # Kubeflow's executor opens the root logger for information of every library; a step's log
        # is for its own lines.
        root = logging.getLogger()
        stack.callback(root.setLevel, root.level)
        root.setLevel(logging.WARNING)
        if out is not None:
            stack.enter_context(measured(step, out))
        try:
            with full_disk_explained(*([out] if out is not None else [])):
                yield
        except UserError as error:
            print(f"{MARK} error {step} {json.dumps(str(error))}", flush=True)
            keep(step, "failed", str(error))
            raise
        except Exception as error:
            keep(step, "failed", f"{type(error).__name__}: {error} (its log has the traceback)")
            raise
    keep(step, "done")
    print(f"{MARK} end {step}", flush=True)
