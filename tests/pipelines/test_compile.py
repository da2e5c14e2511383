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
from typer.testing import CliRunner

from mtmh.config import Config, load_config
from mtmh.errors import UserError
from mtmh.stages import STAGES
from mtmh_cli import app
from pipelines.arguments import CONFIGS, of_config, on_cluster
from pipelines.kubeflow import FEATURE_STORE, compile_pipeline
from pipelines.main import ON_A_CLUSTER, STEPS, define

# What the outside, or this run alone, decides.
ALWAYS_RUN = {
    "identify",
    "champion",
    "gate",
    "report",
    "register",
    "histories",
    "package",
    "deploy",
    "finish",
}


def compiled(path: Path, config: Config) -> list[dict[str, Any]]:
    """The pipeline's IR, and what only Kubernetes reads."""
    compile_pipeline(define(config.cluster), path, of_config(config))
    return list(yaml.safe_load_all(path.read_text()))


def tasks_of(spec: PipelineSpec) -> dict[str, Any]:
    dags = [spec.root.dag, *(part.dag for part in spec.components.values())]
    steps = (*STEPS, *ON_A_CLUSTER)
    return {name: task for dag in dags for name, task in dag.tasks.items() if name in steps}


def chain_of(document: dict[str, Any]) -> dict[str, Any]:
    """The tasks within the exit handler."""
    tasks: dict[str, Any] = document["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return tasks


def test_the_ir_is_valid_and_holds_every_step(tmp_path: Path) -> None:
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    spec = json_format.ParseDict(document, PipelineSpec())  # an unknown field would raise
    assert set(tasks_of(spec)) == {*STEPS, *ON_A_CLUSTER}


def test_the_pipelines_tasks_and_their_inputs_are_those_of_the_list_of_stages(
    tmp_path: Path,
) -> None:
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    arguments = {text: name for name, text in of_config(Config()).items()}
    maker = {stage.artifact: stage.name for stage in STAGES}
    assert {*STEPS, *ON_A_CLUSTER} == {stage.name for stage in STAGES} | ALWAYS_RUN
    for stage in STAGES:
        inputs = tasks[stage.name].inputs
        sources = {
            name: artifact.task_output_artifact for name, artifact in inputs.artifacts.items()
        }
        assert {(name, source.producer_task) for name, source in sources.items()} == {
            (artifact, maker[artifact]) for artifact in stage.needs
        }, stage.name
        assert all(name == source.output_artifact_key for name, source in sources.items())
        given = {
            parameter.component_input_parameter.removeprefix("pipelinechannel--")
            for parameter in inputs.parameters.values()
        }
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
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    assert {
        name for name, task in tasks.items() if not task.caching_options.enable_cache
    } == ALWAYS_RUN


def test_every_cached_step_has_the_code_version_in_its_key(tmp_path: Path) -> None:
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    for name in set(STEPS) - ALWAYS_RUN:
        assert "code_version" in tasks[name].inputs.parameters


def test_deploy_waits_for_the_gate_and_for_the_registry(tmp_path: Path) -> None:
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    (condition,) = [
        task for name, task in chain_of(document).items() if name.startswith("condition")
    ]
    assert "gate-Output'] == true" in condition["triggerPolicy"]["condition"]
    assert {"gate", "register"} <= set(condition["dependentTasks"])


def executors_of(documents: list[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], Any]]:
    """What both documents say of each step: its container, and its platform."""
    spec, platform = documents
    platforms = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    containers = spec["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-"): (body["container"], platforms[name])
        for name, body in containers.items()
    }


@pytest.mark.parametrize("size", ["laptop", "gpu", "paper"])
def test_every_step_asks_for_cpu_and_memory_and_has_a_deadline(tmp_path: Path, size: str) -> None:
    """What asks for nothing is the first that a node puts out."""
    config = load_config(CONFIGS / f"{size}.yaml")
    steps = executors_of(compiled(tmp_path / "pipeline.yaml", config))
    assert set(steps) == {*STEPS, *ON_A_CLUSTER}
    for name, (container, platform) in steps.items():
        line = config.cluster.steps[name]
        resources = container["resources"]
        assert resources["resourceCpuRequest"] == line.cpu
        assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"] == line.memory
        assert "resourceCpuLimit" not in resources
        assert platform["activeDeadlineSeconds"] == str(line.deadline)


def test_a_gpu_its_toleration_and_node_go_to_the_steps_that_use_one(tmp_path: Path) -> None:
    settings = ["cluster.steps.train.node_labels={pool: a100}"]
    config = load_config(CONFIGS / "gpu.yaml", settings=settings)
    steps = executors_of(compiled(tmp_path / "gpu.yaml", config))
    gpus = {
        name: container["resources"]["accelerator"]
        for name, (container, _) in steps.items()
        if "accelerator" in container["resources"]
    }
    gpu = {"resourceType": "nvidia.com/gpu", "resourceCount": "1"}
    assert {name: {k: v[k] for k in gpu} for name, v in gpus.items()} == {
        "content": gpu,
        "train": gpu,
        "preranker": gpu,
    }
    tolerant = {name for name, (_, platform) in steps.items() if "tolerations" in platform}
    assert tolerant == set(gpus)
    placed = {
        name: platform["nodeSelector"]["labels"]
        for name, (_, platform) in steps.items()
        if "nodeSelector" in platform
    }
    assert placed == {"train": {"pool": "a100"}}


def test_a_step_told_to_use_a_gpu_that_it_does_not_ask_for_is_refused_before_it_is_sent() -> None:
    config = load_config(CONFIGS / "gpu.yaml", settings=["cluster.steps.train.gpus=0"])
    with pytest.raises(UserError, match=r"step train .* cluster\.steps\.train\.gpus=1"):
        on_cluster(config, "http://mlflow:5000", "synthetic")


def test_every_step_mounts_the_clusters_volume(tmp_path: Path) -> None:
    config = load_config(settings=["cluster.volume_claim=mtmh"])
    _, platform = compiled(tmp_path / "volume.yaml", config)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{step}" for step in (*STEPS, *ON_A_CLUSTER)}
    assert {step["pvcMount"][0]["mountPath"] for step in executors.values()} == {"/mnt/mtmh"}


def test_without_a_volume_every_step_has_the_keys_of_the_object_store(tmp_path: Path) -> None:
    settings = ["cluster.scratch=s3://mtmh/scratch", "cluster.store=s3://mtmh/serving/"]
    settings += ["cluster.object_secret=object-store", "cluster.mlflow_secret=mlflow"]
    config = load_config(settings=settings)
    _, platform = compiled(tmp_path / "pipeline.yaml", config)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{step}" for step in (*STEPS, *ON_A_CLUSTER)}
    assert not [name for name, step in executors.items() if "pvcMount" in step]
    for step in executors.values():
        variables = {
            key["envVar"]: (secret["secretName"], key["secretKey"], secret.get("optional"))
            for secret in step["secretAsEnv"]
            for key in secret["keyToEnv"]
        }
        assert variables["AWS_ENDPOINT_URL"] == ("object-store", "AWS_ENDPOINT_URL", True)
        assert variables["MLFLOW_TRACKING_PASSWORD"] == ("mlflow", "password", True)
    arguments = on_cluster(config, "http://mlflow", "mine")
    assert (arguments["scratch"], arguments["store"]) == (
        "s3://mtmh/scratch",
        "s3://mtmh/serving/mine",
    )


def test_what_is_downloaded_and_compiled_lies_on_the_volume(tmp_path: Path) -> None:
    config = load_config(settings=["cluster.volume_claim=mtmh", "cluster.volume=/data"])
    spec, platform = compiled(tmp_path / "volume.yaml", config)
    for step in spec["deploymentSpec"]["executors"].values():
        environment = {each["name"]: each["value"] for each in step["container"]["env"]}
        assert environment["HF_HOME"] == "/data/cache/huggingface"
        assert environment["NUMBA_CACHE_DIR"] == "/data/cache/numba"
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    (secret,) = steps["exec-content"]["secretAsEnv"]
    assert (secret["secretName"], secret["optional"]) == ("huggingface", True)
    assert secret["keyToEnv"] == [{"secretKey": "token", "envVar": "HF_TOKEN"}]


def test_a_run_says_itself_which_data_and_code_it_has(tmp_path: Path) -> None:
    """So a clone, a retry and a recurring run are runs of their own, whoever compiled it."""
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = chain_of(document)
    sources = {
        name: task["inputs"]["parameters"][key]["taskOutputParameter"]
        for name, task in tasks.items()
        for key in ("code_version",)
        if key in task.get("inputs", {}).get("parameters", {})
    }
    assert {source["producerTask"] for source in sources.values()} == {"identify"}
    fingerprint = tasks["prepare"]["inputs"]["parameters"]["fingerprint"]["taskOutputParameter"]
    assert fingerprint == {"outputParameterKey": "fingerprint", "producerTask": "identify"}
    for step in ("report", "register"):
        run_id = tasks[step]["inputs"]["parameters"]["run_id"]["runtimeValue"]["constant"]
        assert run_id == "{{$.pipeline_job_uuid}}"


def test_a_compiled_pipeline_runs_as_it_is_with_its_paths_on_the_volume(tmp_path: Path) -> None:
    """Every parameter has a default, and what is written outside of the artifact store is on the
    claim that the steps mount."""
    out = tmp_path / "pipeline.yaml"
    words = ["compile", str(out), "--tracking-uri", "http://mlflow:5000"]
    result = CliRunner().invoke(app, [*words, "--set", "cluster.volume_claim=mtmh"])
    assert result.exit_code == 0, result.output
    document = next(yaml.safe_load_all(out.read_text()))
    parameters = document["root"]["inputDefinitions"]["parameters"]
    assert not [
        name
        for name, body in parameters.items()
        if not body.get("isOptional") and "defaultValue" not in body
    ]
    defaults = {name: body.get("defaultValue", "") for name, body in parameters.items()}
    assert defaults["store"] == "/mnt/mtmh/runs/serving/synthetic"
    assert defaults["scratch"] == "/mnt/mtmh/scratch"
    assert (defaults["runs"], defaults["champion_link"]) == ("", "")


def test_whatever_becomes_of_a_run_the_last_step_says_how_it_ended(tmp_path: Path) -> None:
    config = load_config(settings=["cluster.volume_claim=mtmh"])
    document, platform = compiled(tmp_path / "pipeline.yaml", config)
    tasks = document["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "finish"}
    assert tasks["finish"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    told = tasks["finish"]["inputs"]["parameters"]
    assert told["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    # Every other step leaves what became of it where this one reads it.
    folder = told["states"]["runtimeValue"]["constant"]
    for name, (container, on_kubernetes) in executors_of([document, platform]).items():
        variables = {each["name"]: each["value"] for each in container["env"]}
        assert variables.get("MTMH_STATES") == (None if name == "finish" else folder)
        label = {"name": "MTMH_KUBEFLOW_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        assert on_kubernetes.get("fieldPathAsEnv", []) == ([] if name == "finish" else [label])


def test_kubeflows_page_gets_figures_the_verdict_the_report_and_how_it_ended(
    tmp_path: Path,
) -> None:
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    drawn = {"system.Metrics", "system.Markdown", "system.HTML"}
    outputs = {
        (name.removeprefix("comp-"), artifact["artifactType"]["schemaTitle"])
        for name, component in document["components"].items()
        for artifact in component.get("outputDefinitions", {}).get("artifacts", {}).values()
    }
    assert {each for each in outputs if each[1] in drawn} == {
        ("evaluate", "system.Metrics"),
        ("gate", "system.Markdown"),
        ("report", "system.HTML"),
        ("finish", "system.Markdown"),
    }


def test_on_a_cluster_what_is_cached_is_tried_again(tmp_path: Path) -> None:
    """What is never cached changes something outside."""
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    tasks = tasks_of(json_format.ParseDict(document, PipelineSpec()))
    tried_again = {name for name, task in tasks.items() if task.retry_policy.max_retry_count == 2}
    # `histories` writes the same rows again.
    assert tried_again == ({*STEPS, *ON_A_CLUSTER} - ALWAYS_RUN) | {"histories"}


def test_a_compiled_pipeline_is_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pipeline\.yaml"):
        compile_pipeline(define(), tmp_path / "pipeline.json")


def test_only_what_passed_is_put_online(tmp_path: Path) -> None:
    """The steps that change what serves are behind the gate's condition."""
    document, _ = compiled(tmp_path / "pipeline.yaml", Config())
    dags = [body["dag"] for body in document["components"].values() if "dag" in body]
    (condition,) = [name for dag in dags for name in dag["tasks"] if "condition" in name]
    behind = document["components"][f"comp-{condition}"]["dag"]["tasks"]
    assert set(behind) == {"histories", "package", "deploy"}
    # What is packaged is what was loaded.
    package = behind["package"]["inputs"]["artifacts"]["histories"]["taskOutputArtifact"]
    assert package["producerTask"] == "histories"


def test_where_a_cluster_serves_histories_fills_its_redis_and_deploy_rolls_it(
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
    labels = {
        name: step["podMetadata"]["labels"]
        for name, step in executors.items()
        if "podMetadata" in step
    }
    assert labels == {f"exec-{name}": {"mtmh/step": name} for name in ("histories", "deploy")}
    secrets = {name: step.get("secretAsEnv", []) for name, step in executors.items()}
    redis = [{"secretKey": "connection", "envVar": "REDIS_CONNECTION"}]
    for name in ("exec-histories", "exec-deploy"):
        assert secrets[name][0]["keyToEnv"] == redis
        environment = spec["deploymentSpec"]["executors"][name]["container"]["env"]
        assert {"name": "FEAST_FS_YAML_FILE_PATH", "value": FEATURE_STORE} in environment
    # Who wants no shared registry makes no Secret for it.
    (_, shared) = secrets["exec-histories"]
    assert shared["optional"]
    assert shared["keyToEnv"] == [{"secretKey": "url", "envVar": "FEAST_REGISTRY"}]
