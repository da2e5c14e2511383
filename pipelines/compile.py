"""The pipeline as Kubeflow's IR YAML: the same bytes for the same code and settings."""

from pathlib import Path

from mtmh.config import Config
from mtmh.errors import UserError
from pipelines.arguments import of_config


def compile_pipeline(out: Path, config: Config) -> None:
    """Write the pipeline to `out` (.yaml) with the settings of `config` as its parameters' defaults.

    GPU limits stand in the first document, tolerations and node labels in the second.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"{out}: the compiled pipeline is a YAML file; write, say, {out.with_suffix('.yaml')}.")
    from kfp.compiler import Compiler

    from pipelines.main import define

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(define(config.cluster), str(out), pipeline_parameters=of_config(config))
