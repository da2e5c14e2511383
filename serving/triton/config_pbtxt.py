"""config.pbtxt of the models of a version: names, shapes and types of all tensors, in one place."""

from collections.abc import Mapping

MAX_BATCH = 64  # requests that one call of a model answers
MAX_QUEUE = 4 * MAX_BATCH  # requests that wait for a head; more are refused at once
QUEUE_SECONDS = 10.0  # that one waits at the most; a caller that goes takes its request along
Tensors = Mapping[str, tuple[str, int]]  # name -> type and length; -1 where requests differ

HEAD_INPUTS: Tensors = {
    "trigger": ("TYPE_STRING", -1),
    "exclude": ("TYPE_STRING", -1),
    "k_ann": ("TYPE_INT32", 1),
    "id_features": ("TYPE_STRING", -1),
    "float_features": ("TYPE_FP32", -1),
    "content": ("TYPE_FP32", -1),
}


def head_outputs(candidates: int, triggers: int) -> Tensors:
    """What <channel>_<version> answers: its ranked list, and what the preranker must know."""
    ranked = _ranked(candidates)
    more: Tensors = {"similarity": ("TYPE_FP32", candidates), "history": ("TYPE_INT32", triggers)}
    return {**ranked, **more, "cold": ("TYPE_INT32", 1)}


def head_model(name: str, candidates: int, triggers: int) -> str:
    """config.pbtxt of <channel>_<version>. Requests of different length share a batch: the model
    reads them one by one.
    """
    outputs = head_outputs(candidates, triggers)
    return _python(name, HEAD_INPUTS, outputs, MAX_QUEUE, ragged=True)


def preranker_model(name: str, candidates: int, triggers: int, channels: int) -> str:
    """config.pbtxt of preranker_<version>. The requests of all `channels` come to it, so its queue
    has room for as many.
    """
    ranked = _ranked(candidates)
    inputs = {**ranked, "history": ("TYPE_INT32", triggers)}
    return _python(name, inputs, ranked, channels * MAX_QUEUE, ragged=False)


def ensemble(name: str, head: str, preranker: str | None, candidates: int) -> str:
    """config.pbtxt of retrieve_<channel>_<version>: the channel's head, then the preranker where
    the version has one.
    """
    ranked = _ranked(candidates)
    outputs: Tensors = {**ranked, "cold": ("TYPE_INT32", 1)}
    # Between the two models the head's outputs go by names of their own.
    renamed = {key: f"found_{key}" for key in (*ranked, "history")}
    names = renamed if preranker else {key: key for key in ranked}
    steps = [_step(head, {key: key for key in HEAD_INPUTS}, {**names, "cold": "cold"})]
    if preranker:
        steps.append(_step(preranker, names, {key: key for key in ranked}))
    return "\n".join(
        [
            f'name: "{name}"',
            'platform: "ensemble"',
            f"max_batch_size: {MAX_BATCH}",
            _tensors("input", HEAD_INPUTS),
            _tensors("output", outputs),
            "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}\n",
        ]
    )


def _ranked(candidates: int) -> Tensors:
    types = {"item": "TYPE_INT32", "score": "TYPE_FP32", "trigger_at": "TYPE_INT32"}
    return {name: (kind, candidates) for name, kind in types.items()}


def _python(name: str, inputs: Tensors, outputs: Tensors, queue: int, ragged: bool) -> str:
    """No device kind: Triton takes the GPU where its build has one, and the model reads which it
    was given. What waits is made a batch as soon as the model is free, with no delay for more.
    """
    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "python"',
            f"max_batch_size: {MAX_BATCH}",
            _tensors("input", inputs, " allow_ragged_batch: true" if ragged else ""),
            _tensors("output", outputs),
            "dynamic_batching {",
            "  default_queue_policy {",
            "    timeout_action: REJECT",
            f"    default_timeout_microseconds: {QUEUE_SECONDS * 1e6:.0f}",
            f"    max_queue_size: {queue}",
            "  }\n}\n",
        ]
    )


def _tensors(label: str, tensors: Tensors, more: str = "") -> str:
    rows = [
        f'  {{ name: "{name}" data_type: {kind} dims: [{n}]{more} }}'
        for name, (kind, n) in tensors.items()
    ]
    return f"{label} [\n" + ",\n".join(rows) + "\n]"


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    maps = [f'      input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
    maps += [
        f'      output_map {{ key: "{key}" value: "{value}" }}' for key, value in outputs.items()
    ]
    return (
        "    {\n"
        + f'      model_name: "{model}"\n      model_version: -1\n'
        + "\n".join(maps)
        + "\n    }"
    )
