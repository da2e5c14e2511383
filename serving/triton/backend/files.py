"""The files beside a model: checked before anything is made of them."""

import hashlib
import json
from pathlib import Path

CHECKSUMS = "sha256.json"


def checked(folder: Path) -> Path:
    """`folder`, when every file that its sha256.json lists is there as it was written; ValueError otherwise."""
    for name, expected in json.loads((folder / CHECKSUMS).read_text()).items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing, though {CHECKSUMS} lists it: install the version again")
        if sha256(folder / name) != expected:
            raise ValueError(f"{folder / name} does not have its checksum: install the version again")
    return folder


def sha256(path: Path) -> str:
    """The file's checksum, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
