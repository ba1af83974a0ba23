"""The reference runtime: a Hugging Face LLaVA checkpoint through torch and transformers, in float32.

In goes a checkpoint folder; out come embeddings and logits. Slow to start and large: it is for training, evaluation
and for checking exports against. It needs no manifest and knows nothing of text, photos or functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration
from transformers.cache_utils import DynamicCache

from octopus.model import load_llava
from octopus.runtime import Floats, Session
from octopus.runtime.session import Cache, CachedSession, as_floats, check_length, place_image, start_of


class TorchBackend:
    """A checkpoint folder, or an already loaded model, run by torch. Its `threads` are those of the whole process."""

    name = "torch"

    def __init__(
        self, model: str | Path | LlavaForConditionalGeneration, device: str = "cpu", threads: int | None = None
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        loaded = load_llava(model) if isinstance(model, (str, Path)) else model.eval()
        self._model = loaded.to(device)
        self._device = device
        self._text = loaded.config.get_text_config()

    @property
    def vocab_size(self) -> int:
        """Length of `logits_V`."""
        return int(self._text.vocab_size)

    @torch.inference_mode()
    def encode_image(self, pixels_CHW: Floats) -> Floats:
        """Prepared pixels to `embeddings_NH`."""
        pixels_BCHW = torch.from_numpy(as_floats(pixels_CHW))[None].to(self._device)
        return as_floats(self._model.get_image_features(pixel_values=pixels_BCHW)[0].cpu())

    def prefill(
        self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Session | None = None
    ) -> CachedSession:
        """Read a prompt; only the scores after its last token are computed."""
        check_length(len(ids), self._text.max_position_embeddings)
        start, past = start_of(prefix, len(ids))
        rest = ids[start:]
        embeddings_LH = place_image(self._embed_ids(rest), rest, self._model.config.image_token_id, embeddings_NH)
        logits_1V, past = self._run(embeddings_LH, past, keep=1)
        return CachedSession(self._forward, past, len(ids), logits_1V[0])

    def _forward(self, ids: Sequence[int], past: Cache) -> tuple[Floats, Cache]:
        check_length(past[0].shape[2] + len(ids), self._text.max_position_embeddings)
        return self._run(self._embed_ids(ids), past, keep=len(ids))

    @torch.inference_mode()
    def _embed_ids(self, ids: Sequence[int]) -> Floats:
        return as_floats(self._model.get_input_embeddings()(torch.tensor(list(ids), device=self._device)).cpu())

    @torch.inference_mode()
    def _run(self, embeddings_LH: Floats, past: Cache, keep: int) -> tuple[Floats, Cache]:
        """One pass of the language model; logits of the last `keep` positions. `past`: key, value, key, value..."""
        cache = DynamicCache.from_legacy_cache(tuple(zip(past[::2], past[1::2], strict=True)))
        hidden_BLH = self._model.model.language_model(
            inputs_embeds=torch.from_numpy(embeddings_LH)[None].to(self._device), past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits_KV = self._model.lm_head(hidden_BLH[0, -keep:])
        present = [tensor for pair in cache.to_legacy_cache() for tensor in pair]
        return as_floats(logits_KV.cpu()), present


__all__ = ["TorchBackend"]
