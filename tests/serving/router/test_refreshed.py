"""New items come to those who are served: a refreshed version takes over, and nobody notices but by
its items.
"""

import filecmp
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.fresh_world import FreshWorld
from helpers.live_router import RouterFolder, Run, Traffic, eventually

import mtmh_cli
from mtmh.errors import UserError
from mtmh.retrieval import query
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import refresh
from mtmh.retrieval.version import retrieval_settings, verify, write_manifest
from serving.triton import store as packages
from serving.triton.export import write_package
from serving.triton.refreshed import install_refresh, retire_refreshes
from serving.triton.store import trained

Candidates = list[tuple[str, str, str]]


def mtmh(*arguments: object) -> int:
    """The exit status of a command."""
    sys.argv = ["mtmh", *map(str, arguments)]
    with pytest.raises(SystemExit) as ended:
        mtmh_cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def served(place: RouterFolder, fresh: FreshWorld, tmp_path: Path) -> Path:
    """The store with the version that lacks the new items as its champion, under a number of its
    own.
    """
    number = str(max(map(trained, packages.versions(place.store))) + 1)
    packages.install(
        write_package(fresh.before, number, tmp_path / "package" / number, place.features),
        place.store,
    )
    packages.promote(place.store, number)
    return place.store


@pytest.fixture
def items(fresh: FreshWorld, tmp_path: Path) -> Path:
    pq.write_table(fresh.new, tmp_path / "items.parquet")
    return tmp_path / "items.parquet"


def test_new_items_are_served_without_a_restart_or_a_mixed_answer(
    run_router: Run,
    served: Path,
    fresh: FreshWorld,
    items: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, settings = query.load(fresh.before), retrieval_settings(fresh.before)
    new = sorted(fresh.new["item_id"].to_pylist())
    history = before.items["item_id"].to_pylist()[:4]
    asked = {"triggers": history, "k": 60, "alpha": 40}
    monkeypatch.setattr(sys, "argv", [])
    base = packages.champion(served)
    number = f"{base}0001"
    with run_router() as router, Traffic(router.port, asked) as traffic:
        assert router.retrieve(**asked)["model_version"] == base
        assert not router.post("/v1/similar", {"item_id": new[3], "k": 5})["candidates"]
        out = tmp_path / "out"
        command = [
            "refresh",
            fresh.before,
            items,
            out,
            "--store",
            served,
            "--promote",
            "--cache",
            fresh.cache,
        ]
        assert mtmh(*command) == 0
        assert packages.champion(served) == number
        eventually(
            lambda: router.retrieve(**asked)["model_version"] == number,
            "the refreshed version serves",
        )
        count = len(traffic.answers)
        eventually(lambda: len(traffic.answers) > count + 5, "traffic goes on")
        after = query.load(out)
        for item in (new[3], new[-1]):  # as triggers, and by search on the page
            told = query.similar(after, item, 9, 40)["merged"]
            answer = router.post("/v1/similar", {"item_id": item, "k": 9, "alpha": 40})
            assert candidates(answer) == [(one.item_id, one.head, one.trigger_id) for one in told]
            found = router.client.get("/v1/items", params={"q": item}).json()["items"]
            assert [one["item_id"] for one in found] == [item]
    right: dict[str, Candidates] = {}
    for version, retriever in ((base, before), (number, after)):
        told = query.recommend(retriever, history, 60, 40, settings)
        right[version] = [(one.item_id, one.head, one.trigger_id) for one in told]
    assert not {item for item, _, _ in right[base]} & set(new)
    assert {item for item, _, _ in right[number]} & set(new)
    assert {response.status_code for response in traffic.answers} == {200}
    answers = [response.json() for response in traffic.answers]
    assert {answer["model_version"] for answer in answers} == {base, number}
    for answer in answers:
        assert not answer["degraded"]
        assert candidates(answer) == right[answer["model_version"]]


def candidates(answer: dict) -> Candidates:
    return [(one["item_id"], one["head"], one["trigger_id"]) for one in answer["candidates"]]


def test_a_refresh_keeps_histories_and_users_and_makes_older_refreshes_go(
    served: Path, fresh: FreshWorld, tmp_path: Path
) -> None:
    intake = Intake.load(fresh.before, device="cpu", cache=fresh.cache)
    base = packages.champion(served)
    for day in range(1, 5):
        refresh(fresh.before, fresh.new.slice(0, 4 * day), tmp_path / str(day), intake)
        number = install_refresh(tmp_path / str(day), served)
        assert number == f"{base}000{day}"
        packages.promote(served, number)
    old, new = served / "versions" / base, served / "versions" / number
    names = ["online.db", "registry.db"]
    assert filecmp.cmpfiles(old / "features", new / "features", names, shallow=False)[0] == names
    one, two = (json.loads((place / "serving.json").read_text()) for place in (old, new))
    assert two == {**one, "items": one["items"] + 16}
    assert (
        json.loads((new / "manifest.json").read_text())["created_from"]["refreshed"]["items"] == 16
    )
    assert retire_refreshes(served) == [f"{base}0001"]
    assert {"1", "2", base, *(f"{base}000{day}" for day in (2, 3, 4))} <= set(
        packages.versions(served)
    )


def test_what_is_no_refresh_of_the_champion_is_refused(
    served: Path, fresh: FreshWorld, tmp_path: Path
) -> None:
    intake = Intake.load(fresh.before, device="cpu", cache=fresh.cache)
    versions, base = packages.versions(served), packages.champion(served)
    with pytest.raises(UserError, match="was not refreshed"):
        install_refresh(fresh.before / "retriever", served)
    refresh(fresh.before, fresh.new, tmp_path / "all", intake)
    packages.promote(served, install_refresh(tmp_path / "all", served))
    refresh(fresh.before, fresh.new.slice(2), tmp_path / "less", intake)
    with pytest.raises(UserError, match=rf"2 items that version {base}0001 serves are not in"):
        install_refresh(tmp_path / "less", served)
    packages.promote(served, base)
    other = shutil.copytree(fresh.before, tmp_path / "other")
    vectors = np.load(other / "retriever" / "relevance.npy")
    np.save(other / "retriever" / "relevance.npy", vectors[:, ::-1])
    (other / "retriever" / "manifest.json").unlink()
    manifest = verify(fresh.before / "retriever")
    write_manifest(other / "retriever", manifest["created_from"], channels_in(manifest))
    refresh(
        other, fresh.new, tmp_path / "foreign", Intake.load(other, device="cpu", cache=fresh.cache)
    )
    with pytest.raises(
        UserError,
        match=rf"no refresh of version {base}, which serves: their relevance heads differ",
    ):
        install_refresh(tmp_path / "foreign", served)
    assert set(packages.versions(served)) - set(versions) == {f"{base}0001"}


def test_the_command_says_what_it_did_and_what_is_wrong(
    fresh: FreshWorld,
    items: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    out, n = tmp_path / "out", len(fresh.new)
    assert mtmh("refresh", fresh.before, items, out, "--cache", fresh.cache) == 0
    printed = capsys.readouterr().out
    assert f"{n} items added to {len(query.load(fresh.before).items)} in" in printed
    assert "1 of them have no text or image" in printed
    assert "relevance: nlist" in printed
    assert mtmh("refresh", out, items, tmp_path / "again") == 2
    assert f"{n} of {n} new items are in this version already" in capsys.readouterr().err
    more = fresh.new.slice(0, 2).set_column(0, "item_id", pa.array(["zz1", "zz2"]))
    pq.write_table(pa.concat_tables([fresh.new, more]), tmp_path / "more.parquet")
    assert mtmh("refresh", out, tmp_path / "more.parquet", tmp_path / "again", "--skip-known") == 0
    assert f"{n} of {n + 2} items are in the version already: left out" in capsys.readouterr().out
    assert mtmh("refresh", fresh.before, items, tmp_path / "third", "--promote") == 2
    assert "--store" in capsys.readouterr().err
    assert mtmh("refresh", fresh.before, tmp_path / "none.parquet", tmp_path / "third") == 2
    assert "no such file" in capsys.readouterr().err
