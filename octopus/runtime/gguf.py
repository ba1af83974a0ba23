"""llama.cpp as a runtime: the language model as GGUF, the vision encoder by onnxruntime, embeddings injected.

In goes a model folder with `manifest.json`, one language model `*.gguf` and a vision encoder, or the path of that GGUF
file; out come embeddings and logits. Sessions are sequences in llama.cpp's cache; an abandoned one frees its cells. It
knows nothing of text, photos or functions.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path

import onnxruntime as ort

from octopus.errors import ModelError
from octopus.manifest import Manifest
from octopus.runtime import Floats, Session
from octopus.runtime.llama import LlamaContext
from octopus.runtime.onnx import VISION, default_threads, encode_image, load_graph
from octopus.runtime.session import check_length, check_places

LONGEST = 4096
"""Tokens of a session at most: llama.cpp makes room for all of them at once."""


class GgufBackend:
    """A model folder run by llama.cpp. The vision encoder is loaded with the first picture."""

    name = "gguf"

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        path = Path(folder)
        self._folder = path.parent if path.suffix == ".gguf" else path
        manifest = Manifest.load(self._folder)
        self._image_id = manifest.special.image
        self._threads = threads or default_threads()
        self._context = min(manifest.decoder.context, LONGEST)
        file = path if path.suffix == ".gguf" else language_file(path)
        self._llama = LlamaContext(file, max(512, 2 * self._context), self._threads)
        for what, said, found in (
            ("vocabulary", manifest.decoder.vocab, self._llama.vocab_size),
            ("width", manifest.decoder.hidden, self._llama.hidden),
        ):
            if said != found:
                self._llama.close()
                raise ModelError(
                    f"{file} has a {what} of {found}, the manifest says {said}", "they do not belong together"
                )
        weakref.finalize(self, self._llama.close)

    @property
    def vocab_size(self) -> int:
        """Length of `logits_V`."""
        return self._llama.vocab_size

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        """Prepared pixels to `embeddings_NH`."""
        return encode_image(self._vision, pixels_CHW)

    def prefill(
        self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Session | None = None
    ) -> LlamaSession:
        """Read a prompt: text as ids, and where its image placeholders stand, the rows of the image."""
        check_length(len(ids), self._context)
        start = 0
        if prefix is None:
            sequence = self._llama.open_sequence()
        elif isinstance(prefix, LlamaSession) and prefix.length < len(ids):
            start, sequence = prefix.length, self._llama.copy_sequence(prefix.sequence)
        else:
            raise ModelError("that is not the beginning of this prompt")
        try:
            check_places(ids[start:], self._image_id, embeddings_NH)
            place, seen = start, 0
            logits_1V = None
            for is_image, group in groupby(ids[start:], key=lambda token_id: token_id == self._image_id):
                part = list(group)
                rows: Sequence[int] | Floats = part
                if is_image and embeddings_NH is not None:
                    rows = embeddings_NH[seen : seen + len(part)]
                    seen += len(part)
                last = place + len(part) == len(ids)
                logits_1V = self._llama.read(sequence, place, rows, keep=1 if last else 0)
                place += len(part)
        except BaseException:
            self._llama.close_sequence(sequence)
            raise
        assert logits_1V is not None
        return LlamaSession(self._llama, sequence, len(ids), [logits_1V[0]], self._context)

    @cached_property
    def _vision(self) -> ort.InferenceSession:
        return load_graph(self._folder, VISION, self._threads)


class LlamaSession:
    """A sequence in llama.cpp's cache. `logits`: one row per position, from the last of the prompt on."""

    def __init__(self, llama: LlamaContext, sequence: int, prompt: int, logits: list[Floats], context: int) -> None:
        self._llama = llama
        self.sequence = sequence
        self._prompt_length = prompt
        self._logits = logits
        self._context = context
        weakref.finalize(self, llama.close_sequence, sequence)

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
        check_length(self.length + len(ids), self._context)
        logits_KV = self._llama.read(self.sequence, self.length, ids, keep=len(ids))
        self._logits.extend(logits_KV)
        return logits_KV

    def rewind(self, length: int) -> None:
        """Forget all tokens past `length`."""
        if not self._prompt_length <= length <= self.length:
            raise ValueError(f"cannot rewind to {length}: the session spans {self._prompt_length} to {self.length}")
        if length < self.length:
            self._llama.cut_sequence(self.sequence, length)
            del self._logits[length - self._prompt_length + 1 :]

    def fork(self) -> LlamaSession:
        """An independent copy that continues from the same point."""
        twin = self._llama.copy_sequence(self.sequence)
        return LlamaSession(self._llama, twin, self._prompt_length, list(self._logits), self._context)


def language_file(folder: Path) -> Path:
    """The language model among the GGUF files of a folder; ModelError when there is none, or more than one."""
    found = sorted(path for path in folder.glob("*.gguf") if not path.name.startswith("mmproj"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ModelError(f"{folder} must hold one language model as GGUF, it holds {names}", "name the file itself")
    return found[0]


__all__ = ["GgufBackend", "LlamaSession", "language_file"]
