"""One setting, tried on the validation tail of T1 (never on T2): what tuning and the benchmarks of settings share.

The stages are the pipeline's own; `period: validation` drops T2 and lets the tail of T1 take its place. A stage's
result lies under a name made from all that it depends on: so trials share what they have in common, and an interrupted
series goes on from where it was, inside a training from its last checkpoint.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mtmh.clock import measured
from mtmh.config import Config, DataSettings
from pipelines.arguments import code_version, data_name
from pipelines.runs_folder import owned

Figures = dict[str, dict[str, float | None]]


def scratch(source: str, runs: Path = Path("runs")) -> Path:
    """Where the trials of a data set are kept, so that every series over it finds those of the others."""
    return runs / ".scratch" / "trials" / data_name(source)


def try_out(source: str, config: Config, work: Path) -> Figures:
    """Train with `config` and return the figures of `evaluate_heads`: engagement_head, relevance_head, merged.

    Everything is kept under `work`, a folder a version of the code. A finished trial is read, not run again; of an
    unfinished one only the stages that no other trial has made are. Raises UserError as the stages do.
    """
    from mtmh.evaluation.heads import evaluate_heads

    config, recipes = _on_validation(config), _recipes(source, _on_validation(config))
    kept = work.resolve() / _code() / "figures" / f"{_key(recipes['figures'])}.json"
    if not kept.exists():
        with version(source, config, work) as (data, content, built):
            figures = evaluate_heads(data, content, built, config.retrieval, config.evaluation.fresh_hours)
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".unfinished")
        draft.write_text(json.dumps({"figures": figures, "config": config.model_dump()}, indent=1))
        draft.rename(kept)
    found: Figures = json.loads(kept.read_text())["figures"]
    return found


@contextmanager
def version(source: str, config: Config, work: Path) -> Iterator[tuple[Path, Path, Path]]:
    """What `config` gives on the validation tail of T1: the stages prepare and content, and the version directory,
    which is there only inside the context. What is not there yet is made; raises UserError as the stages do."""
    from feature_repo.stage import build_features
    from mtmh.content.encode import encode
    from mtmh.data.pairs import write_pairs
    from mtmh.data.prepare import prepare
    from mtmh.retrieval.version import build
    from mtmh.training.preranker import train_preranker
    from mtmh.training.train import train

    config, work = _on_validation(config), work.resolve()
    place, recipes, seed = work / _code(), _recipes(source, config), config.seed

    def made(stage: str, make: Callable[[Path], None]) -> Path:
        return _made(place / stage / _key(recipes[stage]), stage, make)

    with owned(work):
        data = made("prepare", lambda out: prepare(source, out, config.data, seed))
        content = made("content", lambda out: encode(data, out, config.content, work / "content", seed))
        # Without the content, which only serving reads from the store: a trial needs the statistics alone.
        features = made("features", lambda out: build_features(data, None, out, out / "store", config.data))
        pairs = made("pairs", lambda out: write_pairs(data, content, out, config.pairs))
        inputs = data, features, content
        checkpoints = place / "checkpoints"
        model = made("train", lambda out: train(*inputs, pairs, out, config.train, seed, checkpoints))
        ranker = made("preranker", lambda out: train_preranker(*inputs, out, config.prerank, seed))
        built = place / "version"
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        build(*inputs, model, built, config.retrieval, seed, ranker)
        yield data, content, built
        shutil.rmtree(built)


def _on_validation(config: Config) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"period": "validation"})})


def _recipes(source: str, config: Config) -> dict[str, dict[str, Any]]:
    """What each stage's result depends on: its settings, and the names of the results that it reads."""
    told = _fingerprint(source, config.data.model_dump_json(), config.seed)
    prepare = {"fingerprint": told, "settings": config.data.model_dump()}
    content = {"prepare": _key(prepare), "settings": config.content.model_dump(), "seed": config.seed}
    features: dict[str, Any] = {"prepare": _key(prepare)}
    pairs = {"content": _key(content), "settings": config.pairs.model_dump()}
    train = {"pairs": _key(pairs), "settings": config.train.model_dump(), "seed": config.seed}
    preranker = {"content": _key(content), "settings": config.prerank.model_dump(), "seed": config.seed}
    ranking = {"retrieval": config.retrieval.model_dump(), "fresh_hours": config.evaluation.fresh_hours}
    figures = {"train": _key(train), "preranker": _key(preranker), "settings": ranking}
    return {
        "prepare": prepare,
        "content": content,
        "features": features,
        "pairs": pairs,
        "train": train,
        "preranker": preranker,
        "figures": figures,
    }


def _made(out: Path, stage: str, make: Callable[[Path], None]) -> Path:
    """The stage's directory `out`; it has that name only once the stage has ended."""
    if not out.exists():
        draft = out.with_name(f"{out.name}.unfinished")
        shutil.rmtree(draft, ignore_errors=True)
        with measured(stage, draft):
            make(draft)
        draft.rename(out)
    return out


def _key(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


@cache
def _fingerprint(source: str, settings: str, seed: int) -> str:
    """Of this process too: the data are read once."""
    from mtmh.data.prepare import fingerprint

    return fingerprint(source, DataSettings.model_validate_json(settings), seed)


@cache
def _code() -> str:
    """Of this process: what was imported stays as it was, whatever is edited meanwhile."""
    return code_version()
