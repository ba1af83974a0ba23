"""The bookkeeping that every backend with a key/value cache shares: length, logits, rewind and fork.

A backend gives `forward(ids, past) -> (logits_KV, past)` and keeps nothing itself. Caches are lists of arrays or
tensors `[1, heads, length, dim]` that are never changed in place, so a fork is free and a rewind is a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from octopus.errors import ModelError
from octopus.runtime import Floats, Session

Cache: TypeAlias = list[Any]
Forward: TypeAlias = Callable[[Sequence[int], Cache], tuple[Floats, Cache]]


class CachedSession:
    """A `Session` over any `forward`. `length` and `logits_V` are those after the prompt."""

    def __init__(self, forward: Forward, past: Cache, length: int, logits_V: Floats) -> None:
        self._forward = forward
        self._past = past
        self._prompt_length = length
        self._logits = [logits_V]  # one row per position, from the last of the prompt on

    @property
    def state(self) -> tuple[int, Cache]:
        """Length and cache, for whoever continues from here without writing here."""
        return self.length, self._past

    @property
    def length(self) -> int:
        """Number of tokens read so far."""
        return self._prompt_length + len(self._logits) - 1

    @property
    def logits_V(self) -> Floats:
        """Scores of the next token after everything read so far."""
        return self._logits[-1]

    def step(self, ids: Sequence[int]) -> Floats:
        """Append K ids in one pass and return `logits_KV`."""
        if not ids:
            raise ValueError("step needs at least one id")
        logits_KV, self._past = self._forward(ids, self._past)
        self._logits.extend(logits_KV)
        return logits_KV

    def rewind(self, length: int) -> None:
        """Forget all tokens past `length`."""
        if not self._prompt_length <= length <= self.length:
            raise ValueError(f"cannot rewind to {length}: the session spans {self._prompt_length} to {self.length}")
        if length < self.length:
            self._past = [array[:, :, :length] for array in self._past]
            del self._logits[length - self._prompt_length + 1 :]

    def fork(self) -> CachedSession:
        """An independent copy that continues from the same point."""
        twin = CachedSession(self._forward, self._past, self._prompt_length, self._logits[0])
        twin._logits = list(self._logits)
        return twin


def check_places(ids: Sequence[int], image_id: int, image_NH: Floats | None) -> list[int]:
    """Where the image placeholders stand; ModelError when they are not as many as the image has rows."""
    places = [place for place, token in enumerate(ids) if token == image_id]
    rows = 0 if image_NH is None else len(image_NH)
    if len(places) != rows:
        raise ModelError(
            f"the prompt has {len(places)} image placeholders and the image has {rows} tokens",
            "manifest and weights belong to different models",
        )
    return places


def place_image(embeddings_LH: Floats, ids: Sequence[int], image_id: int, image_NH: Floats | None) -> Floats:
    """Put the rows of an image where its placeholder ids stand; ModelError when their numbers differ."""
    places = check_places(ids, image_id, image_NH)
    if image_NH is not None:
        embeddings_LH = embeddings_LH.copy()
        embeddings_LH[places] = image_NH
    return embeddings_LH


def start_of(prefix: Session | None, count: int) -> tuple[int, Cache]:
    """How many of `count` ids were read by a prefix, and its cache."""
    if prefix is None:
        return 0, []
    if not isinstance(prefix, CachedSession) or not prefix.length < count:
        raise ModelError("that is not the beginning of this prompt")
    return prefix.state


def check_length(length: int, context: int) -> None:
    """ModelError when a sequence is empty or longer than the model's context."""
    if length < 1:
        raise ModelError("the prompt is empty")
    if length > context:
        raise ModelError(f"{length} tokens do not fit the model's context of {context}", "shorten the text")


def as_floats(array: Any) -> Floats:
    """A contiguous float32 array, copied only when it is not one already."""
    return np.ascontiguousarray(array, dtype=np.float32)


__all__ = ["Cache", "CachedSession", "Forward", "as_floats", "check_length", "check_places", "place_image", "start_of"]
