"""What runs inside Triton, under the Pythons of its images: 3.10 before 24.11, 3.12 since."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from helpers.asking import Question, ask, assert_same, ids_of, offline
from helpers.processes import triton_ports
from helpers.small_version import CONTENT

from mtmh.heads import HEADS
from mtmh.retrieval.retriever import Retriever
from serving.triton.store import install, promote
from serving.triton.supervisor import triton


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_every_model_answers_as_offline(
    python: str,
    package_of: Callable[[str], Path],
    retriever_of: Callable[[str], Retriever],
    installed: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installation = Path(os.environ["MTMH_TRITON"]) / f"python{python}"
    if not (installation / ".ready").is_file():
        pytest.skip(f"needs Triton's backend under Python {python}: make {installation}/.ready")
    monkeypatch.setenv("MTMH_TRITON", str(installation))
    promote(tmp_path, install(package_of("1"), tmp_path))
    retriever = retriever_of("1")
    rows, seen = np.array([3, 8, 21], np.int32), np.arange(40, 90, dtype=np.int32)
    ids, content = ids_of(retriever), np.eye(1, CONTENT, dtype=np.float32)[0]
    known = Question([ids[row] for row in rows], [ids[row] for row in seen])
    unseen = Question(["new"], content=content)
    with triton(tmp_path, triton_ports()) as server:
        stubs = psutil.Process(server.pid).children(recursive=True)
        maps = [Path(f"/proc/{stub.pid}/maps").read_text() for stub in stubs]
        assert sum(f"libpython{python}.so" in text for text in maps) == 3  # heads and preranker
        with grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}") as client:
            for head in HEADS:
                item, score, _ = offline(retriever, head, rows, seen, known.k_ann)
                answer = ask(client, f"retrieve_{head}_1", known)
                assert_same(answer["item"], answer["score"], item, score)
                answer = ask(client, f"retrieve_{head}_1", unseen)
                assert (answer["item"] >= 0).any()
                assert answer["cold"] == 0
