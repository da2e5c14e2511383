"""The container files, as far as they can be checked without building: what they copy, what they
pin, who they run as.

Triton's entry point runs for real, over the real server.
"""

import os
import re
import signal
import subprocess
import sysconfig
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from helpers.processes import free_ports

from components import IMAGE, IMAGE_VARIABLE
from mtmh import __version__

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "k8s" / "images"
FILES = sorted(IMAGES.glob("*.Dockerfile"))
TRITON = Path(os.environ.get("MTMH_TRITON", ROOT / ".triton"))
PIN = re.compile(r"([A-Za-z][\w.-]*)(?:\[[\w,]+\])?==([\w.]+)")
BACKENDS = ("server", "backend", "backend-gpu")
BUILT = {  # image -> what it is built from
    "mtmh-python": "pipeline.Dockerfile",
    "mtmh-router": "router.Dockerfile",
    "mtmh-triton": "triton.Dockerfile",
}
# What each lock adds to the ones before it: extras of pyproject.toml.
EXTRAS = {
    "requirements.txt": ("pipeline", "serving"),
    "requirements-monitoring.txt": ("monitoring",),
    "requirements-dev.txt": ("dev",),
}
MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""


def instructions(path: Path) -> list[tuple[str, str]]:
    """Each instruction and what follows it, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(first, rest) for first, _, rest in (line.partition(" ") for line in joined)]


def pins(path: Path) -> dict[str, str]:
    return dict(PIN.findall(path.read_text()))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_what_is_copied_is_there_and_reaches_the_builder(file: Path) -> None:
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [rest.split()[:-1] for first, rest in instructions(file) if first == "COPY"]
    for source in [each for sources in copied for each in sources if not each.startswith("--")]:
        assert (ROOT / source).exists(), source
        assert any(source == each or source.startswith(f"{each}/") for each in sent), source


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_user_has_its_group_where_a_pod_says_none(file: Path) -> None:
    """The kubelet then hands over the user alone, and the group is that of the image's passwd."""
    made = " ".join(rest for first, rest in instructions(file) if first == "RUN")
    assert "groupadd --gid 10001" in made
    assert "useradd --uid 10001 --gid 10001" in made


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_base_is_pinned_and_nobody_is_root(file: Path) -> None:
    bases = [rest for first, rest in instructions(file) if first == "FROM"]
    users = [rest for first, rest in instructions(file) if first == "USER"]
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]+", base) for base in bases)
    assert users[-1] == "10001:10001"
    manifests = (ROOT / "k8s" / "base").glob("*.yaml")
    workloads = [
        body
        for path in manifests
        for body in yaml.safe_load_all(path.read_text())
        if body.get("kind") == "Deployment"
    ]
    for workload in workloads:
        assert workload["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001


def test_pins_agree_with_those_that_are_tested() -> None:
    tested = pins(ROOT / "requirements.txt")
    backend = pins(ROOT / "serving" / "triton" / "backend.txt")
    assert backend["faiss-cpu"] == tested["faiss-cpu"]
    for name in ("backend.txt", "backend-gpu.txt"):
        assert pins(ROOT / "serving" / "triton" / name)["numpy"].startswith(
            "1."
        )  # Triton's BYTES tensors need it
    assert pins(IMAGES / "pipeline.Dockerfile")["torch"] == pins(ROOT / "Makefile")["torch"]


LOCKS = [
    *(path.name for path in ROOT.glob("requirements*.txt")),
    *(f"serving/triton/{part}.txt" for part in BACKENDS),
]


@pytest.mark.parametrize("lock", sorted(LOCKS))
def test_every_package_is_pinned_with_the_hashes_of_its_files(lock: str) -> None:
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert packages
    for package in packages:
        assert re.fullmatch(r"[\w.-]+(\[\w,]+)?==[\w.]+( +--hash=sha256:[0-9a-f]{64})+", package), (
            package[:80]
        )


def test_what_is_installed_comes_by_hash_and_from_a_single_index() -> None:
    recipes = [(ROOT / "Makefile").read_text(), *(path.read_text() for path in FILES)]
    for text in recipes:
        assert "extra-index-url" not in text
    installs = [
        rest
        for path in FILES
        for first, rest in instructions(path)
        if first == "RUN" and "pip install" in rest
    ]
    for rest in installs:
        assert any(
            word in rest for word in ("--require-hashes", "--no-build-isolation", "--index-url")
        ), rest


def test_all_that_the_project_asks_for_is_in_the_locks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"]]
    locked = {"torch"}
    for lock, extras in EXTRAS.items():
        needed += [name for extra in extras for name in project["optional-dependencies"][extra]]
        locked |= {canonical(name) for name in pins(ROOT / lock)}
        assert {canonical(name) for name in needed} <= locked, lock


def test_no_lock_repeats_a_package_of_the_one_before() -> None:
    names = [canonical(name) for lock in EXTRAS for name in pins(ROOT / lock)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("file", "locks"),
    [
        ("pipeline.Dockerfile", {"requirements.txt", "requirements-monitoring.txt"}),
        ("router.Dockerfile", {"requirements-router.txt"}),
    ],
)
def test_an_image_takes_what_its_programs_need_and_no_tools(file: str, locks: set[str]) -> None:
    copied = {
        name
        for first, rest in instructions(IMAGES / file)
        if first == "COPY"
        for name in rest.split()
    }
    assert {name for name in copied if name.startswith("requirements")} == locks


def packages(lock: str) -> set[str]:
    """The pins of a lock, each with its hashes."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    return {" ".join(line.split()) for line in text.splitlines() if line[:1] not in ("", "#")}


def test_the_routers_lock_is_the_part_of_the_runs_that_its_group_needs() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    locked = {canonical(name) for name in pins(ROOT / "requirements-router.txt")}
    assert {canonical(name) for name in groups["router"]} <= locked
    assert packages("requirements-router.txt") < packages("requirements.txt")
    heavy = {
        "faiss-cpu",
        "implicit",
        "kfp",
        "matplotlib",
        "mlflow",
        "numba",
        "scipy",
        "transformers",
    }
    assert not heavy & locked


@pytest.mark.parametrize("file", ["pipeline.Dockerfile", "router.Dockerfile"])
def test_a_change_of_the_code_builds_no_layer_of_packages_anew(file: str) -> None:
    """Nothing but locks is copied before all that comes over the network is there."""
    steps = instructions(IMAGES / file)
    is_fetched = [re.search("apt-get|--index-url|--require-hashes", rest) for _, rest in steps]
    last = max(number for number, match in enumerate(is_fetched) if match)
    before = [rest.split()[:-1] for first, rest in steps[:last] if first == "COPY"]
    assert all(name.startswith("requirements") for names in before for name in names)


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ]", requirement)[0]).lower()


def test_what_is_copied_with_the_project_is_all_that_it_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {
        rest.split()[0]
        for first, rest in instructions(IMAGES / "pipeline.Dockerfile")
        if first == "COPY"
    }
    rooms = {
        each.rstrip("*") for each in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert rooms <= copied


def test_the_image_knows_the_name_that_it_is_built_under() -> None:
    steps = instructions(IMAGES / "pipeline.Dockerfile")
    argument = steps.index(("ARG", "IMAGE="))
    assert steps[argument + 1] == ("ENV", f"{IMAGE_VARIABLE}=$IMAGE")


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_overlays_name_the_images_that_are_built(overlay: str) -> None:
    told = yaml.safe_load((ROOT / "k8s" / "overlays" / overlay / "kustomization.yaml").read_text())
    tags = {each["name"]: each["newTag"] for each in told["images"]}
    ours = {"mtmh-router": __version__, "mtmh-python": __version__}
    assert tags == {**ours, "mtmh-triton": f"26.09-{overlay}"}
    assert f"mtmh-python:{__version__}" == IMAGE
    for name, file in BUILT.items():
        tag = tags.get(name, __version__)
        assert f"-t {name}:{tag} ." in (IMAGES / file).read_text()


def write_models(folder: Path, *names: str) -> Path:
    for name in names:
        version = name.rpartition("_")[2]
        (folder / name / version).mkdir(parents=True)
        (folder / name / version / "model.py").write_text(MODEL)
        tensor = '[{ name: "%s", data_type: TYPE_INT32, dims: [1] }]'
        lines = [
            f'name: "{name}"',
            'backend: "python"',
            f"input {tensor % 'x'}",
            f"output {tensor % 'y'}",
        ]
        (folder / name / "config.pbtxt").write_text("\n".join(lines))
    return folder


def test_a_version_without_models_ends_the_pod_with_a_reason(tmp_path: Path) -> None:
    models = write_models(tmp_path, "engagement_17")
    environment = {**os.environ, "MTMH_VERSIONS": "7"}
    done = subprocess.run(
        [IMAGES / "triton.sh", models], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"version 7 has no models in {models}" in done.stderr


@pytest.mark.parametrize(
    ("versions", "loaded", "is_empty"),
    [
        ("7 8", {"engagement_7", "relevance_7", "engagement_8"}, False),
        ("", set(), False),
        ("", set(), True),  # a new volume: the folder of the models is not there yet
    ],
)
def test_triton_starts_with_the_models_of_the_named_versions_alone(
    tmp_path: Path, versions: str, loaded: set[str], is_empty: bool
) -> None:
    server = TRITON / "server" / "pytriton" / "tritonserver"
    if not (server / "bin" / "tritonserver").is_file():
        message = f"no Triton in {TRITON}: run `make .triton/.ready`"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    models = write_models(
        tmp_path, "engagement_7", "relevance_7", "engagement_8", "engagement_17", "engagement_9"
    )
    names = [model.name for model in models.iterdir()]
    served = tmp_path / "not-there" if is_empty else models
    http, grpc, metrics = free_ports(3)
    options = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    options += [
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        "--allow-gpu-metrics=false",
    ]
    options += [
        f"--backend-directory={server / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name=k8s{http}",
    ]
    path = f"{TRITON / 'venv' / 'bin'}:{server / 'bin'}:{os.environ['PATH']}"
    library = f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    environment = {
        **os.environ,
        "MTMH_VERSIONS": versions,
        "PATH": path,
        "LD_LIBRARY_PATH": library,
    }
    environment.pop("PYTHONPATH", None)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [IMAGES / "triton.sh", served, *options], env=environment, stdout=log, stderr=log
        )
    try:
        wait_ready(process, http, tmp_path / "log")
        assert {name for name in names if is_model_ready(http, name)} == loaded
        request = urllib.request.Request(f"http://127.0.0.1:{http}/v2/repository/index", data=b"{}")
        with pytest.raises(urllib.error.HTTPError, match="403"):  # nobody manages its models
            urllib.request.urlopen(request)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=60)
    assert status == 0, "the shell did not hand its process over to Triton"


def is_model_ready(port: int, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{model}/ready"):
            return True
    except urllib.error.HTTPError:
        return False


def wait_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    pytest.fail(log.read_text())
