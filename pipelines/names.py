"""The name of a data set in a folder of runs: its champion, its registered model and its served
store go by it.

Two data sets in folders of one name must not take each other's place. `runs`/names.json has, for
each name, the paths of the data that a run gave it and the fingerprint of the last of them.
"""

import hashlib
import json
from pathlib import Path
from typing import TypedDict

from mtmh.data.files import write_json
from mtmh.object_store import resolved
from pipelines.arguments import data_name


class Owner(TypedDict):
    """The data that a name stands for."""

    paths: list[str]
    fingerprint: str


def name_in(runs: Path, source: str, fingerprint: str | None = None) -> str:
    """The name of the data at `source` in the folder `runs`: its folder's, unless that stands for
    other data there.

    The same data is what lies at the same path or has the same `fingerprint`; other data of the
    same folder name gets its path's hash behind it.
    """
    owners, path, plain = _owners(runs), _path(source), data_name(source)
    for name, owner in owners.items():
        if path in owner["paths"]:
            return name
    plain_owner = owners.get(plain) or _owner_by_champion(runs, plain)
    if (
        plain_owner is None
        or path in plain_owner["paths"]
        or fingerprint == plain_owner["fingerprint"]
    ):
        return plain
    return f"{plain}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def record(runs: Path, name: str, source: str, fingerprint: str) -> None:
    """Note that `name` stands for the data at `source`, beside what it stood for before."""
    owners = _owners(runs)
    earlier = owners.get(name) or _owner_by_champion(runs, name)
    paths = [path for path in (earlier["paths"] if earlier else []) if path != _path(source)]
    owners[name] = {"paths": [*paths, _path(source)], "fingerprint": fingerprint}
    write_json(dict(owners), runs / "names.json")


def explain_name(runs: Path, name: str, source: str) -> str | None:
    """A line for people when `name` is not the plain name of the data because that stands for other
    data."""
    plain = data_name(source)
    owner = _owners(runs).get(plain) or _owner_by_champion(runs, plain)
    if name == plain or owner is None or not name.startswith(f"{plain}-"):
        return None
    return (
        f"name     {name}: {plain!r} stands for {owner['paths'][-1]} in {runs},"
        " so neither champion nor served store"
        " are shared with it (choose another name with --name)"
    )


def _owners(runs: Path) -> dict[str, Owner]:
    path = runs / "names.json"
    owners: dict[str, Owner] = json.loads(path.read_text()) if path.is_file() else {}
    return owners


def _owner_by_champion(runs: Path, name: str) -> Owner | None:
    """Folders of runs from before names.json: the data that the champion of that name was trained
    on."""
    metrics = (runs / "champions" / name).resolve().parent / "metrics.json"
    if not (runs / "champions" / name).exists() or not metrics.is_file():
        return None
    data = json.loads(metrics.read_text())["data"]
    return {"paths": [str(data["path"])], "fingerprint": str(data["fingerprint"])}


def _path(source: str) -> str:
    return source if source == "synthetic" else resolved(source)
