"""Triton as a process: what cannot be loaded, what dies, what stops, and what people are told."""

import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.asking import Question, Serving, ask
from helpers.processes import children, running, triton_ports, until

from mtmh.errors import UserError
from serving.triton.management import headers
from serving.triton.store import install, promote
from serving.triton.supervisor import Ports, Triton, triton

KNOWN = Question(["i0000001"])


def test_a_corrupt_index_is_not_loaded_and_the_others_go_on(
    serving: Serving, package_of: Callable[[str], Path]
) -> None:
    before = ask(serving.client, "retrieve_engagement_1", KNOWN)
    serving.load("2")
    index = serving.store / "models" / "relevance_2" / "2" / "index.faiss"
    whole = index.read_bytes()
    index.unlink()  # the package has it too, by a link
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        serving.client.unload_model("relevance_2", headers=headers(serving.triton.secret))
        with pytest.raises(
            UserError, match=r"relevance_2.*index\.faiss does not have its checksum"
        ):
            serving.load("2")
        index.unlink()
        with pytest.raises(UserError, match=r"relevance_2.*index\.faiss is missing"):
            serving.load("2")
    finally:
        index.write_bytes(whole)
    for model, same in (("retrieve_engagement_1", True), ("retrieve_engagement_2", False)):
        assert np.array_equal(ask(serving.client, model, KNOWN)["item"], before["item"]) == same
    serving.load("2")
    assert serving.client.is_model_ready("retrieve_relevance_2")


def test_a_killed_triton_comes_back(serving: Serving) -> None:
    before, server = ask(serving.client, "retrieve_relevance_1", KNOWN), serving.triton
    killed, starts = server.pid, server.starts
    for again in (1, 2):  # the second time while it starts
        os.kill(server.pid, signal.SIGKILL)
        until(partial(started, server, starts + again))
    server.wait_ready()
    assert server.pid != killed
    until(lambda: not running(killed))
    np.testing.assert_array_equal(
        ask(serving.client, "retrieve_relevance_1", KNOWN)["item"], before["item"]
    )


def started(server: Triton, times: int) -> bool:
    return server.starts >= times


def start(store: Path, ports: Ports | None = None) -> None:
    with triton(store, ports or triton_ports()):
        pytest.fail("it started")


def test_a_taken_port_is_named(store: Path, installed: None) -> None:
    ports = triton_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.grpc))
        taken.listen()
        with pytest.raises(UserError, match=f"port {ports.grpc} is taken"):
            start(store, ports)


def test_a_store_without_a_champion_says_how_to_make_one(tmp_path: Path, installed: None) -> None:
    with pytest.raises(UserError, match="make run"):
        start(tmp_path)


def test_an_absent_triton_says_how_to_install_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTMH_TRITON", str(tmp_path))
    with pytest.raises(UserError, match=r"make \.triton/\.ready"):
        start(store)


def test_a_champion_that_cannot_be_loaded_says_why_and_leaves_nothing(
    package_of: Callable[[str], Path], tmp_path: Path, installed: None
) -> None:
    promote(tmp_path, install(package_of("3"), tmp_path))
    model = tmp_path / "models" / "engagement_3" / "3" / "settings.json"
    text = model.read_text()
    model.unlink()
    model.write_text(text + " ")
    before = children(os.getpid())
    with pytest.raises(UserError, match=r"engagement_3.*settings\.json does not have its checksum"):
        start(tmp_path)
    assert children(os.getpid()) == before
