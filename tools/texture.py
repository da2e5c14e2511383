"""The texture of the code: lengths, comments, helpers of one use, widths. `python -m tools.texture
[FOLDER]`.

Counted is production Python: no tests, no generated code. A function is counted from `def` to its
last line; nested functions count in the one around them.
"""

import ast
import io
import re
import statistics
import subprocess
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

OUTSIDE = ("tests/", "generated/", "tools/")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Texture:
    """Figures of a tree of code; lengths in lines, shares of 1."""

    files: int  # with code
    lines: int
    code_lines: int
    file_median: float
    file_p90: float
    file_max: int
    function_median: float
    function_p90: float
    function_max: int
    private_once: float  # of module functions: private, and named once more in their module
    comments: float  # of lines: comments on their own line or behind code
    widest: int


def python_files(root: Path) -> list[Path]:
    """The production files that git knows below `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True
    )
    names = [
        name for name in listed.stdout.splitlines() if not any(part in name for part in OUTSIDE)
    ]
    return [root / name for name in names if (root / name).exists()]


def measure(files: list[Path]) -> Texture:
    """The figures of `files`."""
    texts = {path: path.read_text() for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    # A package's mark without code is no file that anybody reads.
    lengths = sorted(len(text.splitlines()) for text in texts.values() if _has_code(text))
    total = sum(len(text.splitlines()) for text in texts.values())
    # Nested functions count in the one around them.
    functions = sorted(
        (function.end_lineno or 0) - function.lineno + 1
        for tree in trees.values()
        for function in _functions(tree)
    )
    module_functions = sum(
        isinstance(node, Function) for tree in trees.values() for node in tree.body
    )
    once = sum(len(helpers_of_one_use(texts[path], trees[path])) for path in files)
    comments, code = 0, 0
    for text in texts.values():
        own_comments, own_code = _lines(text)
        comments, code = comments + own_comments, code + own_code
    return Texture(
        files=len(lengths),
        lines=total,
        code_lines=code,
        file_median=statistics.median(lengths),
        file_p90=_quantile(lengths, 0.9),
        file_max=lengths[-1],
        function_median=statistics.median(functions),
        function_p90=_quantile(functions, 0.9),
        function_max=functions[-1],
        private_once=once / module_functions,
        comments=comments / total,
        widest=max(len(line) for text in texts.values() for line in text.splitlines()),
    )


def helpers_of_one_use(text: str, tree: ast.Module) -> list[str]:
    """The private functions of a module whose name stands once more in it."""
    names = [
        node.name for node in tree.body if isinstance(node, Function) and node.name.startswith("_")
    ]
    words = Counter(re.findall(r"\w+", text))
    return [name for name in names if words[name] == 2]


def _functions(tree: ast.Module) -> list[Function]:
    """Functions and methods, those inside of functions left out."""
    functions: list[Function] = []
    queue: list[ast.AST] = [tree]
    while queue:
        for node in ast.iter_child_nodes(queue.pop()):
            if isinstance(node, Function):
                functions.append(node)
            else:
                queue.append(node)
    return functions


def _has_code(text: str) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(text).body)


def _lines(text: str) -> tuple[int, int]:
    """Lines with a comment, and lines with code (docstrings are none)."""
    comments: set[int] = set()
    code: set[int] = set()
    blank = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    docstring = True  # a string that begins a logical line
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type in blank:
            docstring = docstring or token.type == tokenize.NEWLINE
        else:
            if not (docstring and token.type == tokenize.STRING):
                code.update(range(token.start[0], token.end[0] + 1))
            docstring = False
    return len(comments), len(code)


def _quantile(ordered: list[int], share: float) -> int:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


if __name__ == "__main__":
    texture = measure(python_files(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
    for name, value in vars(texture).items():
        print(
            f"{name:16} {value:.3f}"
            if isinstance(value, float) and value < 1
            else f"{name:16} {value:,g}"
        )
