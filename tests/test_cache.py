"""The image cache: content decides, damage and trouble with the disk never hurt, and it stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from octopus.cache import Floats, ImageCache

PIXELS = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


class Encoder:
    """Counts how often it had to work."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pixels_CHW: Floats) -> Floats:
        self.calls += 1
        return np.full((2, 5), pixels_CHW.sum(), np.float32)


def test_the_same_photo_is_encoded_once(tmp_path: Path) -> None:
    encoder = Encoder()
    first = ImageCache(tmp_path / "c").encode(PIXELS, "model", encoder)
    again = ImageCache(tmp_path / "c").encode(PIXELS.copy(), "model", encoder)
    assert encoder.calls == 1 and np.array_equal(first, again) and again.dtype == np.float32 and again.flags.writeable
    ImageCache(tmp_path / "c").encode(PIXELS, "another model", encoder)
    ImageCache(tmp_path / "c").encode(PIXELS + 1, "model", encoder)
    assert encoder.calls == 3
    ImageCache(tmp_path / "c").clear()
    ImageCache(tmp_path / "c").encode(PIXELS, "model", encoder)
    assert encoder.calls == 4


@pytest.mark.parametrize("damage", [b"", b"x" * 10, b"y" * 100])
def test_a_damaged_file_counts_as_missing(damage: bytes, tmp_path: Path) -> None:
    encoder, cache = Encoder(), ImageCache(tmp_path)
    whole = cache.encode(PIXELS, "model", encoder)
    (path,) = tmp_path.glob("*.emb")
    path.write_bytes(damage)
    assert np.array_equal(cache.encode(PIXELS, "model", encoder), whole) and encoder.calls == 2
    assert np.array_equal(cache.encode(PIXELS, "model", encoder), whole) and encoder.calls == 2


def test_it_stays_small_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    encoder, cache = Encoder(), ImageCache(tmp_path, largest=300)  # room for three
    import os

    for number in range(4):
        cache.encode(PIXELS + number, "model", encoder)
        for place, path in enumerate(sorted(tmp_path.glob("*.emb"), key=lambda p: p.stat().st_mtime_ns)):
            os.utime(path, (place, place))  # clocks of file systems are coarse
        if number == 2:
            cache.encode(PIXELS, "model", encoder)  # used again: the second is the oldest now
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 300
    before = encoder.calls
    cache.encode(PIXELS, "model", encoder)
    assert encoder.calls == before
    cache.encode(PIXELS + 1, "model", encoder)
    assert encoder.calls == before + 1


def test_a_folder_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    encoder, cache = Encoder(), ImageCache(tmp_path / "file" / "cache")
    assert cache.encode(PIXELS, "model", encoder).shape == (2, 5)
    assert cache.encode(PIXELS, "model", encoder).shape == (2, 5) and encoder.calls == 2


def test_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from octopus.cache import ImageCache\n"
        "cache = ImageCache(Path(sys.argv[1]), largest=2000)\n"
        "for n in range(300):\n"
        "    pixels = np.full((3, 2, 2), n % 40, np.float32)\n"
        "    found = cache.encode(pixels, 'model', lambda p: np.full((2, 5), p.sum(), np.float32))\n"
        "    assert found.shape == (2, 5) and (found == 12 * (n % 40)).all(), n\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert not list(tmp_path.glob("*.new"))
