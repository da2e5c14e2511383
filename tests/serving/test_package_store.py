"""The store: whole packages or none, one champion, no more versions than wanted."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_package import write_small_package

import mtmh_cli
from mtmh.errors import UserError
from serving.triton import store as packages
from serving.triton.backend.files import sha256
from serving.triton.export import write_package

PackageOf = Callable[[str], Path]


def renumbered(package: Path, out: Path, version: str) -> Path:
    """A package as small as can be: another number, one model."""
    manifest = json.loads((package / "manifest.json").read_text())
    model = f"engagement_{version}"
    (out / "models" / model / version).mkdir(parents=True)
    (out / "models" / model / "config.pbtxt").write_text(f'name: "{model}"')
    (out / "models" / model / version / "model.py").write_text("")
    (out / "serving.json").write_text("{}")
    listed = (f"models/{model}/config.pbtxt", f"models/{model}/{version}/model.py", "serving.json")
    files = {name: sha256(out / name) for name in listed}
    told = {**manifest, "version": version, "models": [model], "sha256": files}
    (out / "manifest.json").write_text(json.dumps(told))
    return out


def test_an_installed_package_is_there_whole(package_of: PackageOf, tmp_path: Path) -> None:
    package = package_of("1")
    assert packages.install(package, tmp_path) == "1"
    manifest = packages.verify(tmp_path, "1")
    assert manifest == json.loads((package / "manifest.json").read_text())
    assert {path.name for path in (tmp_path / "models").iterdir()} == set(manifest["models"])
    index = Path("models", "relevance_1", "1", "index.faiss")
    assert os.path.samefile(package / index, tmp_path / index)  # a link: no second copy on the disk
    assert (tmp_path / "models" / "retrieve_relevance_1" / "1" / "ensemble").is_file()
    assert packages.install(package, tmp_path) == "1"
    assert packages.versions(tmp_path) == ["1"]


def test_a_spoiled_package_is_not_installed(package_of: PackageOf, tmp_path: Path) -> None:
    package = shutil.copytree(package_of("1"), tmp_path / "package")
    (package / "items.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"items\.parquet does not have its checksum"):
        packages.install(package, tmp_path / "store")
    assert packages.versions(tmp_path / "store") == []
    with pytest.raises(UserError, match="it is no package"):
        packages.install(tmp_path, tmp_path / "store")


def test_a_package_survives_a_store_of_files_alone(package_of: PackageOf, tmp_path: Path) -> None:
    """As an artifact of Kubeflow's: no empty folder comes back from an object store."""
    package, copy = package_of("1"), tmp_path / "copy"
    for file in package.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(package)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy / file.relative_to(package))
    packages.install(copy, tmp_path / "store")
    for model in packages.verify(tmp_path / "store", "1")["models"]:
        assert any((tmp_path / "store" / "models" / model / "1").iterdir()), model


def test_a_model_without_a_file_in_its_versions_folder_is_refused(
    package_of: PackageOf, tmp_path: Path
) -> None:
    package = shutil.copytree(package_of("1"), tmp_path / "package")
    manifest = json.loads((package / "manifest.json").read_text())
    for name in ("ensemble", "example.json"):
        (package / "models/retrieve_relevance_1/1" / name).unlink()
        del manifest["sha256"][f"models/retrieve_relevance_1/1/{name}"]
    (package / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="retrieve_relevance_1/1 is empty, and Triton takes no"):
        packages.install(package, tmp_path / "store")


@pytest.mark.parametrize(
    "name", ["extra.txt", "models/engagement_1/1/numpy.py", "models/engagement_1/2/model.py"]
)
def test_what_the_manifest_does_not_list_is_refused(
    package_of: PackageOf, tmp_path: Path, name: str
) -> None:
    package = shutil.copytree(package_of("1"), tmp_path / "package")
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("import os")
    with pytest.raises(UserError, match=rf"{name} is there, though no checksum of it is listed"):
        packages.install(package, tmp_path / "store")
    packages.install(package_of("1"), tmp_path / "store")
    placed = tmp_path / "store" / (name if name.startswith("models/") else f"versions/1/{name}")
    placed.parent.mkdir(exist_ok=True)
    placed.write_text("import os")
    with pytest.raises(UserError, match=r"is there, though no checksum of it is listed"):
        packages.promote(tmp_path / "store", "1")


def test_a_model_folder_of_its_own_is_not_loaded_with_the_version(
    package_of: PackageOf, tmp_path: Path
) -> None:
    packages.install(package_of("1"), tmp_path)
    (tmp_path / "models" / "more_1").mkdir()
    (tmp_path / "models" / "more_1" / "config.pbtxt").write_text('name: "more_1"')
    with pytest.raises(UserError, match=r"more_1/config\.pbtxt is there"):
        packages.promote(tmp_path, "1")


def test_links_are_no_files_of_a_package(package_of: PackageOf, tmp_path: Path) -> None:
    package = shutil.copytree(package_of("1"), tmp_path / "package")
    index = package / "models" / "engagement_1" / "1" / "index.faiss"
    index.unlink()
    index.symlink_to(package_of("1") / "models" / "engagement_1" / "1" / "index.faiss")
    with pytest.raises(UserError, match=r"index\.faiss is a link"):
        packages.install(package, tmp_path / "store")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "../1"),
        ("version", 1.5),
        ("models", ["../engagement_1"]),
        ("models", ["engagement_1"]),
        ("sha256", {"../../secret": "0" * 64}),
        ("sha256", {"serving.json": "short"}),
    ],
)
def test_a_manifest_cannot_reach_out_of_its_package(
    package_of: PackageOf, tmp_path: Path, key: str, value: object
) -> None:
    package = shutil.copytree(package_of("1"), tmp_path / "package")
    manifest = json.loads((package / "manifest.json").read_text())
    (package / "manifest.json").unlink()
    (package / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(UserError, match="ake the package again"):
        packages.install(package, tmp_path / "store")
    assert not (tmp_path / "store").exists() or packages.versions(tmp_path / "store") == []
    (package / "manifest.json").write_text("[1, ")
    with pytest.raises(UserError, match=r"manifest\.json"):
        packages.install(package, tmp_path / "store")


def test_only_what_is_whole_becomes_champion(package_of: PackageOf, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no champion"):
        packages.champion(tmp_path)
    packages.promote(tmp_path, packages.install(package_of("1"), tmp_path))
    with pytest.raises(UserError, match="it is no package"):
        packages.promote(tmp_path, "2")
    small = renumbered(package_of("1"), tmp_path / "small", "2")
    packages.install(small, tmp_path)
    shutil.rmtree(tmp_path / "models" / "engagement_2")
    with pytest.raises(UserError, match=r"models/engagement_2/\S+ is missing"):
        packages.promote(tmp_path, "2")
    assert packages.champion(tmp_path) == "1"


def test_an_install_killed_half_way_is_nothing_and_is_mended_by_the_next(
    package_of: PackageOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renames = iter(range(3))
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if next(renames, None) is None:
            os._exit(9)
        return rename(self, target)

    if not (child := os.fork()):
        monkeypatch.setattr(Path, "rename", killed)
        packages.install(package_of("1"), tmp_path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list((tmp_path / "models").iterdir())) == 3
    assert packages.versions(tmp_path) == []
    packages.install(package_of("1"), tmp_path)
    packages.verify(tmp_path, "1")
    assert not (tmp_path / ".drafts").exists()


def test_the_same_version_with_other_settings_is_refused(
    package_of: PackageOf, run_of: PackageOf, tmp_path: Path
) -> None:
    """A server that has the version loaded must find its files as they were."""
    store = tmp_path / "store"
    packages.promote(store, packages.install(package_of("1"), store))
    run = shutil.copytree(run_of("1"), tmp_path / "run")
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("alpha: 50", "alpha: 30")
    )
    package = write_package(run, "1", tmp_path / "package")
    with pytest.raises(UserError, match="another package as version 1, which may serve"):
        packages.install(package, store)
    packages.verify(store, "1")
    assert json.loads((store / "versions" / "1" / "serving.json").read_text())["alpha"] == 50
    assert packages.install(write_package(run, "2", tmp_path / "next"), store) == "2"
    assert json.loads((store / "versions" / "2" / "serving.json").read_text())["alpha"] == 30


def test_the_same_files_or_the_same_registered_version_change_nothing(tmp_path: Path) -> None:
    """Packaged again, with another time, or with a feature store that was filled again."""
    store, mlflow = tmp_path / "store", {"model_name": "mtmh-tiny", "run_id": "a"}
    packages.install(write_small_package(tmp_path / "first", "1", mlflow=mlflow), store)
    packages.install(write_small_package(tmp_path / "again", "1", mlflow=None), store)
    packages.install(write_small_package(tmp_path / "filled", "1", alpha=30, mlflow=mlflow), store)
    assert packages.verify(store, "1")["mlflow"] == mlflow
    assert json.loads((store / "versions" / "1" / "serving.json").read_text())["alpha"] == 50
    other = write_small_package(tmp_path / "other", "1", alpha=30, mlflow={**mlflow, "run_id": "b"})
    with pytest.raises(UserError, match="another package as version 1"):
        packages.install(other, store)


def test_old_versions_go_and_the_champion_stays(package_of: PackageOf, tmp_path: Path) -> None:
    for version in ("2", "9", "10", "11", "12"):
        packages.install(
            renumbered(package_of("1"), tmp_path / version, version), tmp_path / "store"
        )
    packages.promote(tmp_path / "store", "9")
    assert packages.retire(tmp_path / "store") == ["2", "10"]
    assert packages.versions(tmp_path / "store") == ["9", "11", "12"]
    assert sorted(path.name for path in (tmp_path / "store" / "models").iterdir()) == [
        "engagement_11",
        "engagement_12",
        "engagement_9",
    ]
    for version in packages.versions(tmp_path / "store"):
        packages.verify(tmp_path / "store", version)


def test_mtmh_package_installs_a_run(
    run_of: PackageOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        "mtmh",
        "package",
        str(run_of("3")),
        "--version",
        "3",
        "--store",
        str(tmp_path),
        "--promote",
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        mtmh_cli.main()
    assert ended.value.code == 0
    assert packages.champion(tmp_path) == "3"
    packages.verify(tmp_path, "3")
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "champion", "models", "versions"}
