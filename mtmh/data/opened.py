"""Where in a folder the data lie: in it, one folder down, or in a zip archive."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from mtmh.errors import UserError


@contextmanager
def opened(folder: Path, holds_data: Callable[[Path], bool]) -> Iterator[tuple[Path, str]]:
    """Yield the folder that holds the data, and what leads to it from `folder` ("" or "name/").

    An archive is unpacked into a temporary folder. Where nothing is found, `folder` itself is yielded. Raises
    UserError where two folders or archives hold data, or an archive cannot be read.
    """
    if not folder.is_dir() or holds_data(folder):
        yield folder, ""
        return
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and holds_data(path)]
    archives = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".zip"]
    if len(below) > 1 or (not below and len(archives) > 1):
        names = ", ".join(path.name for path in below or archives)
        raise UserError(
            f"data folder {folder}: {names}: more than one holds data. Give one of them."
        )
    if below:
        print(f"data are read from {below[0]}", flush=True)
        yield below[0], f"{below[0].name}/"
        return
    if not archives:
        yield folder, ""
        return
    with TemporaryDirectory() as temporary:
        root = Path(temporary) / archives[0].name
        _unpack(archives[0], root)
        inner = [
            path for path in [root, *sorted(root.rglob("*"))] if path.is_dir() and holds_data(path)
        ]
        if len(inner) > 1:
            names = ", ".join(str(path.relative_to(root)) for path in inner)
            raise UserError(
                f"{archives[0]}: {names}: more than one holds data. Unpack it, and give one of them."
            )
        if inner:
            print(f"data are read from the archive {archives[0]}", flush=True)
        lead = (
            f"{archives[0].name}/{inner[0].relative_to(root)}/".replace("/./", "/") if inner else ""
        )
        yield (inner[0], lead) if inner else (folder, "")


def _unpack(archive: Path, root: Path) -> None:
    try:
        with ZipFile(archive) as packed:
            packed.extractall(root)
    except (
        BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as error:  # a password is a RuntimeError
        raise UserError(
            f"{archive} cannot be unpacked ({error}). Unpack it yourself, or download it anew."
        ) from None
