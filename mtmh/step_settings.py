"""What each step of the pipelines asks of a cluster, how often it is tried, and how long it may
take: the table `cluster.steps` of a configuration.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

CPU = re.compile(r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?")
MEMORY = re.compile(r"[1-9][0-9]*([KMGTP]i|[MGTP])")
USES_A_GPU = ("content", "train", "preranker", "evaluate")


def _check_cpu(text: str) -> str:
    # KFP would take more, and the pod would be refused in the cluster.
    if not CPU.fullmatch(text) or float(text.removesuffix("m")) == 0:
        raise ValueError(f"{text!r} is no number of CPUs; write, say, 4, 0.5 or 500m.")
    return text


def _check_memory(text: str) -> str:
    if not MEMORY.fullmatch(text):
        raise ValueError(
            f"{text!r} is no amount of memory as Kubernetes takes it; write a whole number with"
            " Mi, Gi, Ti (or M, G, T), such as 64Gi."
        )
    return text


def _check_gpus(number: int) -> int:
    if number > 1:
        raise ValueError(
            f"a step uses one GPU, so of {number} the others would be reserved and idle; write 1."
        )
    return number


def _as_text(value: Any) -> Any:
    """YAML reads 4 as a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


class StepSettings(BaseModel):
    """The pod of a step. Both amounts are kept free for it; `memory` is also the most that it gets,
    while a CPU that nobody else uses is its own too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_cpu)] = "100m"
    memory: Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_memory)] = "1Gi"
    gpus: Annotated[int, Field(ge=0), AfterValidator(_check_gpus)] = 0
    retries: Annotated[int, Field(ge=0, le=10)] = 0  # after a failure
    deadline: Annotated[int, Field(ge=1)] = 3600  # seconds on its node, a try
    tolerate: list[str] = []  # keys of taints with effect NoSchedule
    node_labels: dict[str, str] = {}


DEFAULTS = {
    "identify": StepSettings(),
    "prepare": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=14_400),
    "content": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=86_400),
    "features": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=14_400),
    "pairs": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=14_400),
    "train": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=86_400),
    "preranker": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=86_400),
    "index": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=14_400),
    "champion": StepSettings(),
    "evaluate": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=86_400),
    "gate": StepSettings(),
    "report": StepSettings(memory="2Gi"),
    "register": StepSettings(memory="2Gi"),
    "histories": StepSettings(cpu="500m", memory="2Gi", retries=2, deadline=14_400),
    "package": StepSettings(memory="2Gi"),
    "deploy": StepSettings(deadline=14_400),  # two rolls of Triton, there and back
    "finish": StepSettings(),
    "monitor": StepSettings(memory="2Gi"),
    "retrain": StepSettings(memory="2Gi"),
}


def _over_the_defaults(given: Any) -> Any:
    """Every step's line: one that is written in part keeps the rest of its step's defaults."""
    if not isinstance(given, Mapping):
        return given
    if unknown := [name for name in given if name not in DEFAULTS]:
        raise ValueError(
            f"no such step: {', '.join(map(str, unknown))}. The steps are {', '.join(DEFAULTS)}."
        )
    lines: dict[str, Any] = dict(DEFAULTS)
    for name, line in given.items():
        if isinstance(line, Mapping):
            line = DEFAULTS[name].model_dump() | dict(line)
        lines[name] = line
    return lines


def _check_who_has_a_gpu(steps: dict[str, StepSettings]) -> dict[str, StepSettings]:
    if idle := [name for name, line in steps.items() if line.gpus and name not in USES_A_GPU]:
        raise ValueError(
            f"{', '.join(idle)} would have a GPU and not use it; those that do are"
            f" {', '.join(USES_A_GPU)}. Write gpus: 0."
        )
    return steps


# A line a step. What is tried again is what changes nothing outside of the run: train goes on from
# its checkpoint, content from its cache, the others begin anew.
StepTable = Annotated[
    dict[str, StepSettings],
    BeforeValidator(_over_the_defaults),
    AfterValidator(_check_who_has_a_gpu),
]
