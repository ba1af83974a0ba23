"""The default runtime: three ONNX graphs on the CPU through onnxruntime, without torch.

In goes a folder with `manifest.json`, a vision encoder, an embedding table and a decoder with key/value cache; out
come embeddings and logits. The graph names and inputs are the usual ones of exported LLaVA models. It knows nothing of
text, photos or functions, and trusts the manifest: hashes are checked by whoever loads the model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort

from octopus.errors import ModelError
from octopus.manifest import Manifest
from octopus.runtime import Floats, Session
from octopus.runtime.session import Cache, CachedSession, as_floats, check_length, place_image, start_of

VISION, EMBED, DECODER = "vision_encoder", "embed_tokens", "decoder_model_merged"
QUANTS = ("q4", "int8", "fp16", "fp32")  # in order of preference


class OnnxBackend:
    """A model folder run by onnxruntime. The vision encoder is loaded with the first picture."""

    name = "onnx"

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        self._folder = Path(folder)
        manifest = Manifest.load(self._folder)
        self._image_id = manifest.special.image
        self._shape = manifest.decoder
        self._threads = threads or default_threads()
        self._embed = load_graph(self._folder, EMBED, self._threads)
        self._decoder = load_graph(self._folder, DECODER, self._threads)
        shape = (1, self._shape.kv_heads, 0, self._shape.head_dim)
        self._empty = [np.zeros(shape, np.float32)] * (2 * self._shape.layers)
        self.every_row = False  # of the prompt gets scores, to see what it costs; only the last one is looked at
        sides = ("key", "value")
        self._inputs = {end.name for end in self._decoder.get_inputs()}
        self._past_names = [f"past_key_values.{layer}.{side}" for layer in range(self._shape.layers) for side in sides]

    @property
    def vocab_size(self) -> int:
        """Length of `logits_V`."""
        return self._shape.vocab

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        """Prepared pixels to `embeddings_NH`."""
        return encode_image(self._vision, pixels_CHW)

    def prefill(
        self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Session | None = None
    ) -> CachedSession:
        """Read a prompt; only the scores after its last token are computed."""
        check_length(len(ids), self._shape.context)
        start, past = start_of(prefix, len(ids))
        rest = ids[start:]
        embeddings_LH = place_image(self._embed_ids(rest), rest, self._image_id, embeddings_NH)
        logits_1V, past = self._run(embeddings_LH, past or self._empty, keep=len(rest) if self.every_row else 1)
        return CachedSession(self._forward, past, len(ids), logits_1V[-1])

    def _forward(self, ids: Sequence[int], past: Cache) -> tuple[Floats, Cache]:
        check_length(past[0].shape[2] + len(ids), self._shape.context)
        return self._run(self._embed_ids(ids), past, keep=len(ids))

    def _embed_ids(self, ids: Sequence[int]) -> Floats:
        (embeddings_BLH,) = self._embed.run(None, {"input_ids": np.asarray([ids], np.int64)})
        return as_floats(embeddings_BLH[0])

    def _run(self, embeddings_LH: Floats, past: Cache, keep: int) -> tuple[Floats, Cache]:
        """One pass of the decoder; logits of the last `keep` positions."""
        start, count = past[0].shape[2], len(embeddings_LH)
        feed = {
            "inputs_embeds": embeddings_LH[None],
            "position_ids": np.arange(start, start + count, dtype=np.int64)[None],
            "logits_positions": np.arange(count - keep, count, dtype=np.int64),
        }
        feed = {
            name: array for name, array in feed.items() if name in self._inputs
        }  # fused graphs count for themselves
        feed.update((name, as_floats(array)) for name, array in zip(self._past_names, past, strict=True))
        present_names = [name.replace("past_key_values", "present") for name in self._past_names]
        logits_BKV, *present = self._decoder.run(["logits", *present_names], feed)
        return logits_BKV[0], present

    @cached_property
    def _vision(self) -> ort.InferenceSession:
        return load_graph(self._folder, VISION, self._threads)


def load_graph(folder: Path, stem: str, threads: int) -> ort.InferenceSession:
    """Open one graph of a model folder, the smallest form there is.

    Raises:
        ModelError: there is none, or onnxruntime cannot read it.
    """
    path = next((p for quant in QUANTS if (p := folder / f"{stem}_{quant}.onnx").is_file()), None)
    if path is None:
        raise ModelError(f"{folder} has no {stem} graph", "export the model again or install octopus again")
    try:
        return ort.InferenceSession(str(path), _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelError(f"onnxruntime cannot load {path}: {reason}", "export the model again") from error


def encode_image(vision: ort.InferenceSession, pixels_CHW: Floats) -> Floats:
    """Prepared pixels to `embeddings_NH`."""
    (embeddings_BNH,) = vision.run(None, {"pixel_values": as_floats(pixels_CHW)[None]})
    return as_floats(embeddings_BNH[0])


def default_threads() -> int:
    """At most four: more do not help models of this size."""
    return min(4, len(_cpus()))


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # every pass has another length
    options.enable_cpu_mem_arena = False  # arenas keep the peak of a long prompt for good
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # no busy threads between passes
    return options


def _cpus() -> Sequence[int]:
    """The processors this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


__all__ = ["DECODER", "EMBED", "QUANTS", "VISION", "OnnxBackend", "default_threads", "encode_image", "load_graph"]
