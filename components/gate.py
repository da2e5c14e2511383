"""Step gate: floors, and the paired comparison with the champion. Never cached."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    prepared: dsl.Input[dsl.Dataset],
    result: dsl.Input[dsl.Dataset],
    settings: str,
    seed: int,
    verdict: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Markdown],
) -> bool:
    """Judge the challenger; the verdict names every rule with value, bound and outcome, and `table`
    shows it on Kubeflow's page."""
    from pathlib import Path

    from components.step import running

    out = Path(verdict.path)
    with running("gate", out):
        import json

        from components.kubeflow_page import verdict_table
        from mtmh.config import GateSettings
        from mtmh.evaluation.gate import judge

        settings_read = GateSettings.model_validate_json(settings)
        passed = judge(Path(prepared.path), Path(result.path), out, settings_read, seed)
        Path(table.path).write_text(verdict_table(json.loads((out / "verdict.json").read_text())))
        return bool(passed)
