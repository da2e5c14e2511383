"""Names that say nothing, and two public types of one name. `python -m tools.words [FOLDER]` lists
both.

A name says what a value is (`response`, `metadata`, `candidates`), never that it was found, given
or kept. The parameters of a Kubeflow component or pipeline are no names of ours: they are keys of
its YAML, as stored runs and schedules have them.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.texture import python_files

WORDS = "told found one place asked kept known each at shown own those them there taught"
BANNED = frozenset(WORDS.split(" "))
NAMED_BY_OTHERS = {"TritonPythonModel"}  # Triton looks for a class of that name in every model
KUBEFLOW = ("dsl.component(", "dsl.pipeline(")


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that the code binds, and its line: variables, arguments, functions, fields, import
    aliases."""
    keys = _pipeline_parameters(tree)
    for node in ast.walk(tree):
        if node in keys:
            continue
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name, node.lineno
            case ast.alias(asname=str(name)):
                yield name, node.lineno


def _pipeline_parameters(tree: ast.AST) -> set[ast.AST]:
    """The parameters of the functions under `@dsl.component(...)` and `@dsl.pipeline(...)`."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {
        parameter
        for function in functions
        if any(ast.unparse(line).startswith(KUBEFLOW) for line in function.decorator_list)
        for parameter in function.args.args
    }


def banned_names(root: Path, files: list[Path]) -> list[str]:
    """`file:line: name` of every binding of a BANNED name, also private (`_told`) and plural ones
    (`ones`)."""
    findings = []
    for path in files:
        for name, line in bound_names(ast.parse(path.read_text())):
            if name.strip("_").lower() in BANNED:
                findings.append(f"{path.relative_to(root)}:{line}: {name}")
    return findings


def types_of_one_name(root: Path, files: list[Path]) -> list[str]:
    """`name: file, file` of every public class that two modules define."""
    modules = defaultdict(list)
    for path in files:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(str(path.relative_to(root)))
    return [
        f"{name}: {', '.join(paths)}"
        for name, paths in sorted(modules.items())
        if len(paths) > 1 and name not in NAMED_BY_OTHERS
    ]


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    sources = python_files(folder)
    names, types = banned_names(folder, sources), types_of_one_name(folder, sources)
    print("\n".join([*names, *types, f"{len(names)} banned names, {len(types)} types of one name"]))
