"""A backend without a model: a function from prompt ids to answer ids plays the part of one.

For tests of anything above the runtime, here and in code that uses octopus: it honours the Backend protocol (images,
several tokens a step, rewind, fork), answers in microseconds and always the same. It knows neither functions nor text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from octopus.errors import ModelError
from octopus.runtime import Floats, Session

Answer = Callable[[Sequence[int]], Sequence[int]]
"""From the ids of a prompt to the ids that the model should want to write."""


class ScriptedBackend:
    """Wants to write what `answer` says; past its end, the last id of it.

    Override `logits` for anything else, such as noise. With `image_id` the number of placeholders is checked.
    """

    name = "scripted"

    def __init__(
        self, answer: Answer, vocab_size: int, *, image_tokens: int = 9, hidden: int = 4, image_id: int | None = None
    ) -> None:
        self.answer = answer
        self.vocab_size = vocab_size
        self.image_tokens = image_tokens
        self.hidden = hidden
        self.image_id = image_id
        self.passes: list[int] = []  # how many ids each step read, for tests of drafting

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        """The mean of the pixels, repeated."""
        return np.full((self.image_tokens, self.hidden), pixels_CHW.mean(), dtype=np.float32)

    def prefill(
        self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Session | None = None
    ) -> ScriptedSession:
        """Read a prompt; ModelError when placeholders and embeddings differ in number."""
        rows = 0 if embeddings_NH is None else len(embeddings_NH)
        if self.image_id is not None and list(ids).count(self.image_id) != rows:
            raise ModelError(f"the prompt has {list(ids).count(self.image_id)} image tokens, the image {rows}")
        return ScriptedSession(self, tuple(ids), ())

    def logits(self, prompt: Sequence[int], written: Sequence[int]) -> Floats:
        """`logits_V` after a prompt and what was written behind it."""
        logits_V = np.zeros(self.vocab_size, dtype=np.float32)
        answer = self.answer(prompt)
        logits_V[answer[min(len(written), len(answer) - 1)]] = 20.0
        return logits_V


class ScriptedSession:
    """One prompt being continued."""

    def __init__(self, backend: ScriptedBackend, prompt: tuple[int, ...], written: tuple[int, ...]) -> None:
        self._backend = backend
        self._prompt = prompt
        self._written = written

    @property
    def length(self) -> int:
        """Number of tokens read so far."""
        return len(self._prompt) + len(self._written)

    @property
    def logits_V(self) -> Floats:
        """Scores of the next token."""
        return self._backend.logits(self._prompt, self._written)

    def step(self, ids: Sequence[int]) -> Floats:
        """Append K ids and return `logits_KV`."""
        if not ids:
            raise ValueError("a step needs at least one id")
        self._backend.passes.append(len(ids))
        rows = []
        for token_id in ids:
            self._written += (int(token_id),)
            rows.append(self.logits_V)
        return np.stack(rows)

    def rewind(self, length: int) -> None:
        """Forget all tokens past `length`."""
        if not len(self._prompt) <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} tokens")
        self._written = self._written[: length - len(self._prompt)]

    def fork(self) -> ScriptedSession:
        """An independent copy."""
        return ScriptedSession(self._backend, self._prompt, self._written)
