"""Prompted items and sequences against their equations, written out in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_batch import some_batch

from mtmh.data.cluster_sequences import SequenceBatch
from mtmh.model.prompted import PromptedItems, prompted_loss
from mtmh.model.prompted_sequence import PromptedSequence
from mtmh.model.two_heads import TwoHeads
from mtmh.training.prompted_sequence import sequence_loss

TAU = 0.13


def items_model(clusters: int = 3) -> PromptedItems:
    """A prompted model in float64 with prompts off 1; 15 items with one id and two floats."""
    torch.manual_seed(0)
    mean, deviation = torch.zeros(2), torch.ones(2)
    heads = TwoHeads([16], [4], mean, deviation, [6], 5, ("engagement",))
    model = PromptedItems(heads, clusters).double()
    torch.nn.init.uniform_(model.prompts, 0.5, 1.5)
    return model


def vector(model: PromptedItems, bottom: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """normalize(head(bottom * prompt)), with the head's layers one after the other."""
    w = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    head = "items.heads.engagement"
    x = bottom * prompt
    hidden = np.maximum(w[f"{head}.mlp.0.weight"] @ x + w[f"{head}.mlp.0.bias"], 0)
    out = w[f"{head}.mlp.2.weight"] @ hidden + w[f"{head}.mlp.2.bias"]
    out = out + w[f"{head}.linear.weight"] @ x
    unit: np.ndarray = out / np.linalg.norm(out)
    return unit


@pytest.mark.parametrize("logq", [True, False])
def test_prompted_loss_equals_the_equation(logq: bool) -> None:
    batch, model = some_batch(), items_model()
    cluster_of = torch.arange(15) % 3
    ids = batch.items[:, None] + 1
    floats = torch.randn(len(ids), 2, generator=torch.Generator().manual_seed(1)).double()
    vectors = model(ids, floats)
    loss, _ = prompted_loss(vectors, floats, batch, model, cluster_of, TAU, logq)
    bottom = vectors["bottom"].detach().numpy()
    prompts, ones = model.prompts.detach().numpy(), np.ones(bottom.shape[1])
    hits = set(zip(batch.hit_row.tolist(), batch.hit_column.tolist(), strict=True))
    exact = 0.0
    for i, (trigger, positive) in enumerate(zip(batch.trigger, batch.positive, strict=True)):
        prompt = prompts[int(cluster_of[batch.items[positive]])]
        e = vector(model, bottom[trigger], prompt)
        terms = []
        for column, log_count in enumerate(batch.log_count.tolist()):
            if (i, column) not in hits:
                s = float(e @ vector(model, bottom[column], ones)) / TAU
                s -= float(batch.log_q[column]) if logq else 0.0
                times = 1 if column == positive else round(math.exp(log_count))
                terms += [math.exp(s)] * times
                if column == positive:
                    of_positive = math.exp(s)
        exact -= float(batch.weight[i]) * math.log(of_positive / sum(terms))
    assert float(loss.detach()) == pytest.approx(exact / len(batch.trigger), rel=1e-6)


def test_prompts_begin_at_one_and_change_nothing_then() -> None:
    heads = TwoHeads([9], [4], torch.zeros(0), torch.ones(0), [6], 5, ("engagement",))
    model = PromptedItems(heads, 3)
    ids, floats = torch.arange(9)[:, None], torch.zeros(9, 0)
    bottom = model(ids, floats)["bottom"]
    plain = heads(ids, floats)["engagement"]
    for cluster in range(3):
        assert torch.equal(model.triggers(bottom, torch.full((9,), cluster)), plain)
    assert torch.equal(model.candidates(bottom), plain)


def test_only_the_prompt_of_the_positives_cluster_learns() -> None:
    batch, model = some_batch(), items_model()
    cluster_of = torch.full((15,), 1)
    vectors = model(batch.items[:, None] + 1, torch.zeros(len(batch.items), 2).double())
    loss, _ = prompted_loss(vectors, torch.zeros(1), batch, model, cluster_of, TAU, True)
    loss.backward()
    gradient = model.prompts.grad
    assert gradient is not None
    assert gradient.any(dim=1).tolist() == [False, True, False]


def test_two_heads_are_refused() -> None:
    heads = TwoHeads([9], [4], torch.zeros(0), torch.ones(0), [6], 5)
    with pytest.raises(ValueError, match="one head"):
        PromptedItems(heads, 3)


def sequence_model(**changes: Any) -> PromptedSequence:
    torch.manual_seed(0)
    shape = {"dim": 6, "length": 4, "layers": 1, "attention_heads": 1}
    model = PromptedSequence(9, 3, **{**shape, **changes}).double()
    torch.nn.init.uniform_(model.prompts, 0.5, 1.5)
    return model.eval()


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    scaled: np.ndarray = centred / deviation * weight + bias
    return scaled


def user_vector(model: PromptedSequence, past: list[int], cluster: int) -> np.ndarray:
    """The transformer of one user, one position at a time; `past` without padding."""
    w = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    positions = w["position"][-len(past) :]
    x = w["table.weight"][np.array(past) + 1] * w["prompts"][cluster] + positions
    b = "blocks.0"
    h = layer_norm(x, w[f"{b}.before_attention.weight"], w[f"{b}.before_attention.bias"])
    packed = h @ w[f"{b}.queries_keys_values.weight"].T + w[f"{b}.queries_keys_values.bias"]
    q, k, v = np.split(packed, 3, axis=1)
    mixed = np.zeros_like(v)
    for t in range(len(past)):  # causal: position t reads what is not after it
        weight = np.exp(k[: t + 1] @ q[t] / math.sqrt(q.shape[1]))
        mixed[t] = weight @ v[: t + 1] / weight.sum()
    x = x + mixed @ w[f"{b}.out.weight"].T + w[f"{b}.out.bias"]
    h = layer_norm(x, w[f"{b}.before_forward.weight"], w[f"{b}.before_forward.bias"])
    f = f"{b}.forward_layers"
    h = np.maximum(h @ w[f"{f}.0.weight"].T + w[f"{f}.0.bias"], 0)
    x = x + h @ w[f"{f}.2.weight"].T + w[f"{f}.2.bias"]
    out = layer_norm(x[-1], w["norm.weight"], w["norm.bias"])
    unit: np.ndarray = out / np.linalg.norm(out)
    return unit


@pytest.mark.parametrize("past", [[3], [1, 5], [2, 4, 6, 8]])
@pytest.mark.parametrize("cluster", [0, 2])
def test_a_user_vector_equals_the_transformer_written_out(past: list[int], cluster: int) -> None:
    model = sequence_model()
    padded = torch.tensor([[-1] * (4 - len(past)) + past])
    ours = model.users(padded, torch.tensor([cluster])).detach().numpy()[0]
    assert ours == pytest.approx(user_vector(model, past, cluster), rel=1e-8, abs=1e-10)


def test_sequence_loss_equals_the_equation() -> None:
    model = sequence_model(layers=1)
    batch = SequenceBatch(
        past=torch.tensor([[-1, -1, 0, 1], [2, 3, 4, 5]]),
        cluster=torch.tensor([1, 1]),
        columns=torch.tensor([6, 7, 8]),
        positive=torch.tensor([0, 1]),
        log_count=torch.tensor([0.0, 2.0, 3.0]).log().nan_to_num(neginf=0.0),
        log_q=torch.tensor([-1.0, -2.0, -3.0]),
        hit_row=torch.tensor([0]),
        hit_column=torch.tensor([1]),
    )
    table = model.candidates(torch.arange(9)).detach().numpy()
    pasts = ([0, 1], [2, 3, 4, 5])
    s = [[float(user_vector(model, past, 1) @ table[j]) / TAU for j in (6, 7, 8)] for past in pasts]
    e = np.exp(np.array(s) + np.array([1.0, 2.0, 3.0]))
    # Row 0: column 1 is a hit. Column 2 was drawn 3 times; row 1's positive counts once.
    exact = -math.log(e[0, 0] / (e[0, 0] + 3 * e[0, 2]))
    exact -= math.log(e[1, 1] / (e[1, 0] + e[1, 1] + 3 * e[1, 2]))
    loss = sequence_loss(model, batch, TAU, logq=True)
    assert float(loss.detach()) == pytest.approx(exact / 2, rel=1e-6)
