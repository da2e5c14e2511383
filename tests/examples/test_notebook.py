"""The notebook from an own log to the curve of alpha: it runs as it stands, and shows what its text
says.
"""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

NOTEBOOK = Path(__file__).parents[2] / "examples" / "own_log.ipynb"


@pytest.fixture(scope="module")
def written() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_short_and_uses_the_library(written: NotebookNode) -> None:
    assert len(written.cells) <= 25
    assert NOTEBOOK.stat().st_size < 100_000
    source = "\n".join(cell.source for cell in written.cells if cell.cell_type == "code")
    assert "subprocess" not in source
    assert not [line for line in source.splitlines() if line.startswith(("!", "%%bash", "%%sh"))]


def test_it_runs_and_its_curve_says_what_the_text_says(written: NotebookNode) -> None:
    notebook = nbformat.from_dict(
        {**written, "cells": [*written.cells, new_code_cell("print(merged.to_json())")]}
    )
    NotebookClient(notebook, timeout=900, kernel_name="python3", coalesce_streams=True).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    curve = json.loads(outputs[-1]["text"])
    recall, relevance = curve["recall_at_100"], list(curve["l2_relevance"].values())
    assert relevance == sorted(relevance, reverse=True)  # from alpha 0 to alpha 100
    assert relevance[-1] < relevance[0] / 2
    assert max(recall.values()) - min(recall.values()) < 3
