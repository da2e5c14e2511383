"""The environment of a program of this project; importing a package leaves it alone."""

import os

SPIN_COUNT = "1000"


def set_environment() -> None:
    """Set what this process and those that it starts need, before torch,
    Evidently or MLflow is imported.

    Called where a program starts: the command line, a step of the pipeline, a server. OpenMP's
    threads wait for each other by spinning, without end by default. Beside other busy processes on
    two cores a preranker's training took 43 s of CPU with 20,000 turns and 10 s with 1,000, with
    bit-equal weights; the heads' training took the same with both. A GOMP_SPINCOUNT that is set
    already stays. Evidently and MLflow send no telemetry.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    os.environ.update(DO_NOT_TRACK="true", MLFLOW_DISABLE_TELEMETRY="true")
