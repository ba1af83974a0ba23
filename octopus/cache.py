"""Image embeddings on disk: the same photo is encoded once, whatever the request and whichever process asks.

In: prepared pixels and what encodes them. Out: embeddings, from a file named after the content if there is one. The
folder is bounded, oldest use first out, and safe across processes: files appear whole, by renaming, and a damaged one
counts as missing. It knows nothing of photos or models; the key says which model it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LARGEST = 64 << 20  # bytes of all files together
_HEAD = 32  # bytes of the digest in front of the data


class ImageCache:
    """Embeddings by content. Trouble with the disk never stops a request: then nothing is kept."""

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        """`folder` may not exist yet; `largest` bounds the bytes of all its files."""
        self.folder = folder
        self.largest = largest

    def encode(self, pixels_CHW: Floats, key: str, encode: Callable[[Floats], Floats]) -> Floats:
        """`encode(pixels_CHW)`, or what it gave before for the same pixels and key."""
        digest = hashlib.sha256(f"{key} {pixels_CHW.shape} {pixels_CHW.dtype}".encode())
        digest.update(np.ascontiguousarray(pixels_CHW).data)
        path = self.folder / f"{digest.hexdigest()}.emb"
        found = _read(path)
        if found is None:
            found = encode(pixels_CHW)
            with contextlib.suppress(OSError):
                self._keep(path, found)
        return found

    def clear(self) -> None:
        """Remove all files."""
        for path in self.folder.glob("*.emb"):
            path.unlink(missing_ok=True)

    def _keep(self, path: Path, embeddings_NH: Floats) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows, width = embeddings_NH.shape
        body = np.array([rows, width], np.int64).tobytes() + np.ascontiguousarray(embeddings_NH, np.float32).tobytes()
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".new")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(body).digest() + body)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._trim()

    def _trim(self) -> None:
        """Remove what was used longest ago, until all fits; files that others remove meanwhile are gone anyway."""
        found = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.largest:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def _read(path: Path) -> Floats | None:
    """The embeddings in a file, which counts as used now; None when there is none or it is damaged."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    head, body = content[:_HEAD], content[_HEAD:]
    if hashlib.sha256(body).digest() != head:
        return None
    rows, width = np.frombuffer(body[:16], np.int64)
    return np.frombuffer(body[16:], np.float32).reshape(int(rows), int(width)).copy()


__all__ = ["LARGEST", "ImageCache"]
