"""What a version costs of Triton's memory: the real server with one and with two versions loaded,
after searches, beside what lies in their files.

`anonymous` is what the processes hold as their own; `mapped` are pages of files, one copy however
many processes read them, which the kernel may drop and read again. Both by /proc/*/smaps_rollup.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import tritonclient.grpc as grpc

from benchmarks.random_version import Items, make_run
from benchmarks.result import write
from benchmarks.server_process import FOLDER, MIB, free_ports, make_store
from serving.router.heads import inputs_of
from serving.router.package import Package
from serving.triton.store import promote
from serving.triton.supervisor import Ports, Triton, load, triton

REQUESTS, TRIGGERS = 50, 50  # searches before memory is read, and the triggers of each
PARTS = {"Pss_Anon": "anonymous", "Pss_File": "mapped", "Pss_Shmem": "shared"}


def main(items: Items = 100_000) -> None:
    """MiB of Triton's own memory for each version loaded, beside the files that it maps."""
    run = make_run(items, FOLDER)
    with TemporaryDirectory(prefix="memory-", dir=FOLDER) as folder:
        store = make_store(Path(folder), {"1": run, "2": run}, None)
        promote(store, "1")
        held = []
        with triton(store, Ports(None, *free_ports(2)), load_champion=False) as server:
            held.append(_held(server))
            for version in ("1", "2"):
                load(server, store, version)
                _search(server, Package.load(store / "versions" / version))
                held.append(_held(server))
        files = {path.stat().st_ino: path.stat().st_size for path in _files(store, "1")}
    added = [
        {part: round(after[part] - before[part], 1) for part in after}
        for before, after in pairwise(held)
    ]
    details = {
        "baseline": "MiB of a version's files in models/, equal ones once",
        "items": items,
        "empty_mib": held[0],
        "one_version_mib": held[1],
        "two_versions_mib": held[2],
        "added_by_a_version_mib": added,
        "file_bytes_an_item": round(sum(files.values()) / items),
    }
    value, baseline = added[-1]["anonymous"], sum(files.values()) / MIB
    write("memory", value, "MiB of its own, a version", baseline, details)
    for title, figures in details.items():
        print(f"  {title}: {figures}")


def _held(server: Triton) -> dict[str, float]:
    """MiB of Triton with its stubs, proportional to what processes share."""
    sums = dict.fromkeys(PARTS.values(), 0.0)
    for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(True)):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            if part := PARTS.get(name.rstrip(":")):
                sums[part] += int(size) / 1024
    return {part: round(size, 1) for part, size in sums.items()}


def _search(server: Triton, package: Package) -> None:
    """Requests of TRIGGERS random items, to every head."""
    ids, rng = package.item_ids, np.random.default_rng(0)
    with grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}") as client:
        for _ in range(REQUESTS):
            triggers = dict.fromkeys(ids[row] for row in rng.integers(len(ids), size=TRIGGERS))
            inputs = inputs_of(package, triggers, [], package.serving["k_ann"])
            for head in package.channel_names:
                client.infer(f"retrieve_{head}_{package.number}", inputs)


def _files(store: Path, version: str) -> Iterator[Path]:
    for model in (store / "models").glob(f"*_{version}"):
        yield from (path for path in model.rglob("*") if path.is_file())
