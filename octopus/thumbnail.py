"""A small picture of the photo that is about to leave, for the person who is asked whether it may.

In: a photo. Out: a function that writes the picture on first use and says where it is. It is gone when the question is
over, and nobody else on the machine can read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from octopus.core import Pixels

SIDE = 256
"""Longest side, in pixels."""


@contextmanager
def thumbnail_of(photo: Pixels | None) -> Iterator[Callable[[], str] | None]:
    """Inside, calling what is yielded writes the thumbnail and returns its path; None without a photo."""
    with ExitStack() as until_answered:

        def write() -> str:
            assert photo is not None
            path = Path(until_answered.enter_context(TemporaryDirectory(prefix="octopus-"))) / "photo.jpg"
            picture = Image.fromarray(photo)
            picture.thumbnail((SIDE, SIDE))
            picture.save(path, "JPEG")
            return str(path)

        yield None if photo is None else write
