"""Does an export still say what the checkpoint says? Cosines of embeddings and logits, top-1 agreement, and scores.

In go two backends, or the folders they come from; out comes a `Parity`, or a `ModelError` when it is below the floors.
Prompts and pictures are random by default: real ones agree better, so the floors are on the safe side. With a folder of
development cases the scores of both are compared too. `write_report` puts it all into a small table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octopus.errors import ModelError
from octopus.manifest import Manifest
from octopus.runtime import Backend, Floats

REPORT = "export.md"


@dataclass(frozen=True)
class Parity:
    """How far two backends agree: the lowest cosines over all rows, and the share of equal first choices."""

    image_cosine: float
    logits_cosine: float
    top1: float

    def describe(self) -> str:
        """One line for people."""
        return f"image cosine {self.image_cosine:.5f}, logits cosine {self.logits_cosine:.5f}, top-1 {self.top1:.1%}"


FLOORS = {
    "fp32": Parity(image_cosine=0.9999, logits_cosine=0.9999, top1=0.99),
    "fp16": Parity(image_cosine=0.999, logits_cosine=0.999, top1=0.95),
    "int8": Parity(image_cosine=0.99, logits_cosine=0.99, top1=0.85),
    "int4": Parity(image_cosine=0.99, logits_cosine=0.75, top1=0.50),
}
"""The lowest agreement that is taken for a faithful export, by precision."""
SAME_AS = {"F16": "fp16", "Q8_0": "int8", "Q5_K_M": "int4", "Q4_K_M": "int4", "Q4_0": "int4"}
DROPS = {"fp32": 0.0, "fp16": 0.002, "int8": 0.01, "int4": 0.03}
"""How much of the development-set scores may be lost."""
STEPS = 200


def verify_onnx(
    checkpoint_dir: str | Path,
    onnx_dir: str | Path,
    prompts: Sequence[Sequence[int]] | None = None,
    floors: Parity = FLOORS["int8"],
) -> Parity:
    """Compare an ONNX folder with the checkpoint it was made from.

    Raises:
        ModelError: if any of the three measures is below its floor.
    """
    from octopus.runtime.onnx import OnnxBackend
    from octopus.runtime.torch import TorchBackend

    manifest = Manifest.load(onnx_dir)
    manifest.check_files(onnx_dir)
    return check(TorchBackend(checkpoint_dir), OnnxBackend(onnx_dir), manifest, floors, str(onnx_dir), prompts)


def check(
    reference: Backend,
    other: Backend,
    manifest: Manifest,
    floors: Parity,
    what: str,
    prompts: Sequence[Sequence[int]] | None = None,
) -> Parity:
    """Compare two backends; ModelError if any of the three measures is below its floor."""
    parity = compare(reference, other, manifest, prompts)
    for measure in ("image_cosine", "logits_cosine", "top1"):
        found, floor = getattr(parity, measure), getattr(floors, measure)
        if not found >= floor:  # also catches NaN
            raise ModelError(
                f"the export in {what} differs from the checkpoint: {parity.describe()}",
                f"{measure} must be at least {floor}; try fp32 or F16 to see whether quantisation is the reason",
            )
    return parity


def check_scores(checkpoint: Path, folder: Path, cases: Path, drop: float, limit: int | None = None) -> dict[str, Any]:
    """Scores of both on the development cases in `cases`, as `octopus data build` made them.

    Raises:
        ModelError: the export loses more than `drop` of right functions or of right arguments.
    """
    from octopus.agent import Agent
    from octopus.runtime.torch import TorchBackend
    from octopus.training.evaluate import examine

    found: dict[str, Any] = {}
    agents = {"checkpoint": Agent(checkpoint, backend=TorchBackend(checkpoint)), "export": Agent(folder)}
    rates = {name: examine(agent, cases, limit=limit)[0].languages["all"] for name, agent in agents.items()}
    for rate in ("function", "arguments"):
        before, after = (rates[name][rate].share or 0.0 for name in agents)
        found[rate] = {"checkpoint": before, "export": after}
        if not before - after <= drop:
            raise ModelError(
                f"the export loses {100 * (before - after):.1f} points of the development set's {rate} score",
                f"at most {100 * drop:.1f} may be lost; use more bits",
            )
    return found


def write_report(folder: Path, quant: str, parity: Parity, scores: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write `export.md`, the sizes and the agreement, beside the files; its text."""
    rows = [f"# Export in {quant}", "", "| file | MB |", "|---|---:|"]
    rows += [f"| {name} | {(folder / name).stat().st_size / 1e6:.1f} |" for name in names]
    rows += ["", "| compared with the checkpoint | |", "|---|---:|"]
    rows += [f"| lowest cosine of image embeddings | {parity.image_cosine:.5f} |"]
    rows += [f"| lowest cosine of logits | {parity.logits_cosine:.5f} |"]
    rows += [f"| same first choice, {STEPS} steps or more | {parity.top1:.1%} |"]
    for rate, pair in scores.items():
        rows.append(f"| development set, {rate}: checkpoint, export | {pair['checkpoint']:.1%}, {pair['export']:.1%} |")
    text = "\n".join(rows) + "\n"
    (folder / REPORT).write_text(text, encoding="utf-8")
    return text


def compare(
    reference: Backend,
    other: Backend,
    manifest: Manifest,
    prompts: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> Parity:
    """Run both on the same pictures and prompts, each prompt once with and once without a picture.

    `prompts` are ids without image placeholders. Each is read up to its middle as a prompt and then in two steps.
    There are enough random ones for `STEPS` choices.
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
    count = max(
        12, math.ceil(2 * STEPS / longest)
    )  # about a quarter of each prompt is compared, without and with image
    return [random.choice(ids, size=random.integers(longest // 2, longest + 1)).tolist() for _ in range(count)]


def _cosine(a: Floats, b: Floats) -> Floats:
    """Cosine of each pair of rows."""
    return np.asarray((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1) + 1e-12), np.float32)


__all__ = [
    "REPORT",
    "DROPS",
    "FLOORS",
    "SAME_AS",
    "Parity",
    "check",
    "check_scores",
    "compare",
    "verify_onnx",
    "write_report",
]
