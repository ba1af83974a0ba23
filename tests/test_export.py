from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
onnx = pytest.importorskip("onnx")

from transformers import CLIPVisionConfig  # noqa: E402

from octopus.cli import main  # noqa: E402
from octopus.errors import ModelError  # noqa: E402
from octopus.export.quantize import embedding_graph, store_int8  # noqa: E402
from octopus.export.to_onnx import export_onnx, export_vision  # noqa: E402
from octopus.export.verify import REPORT, Parity, compare, verify_onnx  # noqa: E402
from octopus.manifest import FILE_NAME, Manifest  # noqa: E402
from octopus.model import build_llava  # noqa: E402
from octopus.runtime.onnx import OnnxBackend  # noqa: E402
from octopus.runtime.torch import TorchBackend  # noqa: E402
from octopus.tokens import Tokens  # noqa: E402
from tiny_model import IMAGE, text_config, tiny_export  # noqa: E402

GRAPHS = ("vision_encoder", "embed_tokens", "decoder_model_merged")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.getbasetemp())[0]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.getbasetemp())[1]


def test_export_agrees_with_the_checkpoint(checkpoint: Path, int8: Path) -> None:
    parity = verify_onnx(checkpoint, int8)
    assert parity.image_cosine > 0.999 and parity.logits_cosine > 0.995 and parity.top1 > 0.9
    assert "cosine" in parity.describe()


def test_the_command_exports_verifies_and_reports(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(checkpoint), "--quant", "fp32", "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["bytes"]) == {"tokenizer.json", *(f"{stem}_fp32.onnx" for stem in GRAPHS)}
    assert found["parity"]["top1"] == 1 and min(found["parity"].values()) > 0.9999
    report = (out / REPORT).read_text(encoding="utf-8")
    assert all(name in report for name in found["bytes"]) and "200 steps" in report
    manifest = Manifest.load(out)
    manifest.check_files(out)
    parity = compare(TorchBackend(checkpoint), OnnxBackend(out), manifest)
    assert parity.image_cosine > 0.99999 and parity.logits_cosine > 0.99999 and parity.top1 == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "-o", "out"], 1, "not a model folder"),
        (["nowhere", "-o", "out", "--quant", "Q4_0"], 2, "there is no Q4_0 in onnx"),
        (["nowhere", "-o", "out", "--mmproj"], 2, "--mmproj belongs to --to gguf"),
        (["nowhere"], 2, "Missing option '-o'"),
    ],
)
def test_bad_command_lines(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == code
    written = capsys.readouterr()
    assert words in written.err and written.err.count("\n") == 1 and written.out == ""
    assert not list(tmp_path.iterdir())


def test_the_folder_is_a_complete_model(checkpoint: Path, int8: Path) -> None:
    manifest = Manifest.load(int8)
    manifest.check_files(int8)
    assert set(manifest.files) == {"tokenizer.json", *(f"{stem}_int8.onnx" for stem in GRAPHS)}
    assert {path.name for path in int8.iterdir()} == {FILE_NAME, *manifest.files}
    assert Tokens.load(int8).manifest == manifest
    assert replace(manifest, files={}) == Manifest.load(checkpoint)


def test_int8_is_small(checkpoint: Path, int8: Path) -> None:
    weights = (checkpoint / "model.safetensors").stat().st_size
    assert sum(path.stat().st_size for path in int8.glob("*.onnx")) < 0.45 * weights


def test_exporting_leaves_logging_alone() -> None:
    assert not [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]


def test_a_bad_export_is_refused(checkpoint: Path, int8: Path, tmp_path: Path) -> None:
    for path in int8.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = np.random.default_rng(0).standard_normal((Manifest.load(int8).decoder.vocab, 64)).astype(np.float32)
    onnx.save(embedding_graph(table, int8=True), str(tmp_path / "embed_tokens_int8.onnx"))
    with pytest.raises(ModelError, match="was changed"):
        verify_onnx(checkpoint, tmp_path)
    manifest = Manifest.load(tmp_path)
    manifest.with_files(tmp_path, manifest.files).save(tmp_path)
    with pytest.raises(ModelError, match="differs from the checkpoint") as error:
        verify_onnx(checkpoint, tmp_path)
    assert "logits_cosine" in error.value.hint


def test_floors_are_kept(checkpoint: Path, int8: Path) -> None:
    with pytest.raises(ModelError, match="differs"):
        verify_onnx(checkpoint, int8, prompts=[[70, 71, 72]], floors=Parity(1.1, 0.0, 0.0))


def test_a_manifest_of_another_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = Manifest.load(checkpoint)
    replace(manifest, image=replace(IMAGE, tokens=9)).save(tmp_path)
    with pytest.raises(ModelError, match="image tokens: 9 and 4"):
        export_onnx(tmp_path, tmp_path / "out")
    manifest.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        export_onnx(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tower_with_a_class_token(tmp_path: Path) -> None:
    import onnxruntime as ort

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    model = build_llava(vision, text_config(), image_token_id=9).eval()
    graph = export_vision(model, 32, "int8")
    computed = [node.op_type for node in graph.graph.node]
    assert computed.count("MatMulNBits") == 6 + 2 and "Gemm" not in computed  # the layer that is used, the projector
    onnx.save(graph, str(tmp_path / "vision.onnx"))
    pixels = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    (got,) = ort.InferenceSession(str(tmp_path / "vision.onnx")).run(None, {"pixel_values": pixels})
    with torch.no_grad():
        expected = torch.stack(model.get_image_features(pixel_values=torch.from_numpy(pixels))).numpy()
    assert got.shape == expected.shape == (3, 4, 64)
    cosine = (got * expected).sum(-1) / np.linalg.norm(got, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosine.min() > 0.999


def test_weights_that_are_all_zero_stay_zero() -> None:
    from onnx import helper, numpy_helper

    weights = [numpy_helper.from_array(np.zeros((4, 3), np.float32), "w")]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, width]) for name, width in (("x", 4), ("y", 3))
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = store_int8(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)))
    scale = next(t for t in model.graph.initializer if t.name == "w_scale")
    assert np.isfinite(numpy_helper.to_array(scale)).all()
