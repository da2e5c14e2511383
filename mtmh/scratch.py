"""The scratch folder of a step that may be cut short: on a disk, or kept in an object store.

Written there are checkpoints and encoded content, whole files each. Where the pod that wrote them
is gone, and its disk with it, the next one begins with what the store has.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mtmh import object_store
from mtmh.errors import UserError

PAUSE = 10.0  # seconds between two looks for what is new


@contextmanager
def scratch_folder(location: str) -> Iterator[Path]:
    """`location` itself where it is a path. Of a URL a temporary folder that holds what lies there:
    new and changed files are put there within seconds, and what is removed here goes there too.

    Raises UserError at the start where the store cannot be read. Later a store that is away is said
    in a line and tried again: the work itself does not need it.
    """
    if not object_store.is_url(location):
        yield Path(location)
        return
    with TemporaryDirectory(prefix="scratch-") as temporary:
        copy = _Copy(Path(temporary), location)
        object_store.fetch(location, copy.folder)
        copy.stored = copy.files()
        ended = threading.Event()
        thread = threading.Thread(target=copy.keep, args=(ended,))
        thread.start()
        try:
            yield copy.folder
        finally:
            ended.set()
            thread.join()


@dataclass
class _Copy:
    """A folder, and what of it the store has: (time of change, size) by name."""

    folder: Path
    url: str
    stored: dict[str, tuple[int, int]] = field(default_factory=dict)
    trouble: str = ""  # said last

    def files(self) -> dict[str, tuple[int, int]]:
        """The files that are whole: a draft is hidden, or called so."""
        states = {
            path.relative_to(self.folder).as_posix(): path.stat()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name[0] != "." and path.suffix != ".unfinished"
        }
        return {name: (state.st_mtime_ns, state.st_size) for name, state in states.items()}

    def keep(self, ended: threading.Event) -> None:
        """Bring the store up to date again and again, and once more at the end."""
        while True:
            last = ended.wait(PAUSE)
            try:
                self.update()
                self.trouble = ""
            except (UserError, OSError) as error:  # a file may go while it is looked at
                if str(error) != self.trouble:
                    print(f"scratch is behind: {error}", flush=True)
                self.trouble = str(error)
            if last:
                return

    def update(self) -> None:
        """Put what is new, remove what is gone. Raises UserError and OSError."""
        here = self.files()
        for name in [name for name, state in here.items() if self.stored.get(name) != state]:
            object_store.write(f"{self.url}/{name}", self.folder / name)
            self.stored[name] = here[name]
        if gone := sorted(set(self.stored) - set(here)):
            object_store.remove(self.url, gone)
            for name in gone:
                del self.stored[name]
