"""The files beside a model: checked before anything is made of them. Python 3.10 runs this too, in
Triton's image.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

CHECKSUMS = "sha256.json"


def checked(folder: Path) -> Path:
    """`folder`, when it holds the files that its sha256.json lists, as they were written;
    ValueError otherwise.
    """
    files = {name: path for name, path in files_of(folder).items() if name != CHECKSUMS}
    if complaint := disagreement(files, json.loads((folder / CHECKSUMS).read_text()), folder):
        raise ValueError(f"{complaint}: install the version again")
    return folder


def files_of(folder: Path) -> dict[str, Path]:
    """Everything below `folder` that is no folder, links among it, by the name from there."""
    paths = sorted(folder.rglob("*"))  # does not follow links
    return {
        path.relative_to(folder).as_posix(): path
        for path in paths
        if path.is_symlink() or not path.is_dir()
    }


def disagreement(
    files: Mapping[str, Path], checksums: Mapping[str, str], folder: Path
) -> str | None:
    """What is first wrong with `files`, of which `checksums` lists all; None when nothing is."""
    if missing := sorted(set(checksums) - set(files)):
        return f"{missing[0]} is missing in {folder}, though its checksum is listed"
    if unlisted := sorted(set(files) - set(checksums)):
        return f"{files[unlisted[0]]} is there, though no checksum of it is listed"
    for name, path in files.items():
        if path.is_symlink() or not path.is_file():
            return f"{path} is a link or no file at all"
        if sha256(path) != checksums[name]:
            return f"{path} does not have its checksum"
    return None


def sha256(path: Path) -> str:
    """The file's checksum, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
