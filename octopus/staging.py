"""Folders that appear whole or not at all: files are written beside the target and moved there when all is done.

In: the folder that shall be, and a key that says what is being made. Out: a hidden folder to write to, whose finished
parts survive an interruption and are used again when the same thing is made once more. It does not know what the files
are. An existing target keeps files of other names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from octopus.errors import ModelError, OctopusError

_NOTES = ".parts.json"


class Staging:
    """The hidden folder. `part` makes what is not there yet, `publish` moves everything to the target."""

    def __init__(self, target: Path, key: str = "") -> None:
        self.target = target
        self.folder = target.absolute().parent / f".{target.absolute().name}.partial"
        self._key = key
        self._parts: dict[str, list[str]] = {}
        notes = self.folder / _NOTES
        if key and notes.is_file():
            found = json.loads(notes.read_text(encoding="utf-8"))
            if found.get("key") == key:
                self._parts = found["parts"]
        if not self._parts and self.folder.exists():
            shutil.rmtree(self.folder)  # of something else, or cut off before its first part was done
        self.folder.mkdir(parents=True, exist_ok=True)

    def part(self, name: str, make: Callable[[Path], Sequence[str]]) -> list[str]:
        """Names of the files of one part: those of the interrupted run, else `make(folder)` writes them now."""
        if name not in self._parts:
            self._parts[name] = list(make(self.folder))
            notes = json.dumps({"key": self._key, "parts": self._parts})
            fresh = self.folder / (_NOTES + ".new")
            fresh.write_text(notes, encoding="utf-8")
            os.replace(fresh, self.folder / _NOTES)
        return self._parts[name]

    def publish(self, last: str, stale: Sequence[str] = ()) -> None:
        """Move all files to the target, the one named `last` at the very end; files there that fit `stale` go."""
        (self.folder / _NOTES).unlink(missing_ok=True)
        names = [path.name for path in self.folder.iterdir()]
        if not self.target.exists() or not any(self.target.iterdir()):
            if self.target.exists():
                self.target.rmdir()
            self.folder.rename(self.target)
            return
        for pattern in stale:
            for path in self.target.glob(pattern):
                if path.name not in names:
                    path.unlink()
        for name in sorted(names, key=lambda name: name == last):
            os.replace(self.folder / name, self.target / name)
        self.folder.rmdir()


@contextmanager
def staged(target: Path, last: str, key: str = "", stale: Sequence[str] = ()) -> Iterator[Staging]:
    """Write into `staging.folder`; published when the block ends well.

    With a `key` an interruption leaves the finished parts; a refusal (an OctopusError) leaves nothing.

    Raises:
        ModelError: The target is a file, or its parent cannot be written to.
    """
    if target.exists() and not target.is_dir():
        raise ModelError(f"{target} is a file", "name a folder to write to")
    try:
        staging = Staging(target, key)
    except OSError as error:
        raise ModelError(f"cannot write beside {target}: {error.strerror or error}", "name another folder") from error
    try:
        yield staging
        staging.publish(last, stale)
    except BaseException as error:
        if not key or isinstance(error, OctopusError):
            shutil.rmtree(staging.folder, ignore_errors=True)
        raise


__all__ = ["Staging", "staged"]
