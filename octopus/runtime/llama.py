"""llama.cpp through the low-level interface of llama-cpp-python: ids or embeddings in, logits out, no text.

In goes a GGUF file; out comes a `LlamaContext` that reads rows into numbered sequences, forgets and copies them. It
says nothing on stderr and raises ModelError for files it cannot use. It knows nothing of pictures or manifests.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from octopus.errors import ModelError
from octopus.runtime import Floats

SEQUENCES = 8
"""How many sessions of one model may be alive at a time."""
_MAGIC = b"GGUF"


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _ignore(level: int, text: bytes, data: Any) -> None:
    """llama.cpp's talk goes nowhere; what matters comes back as an error."""


def silence() -> None:
    """Keep llama.cpp quiet, in this process."""
    llama_cpp.llama_log_set(_ignore, ctypes.c_void_p(0))


class LlamaContext:
    """One loaded language model and its cache of `context` cells, shared by up to `SEQUENCES` sequences."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        _check(path)
        silence()
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise ModelError(f"llama.cpp cannot load {path}", "it is cut off or of an unknown kind; export it again")
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model)))
        self.hidden = int(llama_cpp.llama_model_n_embd(self._model))
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx = wanted.n_batch = context
        wanted.n_ubatch = min(context, 512)
        wanted.n_seq_max = SEQUENCES
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.kv_unified = True  # a fork shares the cells of what it was forked from
        wanted.swa_full = True  # a rewind must find what a sliding window would have dropped
        wanted.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, wanted)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise ModelError(f"llama.cpp has no memory for {path} with a context of {context}")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._free = list(range(SEQUENCES))
        self._lock = threading.RLock()  # llama.cpp's contexts are not made for several threads at once

    def close(self) -> None:
        """Give the memory back."""
        with self._lock:
            if self._context:
                llama_cpp.llama_free(self._context)
                llama_cpp.llama_model_free(self._model)
                self._context = None

    def open_sequence(self) -> int:
        """A number for a new, empty sequence; ModelError when all are in use."""
        with self._lock:
            if not self._free:
                raise ModelError(f"more than {SEQUENCES} sessions of one model", "drop those that are done")
            return self._free.pop()

    def close_sequence(self, sequence: int) -> None:
        """Forget a sequence and make its number free."""
        with self._lock:
            if self._context:
                llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
                self._free.append(sequence)

    def copy_sequence(self, sequence: int) -> int:
        """A new sequence that continues from the same point."""
        with self._lock:
            twin = self.open_sequence()
            llama_cpp.llama_memory_seq_cp(self._memory, sequence, twin, -1, -1)
            return twin

    def cut_sequence(self, sequence: int, length: int) -> None:
        """Forget everything of a sequence from position `length` on."""
        with self._lock:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def read(self, sequence: int, start: int, rows: Sequence[int] | Floats, keep: int) -> Floats:
        """Read ids, or embeddings `[L, H]`, from position `start` on; logits of the last `keep`, `[K, V]`."""
        count = len(rows)
        embedded = isinstance(rows, np.ndarray)
        batch = llama_cpp.llama_batch_init(count, self.hidden if embedded else 0, 1)
        try:
            batch.n_tokens = count
            if embedded:
                flat = np.ascontiguousarray(rows, np.float32)
                ctypes.memmove(batch.embd, flat.ctypes.data, flat.nbytes)
            for place in range(count):
                if not embedded:
                    batch.token[place] = rows[place]
                batch.pos[place] = start + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = sequence
                batch.logits[place] = place >= count - keep
            with self._lock:
                code = llama_cpp.llama_decode(self._context, batch)
                if code:
                    raise ModelError(f"llama.cpp stopped with code {code}", "too many sessions, or a text too long")
                found = np.empty((keep, self.vocab_size), np.float32)
                for row in range(keep):
                    pointer = llama_cpp.llama_get_logits_ith(self._context, count - keep + row)
                    found[row] = np.ctypeslib.as_array(pointer, shape=(self.vocab_size,))
                return found
        finally:
            llama_cpp.llama_batch_free(batch)


def _check(path: Path) -> None:
    """What llama.cpp would only log, or end the process for."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    if head[:4] != _MAGIC:
        raise ModelError(f"{path} is not a GGUF file", "export the model again with `octopus export --to gguf`")
    if len(head) < 24 or not 2 <= struct.unpack("<I", head[4:8])[0] <= 3:
        raise ModelError(f"{path} is cut off or of another GGUF version", "export the model again")


__all__ = ["SEQUENCES", "LlamaContext", "silence"]
