"""The champion as an MLflow model: registered for real, loaded by name, answers as the retriever
does.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from helpers.run_directory import write_run

from components import registry, tracking
from mtmh.config import RetrievalSettings
from mtmh.errors import UserError
from mtmh.retrieval.query import recommend
from mtmh.retrieval.retriever import Retriever
from mtmh.retrieval.version import verify

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

MODEL = "mtmh-tiny"
Make = Callable[[str], Path]
# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated; its pyfunc warns of own
# types.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),
]


@pytest.fixture(scope="module")
def location(
    tmp_path_factory: pytest.TempPathFactory, empty_database: bytes, version: Make
) -> Iterator[Path]:
    """Where the champion lies, a run with its retriever registered as the pipeline does it."""
    import mlflow

    folder = tmp_path_factory.mktemp("registered")
    (folder / "mlflow.db").write_bytes(empty_database)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run = write_run(folder / "run-1", passed=True, retriever=version("mtmh"))
    number = tracking.register_run(run, MODEL, uri, str(folder / "mlartifacts"))
    registry.make_champion(uri, MODEL, number)
    mlflow.set_tracking_uri(uri)
    yield Path(registry.champion_location(uri, MODEL))
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def model(location: Path) -> "PyFuncModel":
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")


@pytest.fixture(scope="module")
def retriever(version: Make) -> Retriever:
    return Retriever.load(version("mtmh"))


@pytest.mark.parametrize("alpha", [0.0, 50.0, 100.0])
def test_the_model_answers_as_the_retriever(
    model: "PyFuncModel", retriever: Retriever, alpha: float
) -> None:
    ids = retriever.items["item_id"].to_pylist()
    histories = [[ids[0]], [ids[5], ids[2], ids[9]]]
    answer = model.predict(pd.DataFrame({"triggers": histories}), params={"alpha": alpha, "k": 7})
    for query, history in enumerate(histories):
        expected = recommend(retriever, history, 7, int(alpha), RetrievalSettings())
        rows = answer[answer["query"] == query]
        assert rows["rank"].tolist() == list(range(1, len(expected) + 1))
        for name in ("item_id", "head", "trigger_id"):
            assert rows[name].tolist() == [getattr(candidate, name) for candidate in expected]
        np.testing.assert_allclose(
            rows["score"], [candidate.score for candidate in expected], rtol=1e-5
        )


def test_its_example_fits_its_signature(model: "PyFuncModel") -> None:
    answer = model.predict(model.input_example)
    assert set(answer["query"]) == {0}
    assert len(answer) == 10  # the signature's k
    assert list(answer.columns) == model.metadata.signature.outputs.input_names()
    assert {param.name: param.default for param in model.metadata.signature.params} == {
        "alpha": 50.0,
        "k": 10,
    }


@pytest.mark.parametrize(
    ("triggers", "params", "message"),
    [
        (["nowhere"], {}, "query 0: item 'nowhere' is not in this version"),
        ([], {}, "query 0 has no triggers"),
        (["0"], {"alpha": 101.0}, "alpha from 0 to 100"),
        (["0"], {"k": 0}, "k from 1"),
    ],
)
def test_what_it_cannot_answer_is_explained(
    model: "PyFuncModel", triggers: list[str], params: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        model.predict(pd.DataFrame({"triggers": [triggers]}), params=params)


def test_a_version_with_one_head_answers_too(version: Make, tmp_path: Path) -> None:
    import mlflow.pyfunc

    run = write_run(tmp_path / "run", passed=True, retriever=version("engagement"))
    folder = tracking.write_model(run, tmp_path / "model", "0" * 32)
    for path in version("engagement").iterdir():
        (folder / path.name).symlink_to(path)
    model = mlflow.pyfunc.load_model(str(folder))
    answer = model.predict(model.input_example, params={"k": 3})
    assert answer["head"].tolist() == ["engagement"] * 3


def test_the_champions_files_are_still_a_version(location: Path, version: Make) -> None:
    """MLflow's files lie beside them: the step evaluate loads the champion from there."""
    assert verify(location) == verify(version("mtmh"))
    assert (location / "MLmodel").is_file()
    assert not list(location.rglob("*.pkl"))
    requirements = (location / "requirements.txt").read_text().split()
    assert any(line.startswith("faiss-cpu") for line in requirements)
    assert any(line.startswith("mlflow==") for line in requirements)
