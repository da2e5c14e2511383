"""What Triton answers is what the offline retriever answers."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from helpers.asking import Question, Serving, ask, assert_same, ids_of, offline
from helpers.small_version import CONTENT, ITEMS, RETRIEVAL
from tritonclient.utils import InferenceServerException

from mtmh.heads import HEADS
from mtmh.model.two_heads import load_model
from mtmh.retrieval.retriever import Retriever
from mtmh.retrieval.scoring import place_cold
from serving.triton.management import headers

RetrieverOf = Callable[[str], Retriever]
WIDTH = 150  # the preranker's candidates


@pytest.mark.parametrize("version", ["1", "3", "4"])
def test_pools_are_those_of_the_offline_retriever(
    serving: Serving, retriever_of: RetrieverOf, version: str
) -> None:
    """Random histories of 1 to 12 items, new ones among them, with items left out, at several
    depths.
    """
    serving.load(version)
    retriever, rng = retriever_of(version), np.random.default_rng(int(version))
    ids = ids_of(retriever)
    for trial in range(80):
        rows = rng.permutation(ITEMS)[: 1 if trial % 2 else rng.integers(2, 13)].astype(np.int32)
        seen = rng.permutation(ITEMS)[: rng.integers(0, 60)].astype(np.int32)
        k_ann = int(rng.choice([200, 60, 5]))
        question = Question(
            [ids[row] for row in rows], [*(ids[row] for row in seen), "never heard of"], k_ann
        )
        for head in retriever.indexes:
            item, score, trigger = offline(retriever, head, rows, seen, k_ann)
            answer = ask(serving.client, f"retrieve_{head}_{version}", question)
            assert_same(answer["item"], answer["score"], item, score)
            same = (answer["item"] == item) & (item >= 0)
            np.testing.assert_array_equal(rows[answer["trigger_at"][same]], trigger[same])
            assert (answer["trigger_at"][item < 0] == -1).all()
            assert answer["cold"] == 0
            assert not set(answer["item"].tolist()) & set(seen.tolist())


def test_one_triggers_list_is_what_the_index_finds(
    serving: Serving, retriever_of: RetrieverOf
) -> None:
    retriever = retriever_of("1")
    ids = ids_of(retriever)
    for row in np.random.default_rng(2).permutation(ITEMS)[:100].astype(np.int32):
        for head in HEADS:
            answer = ask(serving.client, f"{head}_1", Question([ids[row]], k_ann=WIDTH))
            found, cosine = retriever.similar_items(np.array([row]), WIDTH, head)
            assert_same(answer["item"], answer["similarity"], found[0], cosine[0])
            assert answer["history"].tolist() == [row] + [-1] * (RETRIEVAL.triggers - 1)


def test_unknown_triggers_are_counted_and_change_nothing_else(
    serving: Serving, retriever_of: RetrieverOf
) -> None:
    retriever = retriever_of("1")
    ids = ids_of(retriever)
    for head in HEADS:
        model = f"retrieve_{head}_1"
        alone = ask(serving.client, model, Question([ids[3], ids[8]]))
        among = ask(serving.client, model, Question(["x", ids[3], "y", ids[8], ""]))
        np.testing.assert_array_equal(among["item"], alone["item"])
        np.testing.assert_array_equal(among["score"], alone["score"])
        moved = np.array([1, 3, -1])[alone["trigger_at"]]
        np.testing.assert_array_equal(among["trigger_at"], moved)
        assert among["cold"] == 2


@pytest.mark.parametrize("trigger", [["x", "y"], []])
def test_nothing_known_is_an_empty_answer(serving: Serving, trigger: list[str]) -> None:
    answer = ask(serving.client, "retrieve_engagement_1", Question(trigger))
    assert (answer["item"] == -1).all()
    assert (answer["trigger_at"] == -1).all()
    assert np.isneginf(answer["score"]).all()
    assert answer["cold"] == len(trigger)


def forward(run: Path, creator: str, floats: list[float]) -> dict[str, np.ndarray]:
    """The model's own embedding of an item whose id it does not know."""
    known = json.loads((run / "retriever" / "model.json").read_text())["vocabularies"]["creator_id"]
    ids = torch.tensor([[0, known.index(creator) + 1]])
    with torch.inference_mode():
        vectors = load_model(run / "retriever")(ids, torch.tensor([floats]))
    return {head: vector.numpy() for head, vector in vectors.items()}


def test_an_unseen_item_is_embedded_by_its_features(
    serving: Serving, retriever_of: RetrieverOf, run_of: Callable[[str], Path]
) -> None:
    retriever = retriever_of("1")
    creator = json.loads((run_of("1") / "retriever" / "model.json").read_text())["vocabularies"][
        "creator_id"
    ][3]
    for floats, given in (([0.5, 2.0], [0.5, 2.0]), ([0.0, 2.0], [np.nan, 2.0])):
        for head, vector in forward(run_of("1"), creator, floats).items():
            asked = Question(["new"], k_ann=WIDTH, id_features=[creator], float_features=given)
            answer = ask(serving.client, f"{head}_1", asked)
            cosine, found = retriever.indexes[head].search(vector, WIDTH)
            assert_same(answer["item"], answer["similarity"], found[0], cosine[0])
            assert answer["cold"] == 0
            assert (answer["history"] == -1).all()


def test_an_unseen_item_with_content_stands_where_its_neighbours_stand(
    serving: Serving, retriever_of: RetrieverOf
) -> None:
    retriever, rng = retriever_of("1"), np.random.default_rng(4)
    content = rng.normal(size=CONTENT).astype(np.float32)
    content /= np.linalg.norm(content)
    known = np.append(retriever.items["in_train"].to_numpy(), False)
    for head, vectors in retriever.vectors.items():
        grown = np.vstack([vectors, np.eye(1, vectors.shape[1], dtype=np.float32)])
        placed = place_cold(grown, np.vstack([retriever.content, content]), known, tau_q=0.2)[-1:]
        # Beside a known trigger: its own rows of features are not read.
        first = ids_of(retriever)[0]
        asked = Question([first, "new"], k_ann=WIDTH, content=[*np.zeros(CONTENT), *content])
        alone = ask(serving.client, f"{head}_1", Question(["new"], k_ann=WIDTH, content=content))
        cosine, found = retriever.indexes[head].search(placed, WIDTH)
        assert_same(alone["item"], alone["similarity"], found[0], cosine[0])
        assert set(ask(serving.client, f"{head}_1", asked)["trigger_at"].tolist()) == {0, 1}


def test_requests_at_once_are_answered_as_alone(
    serving: Serving, retriever_of: RetrieverOf
) -> None:
    """Of different lengths, depths and features: they share batches, and nothing else."""
    rng, ids = np.random.default_rng(5), ids_of(retriever_of("1"))
    content = np.eye(CONTENT, dtype=np.float32)
    questions = []
    for trial in range(120):
        triggers = [ids[row] for row in rng.permutation(ITEMS)[: rng.integers(0, 13)]]
        seen = [ids[row] for row in rng.permutation(ITEMS)[: rng.integers(0, 30)]]
        k_ann = int(rng.choice([200, 30]))
        if trial % 4 == 0:
            questions.append(Question(["new"], seen, k_ann, content=content[trial % CONTENT]))
        else:
            questions.append(Question(triggers, seen, k_ann))
    alone = [ask(serving.client, "retrieve_relevance_1", question) for question in questions]
    before = executions(serving, "relevance_1")
    with ThreadPoolExecutor(12) as pool:
        together = list(
            pool.map(lambda q: ask(serving.client, "retrieve_relevance_1", q), questions * 3)
        )
    assert executions(serving, "relevance_1") - before < len(together)  # or no two shared a batch
    for answer, expected in zip(together, alone * 3, strict=True):
        assert_same(answer["item"], answer["score"], expected["item"], expected["score"])
        np.testing.assert_array_equal(answer["cold"], expected["cold"])


def executions(serving: Serving, model: str) -> int:
    (told,) = serving.client.get_inference_statistics(
        model, headers=headers(serving.triton.secret)
    ).model_stats
    return int(told.execution_count)


def test_rows_of_one_request_are_requests_of_their_own(
    serving: Serving, retriever_of: RetrieverOf
) -> None:
    """A client may fill the batch dimension itself: shorter rows end in empty strings."""
    ids = ids_of(retriever_of("1"))
    rows = [[ids[1], ids[2]], [ids[5], ""]]
    values = {"trigger": np.array([[name.encode() for name in row] for row in rows], object)}
    values |= {"exclude": np.zeros((2, 0), object), "k_ann": np.array([[200], [50]], np.int32)}
    values |= {"id_features": np.zeros((2, 0), object)}
    values |= {name: np.zeros((2, 0), np.float32) for name in ("float_features", "content")}
    inputs = []
    for name, array in values.items():
        kind = {
            np.dtype(object): "BYTES",
            np.dtype(np.int32): "INT32",
            np.dtype(np.float32): "FP32",
        }[array.dtype]
        inputs.append(grpc.InferInput(name, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array)
    answer = serving.client.infer("retrieve_engagement_1", inputs)
    for place, question in enumerate((Question(rows[0]), Question(rows[1][:1], k_ann=50))):
        alone = ask(serving.client, "retrieve_engagement_1", question)
        item, score = answer.as_numpy("item")[place], answer.as_numpy("score")[place]
        assert_same(item, score, alone["item"], alone["score"])


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (Question([f"i{n}" for n in range(13)]), "trigger has 13 items: this version takes 12"),
        (
            Question(["x", "y"], float_features=[1.0, 2.0, 3.0]),
            "float_features has 3 values: write 2 triggers x 2",
        ),
        (Question(["i0000001"], content=[1.0]), "content has 1 values: write 1 triggers x 12"),
        (Question(["x"], float_features=[1.0, np.inf]), "must be finite"),
        (Question(["x"], content=[np.nan] * 12), "must be finite"),
    ],
)
def test_a_wrong_request_is_told_so(serving: Serving, question: Question, told: str) -> None:
    with pytest.raises(InferenceServerException, match=told) as caught:
        ask(serving.client, "retrieve_engagement_1", question)
    assert "INVALID_ARGUMENT" in str(caught.value.status())


def test_two_versions_side_by_side_answer_as_themselves(
    serving: Serving, retriever_of: RetrieverOf
) -> None:
    serving.load("2")
    row = np.array([7], np.int32)
    answers = []
    for version in ("1", "2"):
        retriever = retriever_of(version)
        answers.append(
            ask(serving.client, f"retrieve_relevance_{version}", Question([ids_of(retriever)[7]]))
        )
        item, score, _ = offline(retriever, "relevance", row, row[:0], 200)
        assert_same(answers[-1]["item"], answers[-1]["score"], item, score)
    assert (answers[0]["item"] != answers[1]["item"]).any()
