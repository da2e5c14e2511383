"""One setting, tried on the validation tail of T1 (never on T2): what tuning and the benchmarks of
settings share.

The stages are the pipeline's own; `period: validation` drops T2 and lets the tail of T1 take its
place. A stage's result lies under a name made from all that it depends on: so trials share what
they have in common, and an interrupted series goes on from where it was, inside a training from its
last checkpoint.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from components.writers import WRITERS
from mtmh.clock import measured
from mtmh.config import Config, DataSettings
from mtmh.data.prepare import fingerprint, prepare
from mtmh.stages import STAGES, Stage, StageFolders
from mtmh.version_hash import code_version
from pipelines.arguments import data_name
from pipelines.runs_folder import owned

PRERANKER, INDEX = (stage for stage in STAGES if stage.name in ("preranker", "index"))
Figures = dict[str, dict[str, float | None]]


def scratch(source: str, runs: Path = Path("runs")) -> Path:
    """Where the trials of a data set are kept, so that every series over it finds those of the
    others."""
    return runs / ".scratch" / "trials" / data_name(source)


def try_out(source: str, config: Config, work: Path) -> Figures:
    """Train with `config` and return the figures of `evaluate_heads`: engagement_head,
    relevance_head, merged.

    Everything is kept under `work`, a folder a version of the code. A finished trial is read, not
    run again; of an unfinished one only the stages that no other trial has made are. Raises
    UserError as the stages do.
    """
    from mtmh.evaluation.evaluate import evaluate_heads

    config = _on_validation(config)
    recipe = {
        "retriever": _keys(source, config)["retriever"],
        "fresh_hours": config.evaluation.fresh_hours,
    }
    # The figures' name is made of all that they depend on: what is there needs no second trial.
    file = work.resolve() / _code() / "figures" / f"{_key(recipe)}.json"
    if not file.exists():
        with version(source, config, work) as (data, content, built):
            measurements = evaluate_heads(
                data, content, built, config.retrieval, config.evaluation.fresh_hours
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        # Under its name only once it is whole: a trial may be cut short.
        draft = file.with_suffix(".unfinished")
        draft.write_text(
            json.dumps({"figures": measurements, "config": config.model_dump()}, indent=1)
        )
        draft.rename(file)
    figures: Figures = json.loads(file.read_text())["figures"]
    return figures


@contextmanager
def version(source: str, config: Config, work: Path) -> Iterator[tuple[Path, Path, Path]]:
    """What `config` gives on the validation tail of T1: the stages prepare and content, and the
    version directory, which is there only inside the context. What is not there yet is made; raises
    UserError as the stages do."""
    config, work = _on_validation(config), work.resolve()
    with owned(work):
        folders = _made_before(INDEX, source, config, work)
        folders = replace(folders, retriever=work / _code() / "version")
        shutil.rmtree(folders.retriever, ignore_errors=True)
        folders.retriever.mkdir()
        WRITERS[INDEX.name](folders, folders.retriever, config.retrieval, config.seed, work)
        yield folders.prepared, folders.content, folders.retriever
        shutil.rmtree(folders.retriever)


def model_folders(source: str, config: Config, work: Path) -> StageFolders:
    """The folders up to the trained heads, on the validation tail of T1: see `stages_before`."""
    return stages_before(PRERANKER.name, source, _on_validation(config), work)


def stages_before(name: str, source: str, config: Config, work: Path) -> StageFolders:
    """The folders of the stages in front of `name` with `config`, of its own period: what a study
    that goes on from there reads. They stay; what is not there yet is made. Raises UserError as the
    stages do."""
    last = next(stage for stage in STAGES if stage.name == name)
    with owned(work.resolve()):
        return _made_before(last, source, config, work.resolve())


def _made_before(last: Stage, source: str, config: Config, work: Path) -> StageFolders:
    """The folders of all stages in front of `last`. What other trials have made is there already;
    the version alone is too large to be kept."""
    folder, keys = work / _code(), _keys(source, config)
    lasting = {"content": work / "content", "train": folder / "checkpoints"}
    folders = StageFolders()
    for stage in STAGES[: STAGES.index(last)]:
        out = folder / stage.name / keys[stage.artifact]
        if not out.exists():
            _make(stage, source, folders, out, config, lasting.get(stage.name, work))
        folders = replace(folders, **{stage.artifact: out})
    return folders


def _on_validation(config: Config) -> Config:
    return config.model_copy(
        update={"data": config.data.model_copy(update={"period": "validation"})}
    )


def _keys(source: str, config: Config) -> dict[str, str]:
    """A name for each artifact up to the version, made from all that it depends on: settings, seed,
    what it reads."""
    keys: dict[str, str] = {}
    for stage in STAGES[: STAGES.index(INDEX) + 1]:
        recipe = {section: getattr(config, section).model_dump() for section in stage.sections}
        if stage.name == "prepare":  # whose fingerprint has the seed in it, where that matters
            recipe["fingerprint"] = _fingerprint(source, config.data.model_dump_json(), config.seed)
        elif stage.seeded:
            recipe["seed"] = config.seed
        recipe["needs"] = {artifact: keys[artifact] for artifact in stage.needs}
        keys[stage.artifact] = _key(recipe)
    return keys


def _make(
    stage: Stage, source: str, folders: StageFolders, out: Path, config: Config, scratch: Path
) -> None:
    """Make the stage's folder `out`; it has that name only once the stage has ended."""
    draft = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    with measured(stage.name, draft):
        if stage.name == "prepare":
            prepare(source, draft, config.data, config.seed)
        else:
            inputs = StageFolders(
                **{artifact: getattr(folders, artifact) for artifact in stage.needs}
            )
            WRITERS[stage.name](
                inputs, draft, getattr(config, stage.sections[0]), config.seed, scratch
            )
    draft.rename(out)


def _key(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


@cache
def _fingerprint(source: str, settings: str, seed: int) -> str:
    """Of this process too: the data are read once."""
    return fingerprint(source, DataSettings.model_validate_json(settings), seed)


@cache
def _code() -> str:
    """Of this process: what was imported stays as it was, whatever is edited meanwhile."""
    return code_version()
