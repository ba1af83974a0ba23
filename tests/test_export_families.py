"""Every family of language models through the fused ONNX decoder, in every precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("onnx")

from transformers import SiglipVisionConfig, SiglipVisionModel  # noqa: E402

from octopus.build import build  # noqa: E402
from octopus.export.quantize import BLOCKS, pack_blocks  # noqa: E402
from octopus.export.to_onnx import export_embeddings, save_decoder, save_graph  # noqa: E402
from octopus.export.verify import FLOORS, check  # noqa: E402
from octopus.manifest import Manifest  # noqa: E402
from octopus.model import load_llava  # noqa: E402
from octopus.runtime import Floats  # noqa: E402
from octopus.runtime.onnx import OnnxBackend  # noqa: E402
from octopus.runtime.torch import TorchBackend  # noqa: E402
from tiny_families import FAMILIES, save_language  # noqa: E402


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    SiglipVisionModel(config).save_pretrained(folder)
    return folder


class Blind(OnnxBackend):
    """Sees through other eyes: exporting a vision tower takes longer than all the rest."""

    def __init__(self, folder: Path, eyes: TorchBackend) -> None:
        super().__init__(folder, threads=1)
        self.eyes = eyes

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        return self.eyes.encode_image(pixels_CHW)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_precision(family: str, vision: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    manifest = build(str(vision), str(save_language(family, tmp_path / "lm")), checkpoint)
    model = load_llava(checkpoint)
    reference = TorchBackend(model)
    for quant, suffix in (("fp32", "fp32"), ("fp16", "fp16"), ("int8", "int8"), ("int4", "q4")):
        folder = tmp_path / quant
        folder.mkdir()
        save_graph(export_embeddings(model, quant), folder / f"embed_tokens_{suffix}.onnx")
        names = save_decoder(model, quant, folder / f"decoder_model_merged_{suffix}.onnx")
        assert names == [f"decoder_model_merged_{suffix}.onnx"]
        manifest.save(folder)
        check(reference, Blind(folder, reference), manifest, FLOORS[quant], quant)


def test_weights_beside_the_graph_are_the_same(vision: Path, tmp_path: Path) -> None:
    from octopus.export.decoder import write_decoder

    checkpoint = tmp_path / "checkpoint"
    manifest = build(str(vision), str(save_language("qwen2", tmp_path / "lm")), checkpoint)
    model = load_llava(checkpoint)
    scores = []
    for beside in (False, True):
        folder = tmp_path / str(beside)
        folder.mkdir()
        save_graph(export_embeddings(model, "int4"), folder / "embed_tokens_q4.onnx")
        names = write_decoder(model, folder / "decoder_model_merged_q4.onnx", "int4", beside=beside)
        assert len(names) == 1 + beside and all((folder / name).is_file() for name in names)
        manifest.save(folder)
        scores.append(OnnxBackend(folder, threads=1).prefill([5, 6, 7, 8]).logits_V)
    np.testing.assert_array_equal(scores[0], scores[1])
    (tmp_path / "True" / "decoder_model_merged_q4.onnx.data").write_bytes(b"\0" * 10)
    with pytest.raises(Exception, match="cannot load"):
        OnnxBackend(tmp_path / "True")


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_are_near_what_they_stand_for(bits: int) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((5, 70)).astype(np.float32)
    weight[2] = 0
    packed, scales = pack_blocks(weight, bits)
    block = BLOCKS[bits]
    assert packed.shape == (5, -(-70 // block), block * bits // 8) and packed.dtype == np.uint8
    values = packed if bits == 8 else np.stack([packed & 15, packed >> 4], -1).reshape(5, -1, block)
    unpacked = (values.astype(np.float32) - (1 << bits - 1)) * scales.reshape(5, -1, 1)
    unpacked = unpacked.reshape(5, -1)[:, :70]
    assert np.array_equal(unpacked[2], weight[2])
    error = np.linalg.norm(unpacked - weight) / np.linalg.norm(weight)
    assert error < (0.12 if bits == 4 else 0.01)


def test_the_manifest_says_how_long_a_graph_reads(vision: Path, tmp_path: Path) -> None:
    from octopus.export.decoder import CONTEXT
    from octopus.export.to_onnx import export_onnx

    language = save_language("qwen2", tmp_path / "lm", max_position_embeddings=9000)
    manifest = build(str(vision), str(language), tmp_path / "checkpoint")
    assert manifest.decoder.context == 9000
    export_onnx(tmp_path / "checkpoint", tmp_path / "out", "int4")
    found = Manifest.load(tmp_path / "out")
    assert found.decoder == replace(manifest.decoder, context=CONTEXT)
    assert {path.name for path in (tmp_path / "out").glob("*.onnx")} == {
        f"{stem}_q4.onnx" for stem in ("vision_encoder", "embed_tokens", "decoder_model_merged")
    }
