"""The compiled pipeline: valid IR, the same bytes each time, and what only a cluster reads."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from mtmh.config import Config, load_config
from mtmh.errors import UserError
from mtmh.stages import STAGES
from pipelines.arguments import CONFIGS, of_config
from pipelines.kubeflow import FEATURE_STORE, compile_pipeline
from pipelines.main import STEPS, define

# What the outside, or this run alone, decides.
ALWAYS_RUN = {"champion", "gate", "report", "register", "package", "deploy"}


def compiled(path: Path, config: Config) -> list[dict[str, Any]]:
    compile_pipeline(define(config.cluster), path, of_config(config))
    return list(yaml.safe_load_all(path.read_text()))


def tasks_of(spec: PipelineSpec) -> dict[str, Any]:
    dags = [spec.root.dag, *(part.dag for part in spec.components.values())]
    return {name: task for dag in dags for name, task in dag.tasks.items() if name in STEPS}


def test_the_ir_is_valid_and_holds_every_step(tmp_path: Path) -> None:
    (document,) = compiled(tmp_path / "pipeline.yaml", Config())
    spec = json_format.ParseDict(document, PipelineSpec())  # an unknown field would raise
    assert set(tasks_of(spec)) == set(STEPS)


def test_the_pipelines_tasks_and_their_inputs_are_those_of_the_list_of_stages(
    tmp_path: Path,
) -> None:
    (document,) = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    arguments = {text: name for name, text in of_config(Config()).items()}
    maker = {stage.artifact: stage.name for stage in STAGES}
    assert set(STEPS) == {stage.name for stage in STAGES} | (ALWAYS_RUN - {"gate"})
    for stage in STAGES:
        inputs = tasks[stage.name].inputs
        sources = {
            name: artifact.task_output_artifact for name, artifact in inputs.artifacts.items()
        }
        assert {(name, source.producer_task) for name, source in sources.items()} == {
            (artifact, maker[artifact]) for artifact in stage.needs
        }, stage.name
        assert all(name == source.output_artifact_key for name, source in sources.items())
        given = {parameter.component_input_parameter for parameter in inputs.parameters.values()}
        settings = {
            arguments[getattr(Config(), section).model_dump_json()] for section in stage.sections
        }
        assert (
            given & {name for name in of_config(Config()) if name.endswith("_settings")} == settings
        ), stage.name
        assert ("seed" in given) is stage.seeded, stage.name


def test_the_same_settings_compile_to_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import sys; import mtmh_cli; sys.argv = ['mtmh', 'compile', sys.argv[1]]; mtmh_cli.main()"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", script, str(tmp_path / f"{seed}.yaml")]
        subprocess.run(
            command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True
        )
    assert (tmp_path / "1.yaml").read_bytes() == (tmp_path / "2.yaml").read_bytes()


def test_only_the_expensive_steps_are_cached(tmp_path: Path) -> None:
    (document,) = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    assert {
        name for name, task in tasks.items() if not task.caching_options.enable_cache
    } == ALWAYS_RUN


def test_every_cached_step_has_the_code_version_in_its_key(tmp_path: Path) -> None:
    (document,) = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    for name in set(STEPS) - ALWAYS_RUN:
        assert "code_version" in tasks[name].inputs.parameters


def test_deploy_waits_for_the_gate_and_for_the_registry(tmp_path: Path) -> None:
    (document,) = compiled(tmp_path / "pipeline.yaml", Config())
    (condition,) = [
        task
        for name, task in document["root"]["dag"]["tasks"].items()
        if name.startswith("condition")
    ]
    assert "gate-Output'] == true" in condition["triggerPolicy"]["condition"]
    assert {"gate", "register"} <= set(condition["dependentTasks"])


def test_gpus_tolerations_and_node_labels_reach_train_alone(tmp_path: Path) -> None:
    settings = ["cluster.gpus=2", "cluster.cpu='8'", "cluster.node_labels={pool: a100}"]
    config = load_config(CONFIGS / "gpu.yaml", settings=settings)
    spec, platform = compiled(tmp_path / "gpu.yaml", config)
    executors = spec["deploymentSpec"]["executors"]
    accelerated = {
        name
        for name, step in executors.items()
        if "accelerator" in step["container"].get("resources", {})
    }
    assert accelerated == {"exec-train"}
    assert executors["exec-train"]["container"]["resources"]["accelerator"]["resourceCount"] == "2"
    (placed,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()
    assert placed[0] == "exec-train"
    assert placed[1]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert placed[1]["nodeSelector"]["labels"] == {"pool": "a100"}


def test_every_step_mounts_the_clusters_volume(tmp_path: Path) -> None:
    config = load_config(settings=["cluster.volume_claim=mtmh"])
    _, platform = compiled(tmp_path / "volume.yaml", config)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{step}" for step in STEPS}
    assert {step["pvcMount"][0]["mountPath"] for step in executors.values()} == {"/mnt/mtmh"}


def test_a_compiled_pipeline_is_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pipeline\.yaml"):
        compile_pipeline(define(), tmp_path / "pipeline.json")


def test_where_a_cluster_serves_deploy_rolls_it_and_features_fills_its_redis(
    tmp_path: Path,
) -> None:
    config = load_config(settings=["cluster.namespace=mtmh"])
    spec, platform = compiled(tmp_path / "serving.yaml", config)
    dags = [
        spec["root"]["dag"],
        *(part["dag"] for part in spec["components"].values() if "dag" in part),
    ]
    (deploy,) = [dag["tasks"]["deploy"] for dag in dags if "deploy" in dag["tasks"]]
    assert deploy["inputs"]["parameters"]["namespace"]["runtimeValue"]["constant"] == "mtmh"
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = {name: step["podMetadata"]["labels"] for name, step in executors.items()}
    assert labels == {f"exec-{name}": {"mtmh/step": name} for name in ("features", "deploy")}
    (secret,) = executors["exec-features"]["secretAsEnv"]
    assert secret["keyToEnv"] == [{"secretKey": "connection", "envVar": "REDIS_CONNECTION"}]
    environment = spec["deploymentSpec"]["executors"]["exec-features"]["container"]["env"]
    assert {"name": "FEAST_FS_YAML_FILE_PATH", "value": FEATURE_STORE} in environment
