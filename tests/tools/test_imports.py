"""What the rooms import is declared in pyproject.toml, and importing one changes nothing in the
process.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each room, and the extras that somebody installs who uses it; the library itself needs none.
EXTRAS = {
    "mtmh": (),
    "mtmh_cli": ("pipeline", "serving", "monitoring"),
    "simulation": ("pipeline", "serving"),
    "feature_repo": ("pipeline",),
    "serving": ("serving", "pipeline"),
    "monitoring": ("monitoring",),
    "components": ("pipeline", "serving", "monitoring"),
    "pipelines": ("pipeline", "serving", "monitoring"),
    "k8s": ("dev",),
    "benchmarks": ("pipeline", "serving", "monitoring", "dev"),
    "tools": ("dev",),
    "tests": ("pipeline", "serving", "monitoring", "dev"),
}
# Namespace packages, in which many distributions have a part: whose is the one that is imported.
SHARED = {"google.protobuf": "protobuf", "kfp": "kfp", "mlflow": "mlflow"}
# Triton's Python backend brings it into its own process.
NOT_PACKAGES = {"triton_python_backend_utils"}
# What a package may not change; what a fresh process of Python has already is taken off.
PROBE = """
import importlib, json, os, sys, warnings
def state():
    return {"environment": dict(os.environ), "filters": [str(each) for each in warnings.filters],
            "no modules": [name for name, module in sys.modules.items() if module is None], "path": list(sys.path),
            "switch": sys.getswitchinterval(), "recursion": sys.getrecursionlimit()}
before = state()
importlib.import_module(sys.argv[1])
after = state()
print(json.dumps({name: [before[name], after[name]] for name in before if before[name] != after[name]}))
"""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extras: tuple[str, ...]) -> set[str]:
    """Names of the distributions that the project asks for, with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(name for extra in extras for name in project["optional-dependencies"][extra]),
    ]
    return {canonical(re.split(r"[<>=\[ ]", requirement)[0]) for requirement in asked}


def imports(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, wherever in it, relative ones left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def undeclared(folder: Path, names: set[str]) -> list[str]:
    """'file: module' of each import below `folder` that no distribution of `names` brings."""
    ours = (
        {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"helpers"} | set(EXTRAS)
        if folder.name == "tests"
        else set(EXTRAS)
    )
    installed = packages_distributions()
    missing = []
    for path in sorted(folder.rglob("*.py")):
        for module in imports(path):
            first = module.partition(".")[0]
            if first in sys.stdlib_module_names or first in ours | NOT_PACKAGES:
                continue
            shared = next(
                (brings for name, brings in SHARED.items() if f"{module}.".startswith(f"{name}.")),
                None,
            )
            brought = {shared} if shared else {canonical(name) for name in installed.get(first, [])}
            if not brought & names:
                missing.append(f"{path.relative_to(folder)}: {module}")
    return missing


@pytest.mark.parametrize("room", EXTRAS)
def test_a_room_imports_what_its_extras_declare(room: str) -> None:
    assert undeclared(ROOT / room, declared(EXTRAS[room])) == []


def test_an_import_that_nothing_declares_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "import json\nimport numpy as np\n\ndef late():\n    import pandas.api\n"
    )
    assert undeclared(tmp_path, declared(())) == ["module.py: pandas.api"]
    assert undeclared(tmp_path, declared(("monitoring",))) == []


def test_every_room_is_looked_at() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms <= set(EXTRAS)


def test_what_the_installation_imports_is_there() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    modules = re.search(r"^IMPORTED := (.+)$", text, re.MULTILINE)
    assert modules
    assert [name for name in modules[1].split() if find_spec(name) is None] == []


@pytest.mark.parametrize("room", [room for room in EXTRAS if room != "tests"])
def test_importing_a_room_changes_nothing_in_the_process(room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, room], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {}


def test_a_program_sets_its_environment_when_it_starts() -> None:
    code = (
        "import os; from mtmh.environment import set_environment; set_environment(); "
        "print(dict(os.environ))"
    )
    bare = {"PATH": "/usr/bin:/bin"}
    for given, spins in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**bare, **given},
            capture_output=True,
            text=True,
            check=True,
        )
        environment = ast.literal_eval(done.stdout)
        assert environment["GOMP_SPINCOUNT"] == spins
        assert environment["DO_NOT_TRACK"] == environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
