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
) -> bool:
    """Judge the challenger; the verdict names every rule with value, bound and outcome."""
    from pathlib import Path

    from components.step import running

    out = Path(verdict.path)
    with running("gate", out):
        from mtmh.config import GateSettings
        from mtmh.evaluation.gate import judge

        settings_read = GateSettings.model_validate_json(settings)
        return bool(judge(Path(prepared.path), Path(result.path), out, settings_read, seed))
