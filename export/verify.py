"""Does an export still say what the checkpoint says? Cosines of embeddings and logits, and top-1 agreement.

In go two backends, or the folders they come from; out comes a `Parity`, or a `ModelError` when it is below the floors.
Prompts and pictures are random by default: real ones agree better, so the floors are on the safe side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octopus.errors import ModelError
from octopus.manifest import Manifest
from octopus.runtime import Backend, Floats


@dataclass(frozen=True)
class Parity:
    """How far two backends agree: the lowest cosines over all rows, and the share of equal first choices."""

    image_cosine: float
    logits_cosine: float
    top1: float

    def describe(self) -> str:
        """One line for people."""
        return f"image cosine {self.image_cosine:.5f}, logits cosine {self.logits_cosine:.5f}, top-1 {self.top1:.1%}"


def verify_onnx(
    checkpoint_dir: str | Path,
    onnx_dir: str | Path,
    prompts: Sequence[Sequence[int]] | None = None,
    floors: Parity = Parity(image_cosine=0.99, logits_cosine=0.99, top1=0.85),
) -> Parity:
    """Compare an ONNX folder with the checkpoint it was made from.

    Raises:
        ModelError: if any of the three measures is below its floor.
    """
    from octopus.runtime.onnx import OnnxBackend
    from octopus.runtime.torch import TorchBackend

    manifest = Manifest.load(onnx_dir)
    manifest.check_files(onnx_dir)
    parity = compare(TorchBackend(checkpoint_dir), OnnxBackend(onnx_dir), manifest, prompts)
    for measure in ("image_cosine", "logits_cosine", "top1"):
        found, floor = getattr(parity, measure), getattr(floors, measure)
        if not found >= floor:  # also catches NaN
            raise ModelError(
                f"the export in {onnx_dir} differs from the checkpoint: {parity.describe()}",
                f"{measure} must be at least {floor}; try quant='fp32' to see whether quantisation is the reason",
            )
    return parity


def compare(
    reference: Backend,
    other: Backend,
    manifest: Manifest,
    prompts: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> Parity:
    """Run both on the same pictures and prompts, each prompt once with and once without a picture.

    `prompts` are ids without image placeholders. Each is read up to its middle as a prompt and then in two steps.
    """
    random = np.random.default_rng(seed)
    prompts = prompts or _random_prompts(manifest, random)
    image_cosines, logits_cosines, hits = [], [], []
    for prompt in prompts:
        pixels_CHW = random.standard_normal((3, manifest.image.size, manifest.image.size)).astype(np.float32)
        image_NH = reference.encode_image(pixels_CHW)
        image_cosines.append(_cosine(image_NH, other.encode_image(pixels_CHW)))
        for image in (None, image_NH):  # the same picture rows for both: here the language model is judged
            placeholders = [] if image is None else [manifest.special.image] * len(image)
            rows_KV = [_read(backend, placeholders, prompt, image) for backend in (reference, other)]
            logits_cosines.append(_cosine(*rows_KV))
            hits.append(rows_KV[0].argmax(-1) == rows_KV[1].argmax(-1))
    return Parity(
        image_cosine=float(np.concatenate(image_cosines).min()),
        logits_cosine=float(np.concatenate(logits_cosines).min()),
        top1=float(np.concatenate(hits).mean()),
    )


def _read(backend: Backend, placeholders: list[int], prompt: Sequence[int], image: Floats | None) -> Floats:
    """Scores after the first half of a prompt, and after each id of the rest."""
    middle = max(1, len(prompt) // 2)
    session = backend.prefill([*placeholders, *prompt[:middle]], image)
    rows_KV = [session.logits_V[None]]
    for step in (prompt[middle : middle + 1], prompt[middle + 1 :]):
        if step:
            rows_KV.append(session.step(step))
    return np.concatenate(rows_KV)


def _random_prompts(manifest: Manifest, random: np.random.Generator) -> list[list[int]]:
    ids = [i for i in range(manifest.decoder.vocab) if i not in (manifest.special.image, manifest.special.pad)]
    longest = max(2, min(48, manifest.decoder.context - manifest.image.tokens))
    return [random.choice(ids, size=random.integers(2, longest + 1)).tolist() for _ in range(12)]


def _cosine(a: Floats, b: Floats) -> Floats:
    """Cosine of each pair of rows."""
    return np.asarray((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1) + 1e-12), np.float32)


__all__ = ["Parity", "compare", "verify_onnx"]
