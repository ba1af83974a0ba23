"""What decoding asks of a model runtime: token ids and arrays in, logits out.

A backend encodes one prepared picture, reads a prompt and then goes on one or several tokens at a time. It knows
nothing about functions, text or photos. Backends live one per file: `onnx` (default), `gguf`, `torch`, `scripted` (a
fake for tests). The engines are imported by those files only, so importing this package is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
"""A float32 array; names carry the shape: `pixels_CHW`, `embeddings_NH`, `logits_V`."""


class Session(Protocol):
    """One sequence being read and written, with its cached keys and values."""

    @property
    def length(self) -> int:
        """Number of tokens read so far."""
        ...

    @property
    def logits_V(self) -> Floats:
        """Scores of the next token after everything read so far."""
        ...

    def step(self, ids: Sequence[int]) -> Floats:
        """Append K ids (at least one) in one pass and return `logits_KV`: the scores after each of them."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all tokens past `length`; ValueError when that is beyond the end or inside the prompt."""
        ...

    def fork(self) -> Session:
        """An independent copy, cheap, that continues from the same point."""
        ...


class Backend(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """What runs it: "onnx", "gguf", "torch", "scripted"."""
        ...

    @property
    def vocab_size(self) -> int:
        """Length of `logits_V`."""
        ...

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        """Prepared pixels to `embeddings_NH`, N rows that stand for N image placeholder ids."""
        ...

    def prefill(
        self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Session | None = None
    ) -> Session:
        """Read a prompt. Its image placeholder ids take the rows of `embeddings_NH` in order.

        `prefix` is a session of this backend that was prefilled with the first of the ids, and not with all of them;
        it stays as it is.

        Raises:
            ModelError: if the number of placeholders is not the number of rows.
        """
        ...


__all__ = ["Backend", "Floats", "Session"]
