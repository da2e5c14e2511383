"""The package: what it holds, and that it needs nothing of this project."""

import ast
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from helpers.small_version import ITEMS
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mtmh.errors import UserError
from mtmh.retrieval import scoring
from serving.triton.backend.files import sha256
from serving.triton.config_pbtxt import MAX_QUEUE
from serving.triton.export import write_package

PackageOf = Callable[[str], Path]
MAY_IMPORT = {"numpy", "faiss", "triton_python_backend_utils"}


def config(package: Path, model: str) -> ModelConfig:
    return text_format.Parse(
        (package / "models" / model / "config.pbtxt").read_text(), ModelConfig()
    )


def test_a_package_tells_where_it_comes_from_and_every_checksum(
    package_of: PackageOf, run_of: PackageOf
) -> None:
    package = package_of("1")
    manifest = json.loads((package / "manifest.json").read_text())
    source = json.loads((run_of("1") / "retriever" / "manifest.json").read_text())
    assert manifest["version"] == "1"
    assert manifest["created_from"] == source["created_from"]
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert set(manifest["sha256"]) == files - {"manifest.json"}
    assert all(sha256(package / name) == told for name, told in manifest["sha256"].items())
    models = {"engagement", "relevance", "preranker", "retrieve_engagement", "retrieve_relevance"}
    assert set(manifest["models"]) == {f"{name}_1" for name in models}


def test_what_the_router_must_know(package_of: PackageOf) -> None:
    told = json.loads((package_of("1") / "serving.json").read_text())
    assert told["heads"] == ["engagement", "relevance"]
    assert (told["k_ann"], told["pool"], told["candidates"], told["triggers"]) == (
        200,
        120,
        150,
        12,
    )
    assert told["features"] == {
        "id": ["creator_id"],
        "float": ["log_popularity", "length"],
        "content": 12,
    }
    items = pq.read_table(package_of("1") / "items.parquet")
    assert items.column_names == [
        "item_id",
        "title",
        "l1_topics",
        "l2_topics",
        "created_at",
        "in_train",
    ]
    assert items.num_rows == told["items"] == ITEMS
    assert items["created_at"].null_count < ITEMS


def test_a_version_with_one_head_and_no_preranker(package_of: PackageOf) -> None:
    package = package_of("3")
    assert json.loads((package / "manifest.json").read_text())["models"] == [
        "engagement_3",
        "retrieve_engagement_3",
    ]
    (step,) = config(package, "retrieve_engagement_3").ensemble_scheduling.step
    assert step.model_name == "engagement_3"


def test_configurations_declare_all_shapes_and_no_device(package_of: PackageOf) -> None:
    package = package_of("1")
    for folder in (package / "models").iterdir():
        declared = config(package, folder.name)
        assert declared.name == folder.name
        assert (folder / "1").is_dir()
        assert all(len(tensor.dims) == 1 for tensor in [*declared.input, *declared.output])
        if declared.backend == "python":
            policy = declared.dynamic_batching.default_queue_policy
            of_both_heads = 2 if folder.name.startswith("preranker") else 1
            assert policy.max_queue_size == of_both_heads * MAX_QUEUE
            assert policy.default_timeout_microseconds == 10_000_000
            assert policy.timeout_action == policy.REJECT
        assert not declared.instance_group
    for head in ("engagement", "relevance"):
        ensemble, model = config(package, f"retrieve_{head}_1"), config(package, f"{head}_1")
        assert [(i.name, i.data_type) for i in ensemble.input] == [
            (i.name, i.data_type) for i in model.input
        ]
        width = {output.name: list(output.dims) for output in ensemble.output}
        assert width == {"item": [150], "score": [150], "trigger_at": [150], "cold": [1]}


def test_the_mathematics_beside_each_model_are_the_librarys(package_of: PackageOf) -> None:
    copies = list((package_of("1") / "models").rglob("scoring.py"))
    assert len(copies) == 3  # two heads and the preranker
    assert all(copy.read_bytes() == Path(scoring.__file__).read_bytes() for copy in copies)


def test_models_need_nothing_of_this_project(package_of: PackageOf) -> None:
    for source in (package_of("1") / "models").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    assert (source.parent / f"{node.module}.py").is_file()
                    continue
                names = [node.module or ""]
            else:
                continue
            assert {
                name.partition(".")[0] for name in names
            } <= MAY_IMPORT | sys.stdlib_module_names


def test_a_package_carries_the_feature_store(run_of: PackageOf, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for name in ("registry.db", "online.db"):
        (tmp_path / "store" / name).write_text(name)
    package = write_package(run_of("3"), "3", tmp_path / "package", tmp_path / "store")
    assert (package / "features" / "online.db").read_text() == "online.db"
    with pytest.raises(UserError, match="no such folder"):
        write_package(run_of("3"), "3", tmp_path / "other", tmp_path / "nowhere")


@pytest.mark.parametrize("version", ["", "seven", "07", "0", "-1", "1.5", "\u0663"])
def test_a_version_is_a_number_of_the_registry(
    run_of: PackageOf, tmp_path: Path, version: str
) -> None:
    with pytest.raises(UserError, match="write the number"):
        write_package(run_of("3"), version, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_spoiled_retriever_is_not_packaged(run_of: PackageOf, tmp_path: Path) -> None:
    run = shutil.copytree(run_of("3"), tmp_path / "run")
    (run / "retriever" / "model.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.json does not have the checksum"):
        write_package(run, "3", tmp_path / "package")
    assert not (tmp_path / "package").exists()
