"""GGUF files hold what the checkpoint holds; what llama.cpp would compute wrongly is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
gguf = pytest.importorskip("gguf")

from tokenizers import Tokenizer  # noqa: E402
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel  # noqa: E402

from octopus.build import build  # noqa: E402
from octopus.errors import ModelError, UsageError  # noqa: E402
from octopus.export.command import export  # noqa: E402
from octopus.export.gguf_files import check_language, check_vision, write_language, write_mmproj  # noqa: E402
from octopus.manifest import Manifest  # noqa: E402
from octopus.model import TimmVisionConfig, load_llava  # noqa: E402
from tiny_families import FAMILIES, save_language, text_config  # noqa: E402

VIT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
GEMMA = {  # as llama.cpp knows it
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "query_pre_attn_scalar": 32,
}


def built(folder: Path, family: str = "qwen2", tower: str = "siglip") -> Path:
    """A tiny checkpoint."""
    torch.manual_seed(0)
    config = SiglipVisionConfig(**VIT) if tower == "siglip" else CLIPVisionConfig(**VIT)
    kind = SiglipVisionModel if tower == "siglip" else CLIPVisionModel
    kind(config).save_pretrained(folder / "vision")
    language = save_language(family, folder / "lm", **(GEMMA if family == "gemma3" else {}))
    build(str(folder / "vision"), str(language), folder / "checkpoint", name="tiny")
    return folder / "checkpoint"


def tensors(path: Path) -> dict[str, Any]:
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.dequantize(t.data, t.tensor_type).reshape(tuple(t.shape)[::-1]) for t in reader.tensors}


def field(path: Path, name: str) -> Any:
    return gguf.GGUFReader(path).fields[name].contents()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_model_file_holds_the_weights(family: str, tmp_path: Path) -> None:
    checkpoint = built(tmp_path, family)
    manifest, model = Manifest.load(checkpoint), load_llava(checkpoint)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    path = tmp_path / "lm.gguf"
    write_language(model, tokenizer, manifest, path, "F16")
    found, language = tensors(path), model.model.language_model
    own = {name: parameter.detach().numpy() for name, parameter in language.named_parameters()}
    assert len(found) == len(own) + (0 if model.config.text_config.tie_word_embeddings else 1)
    np.testing.assert_allclose(found["token_embd.weight"], own["embed_tokens.weight"], atol=1e-3)
    np.testing.assert_allclose(found["blk.1.ffn_down.weight"], own["layers.1.mlp.down_proj.weight"], atol=1e-3)
    plus = 1 if family == "gemma3" else 0
    np.testing.assert_allclose(found["output_norm.weight"], own["norm.weight"] + plus, atol=1e-6)
    query = own["layers.0.self_attn.q_proj.weight"]
    if family in ("llama", "smollm"):  # halves of a head become neighbours
        np.testing.assert_allclose(found["blk.0.attn_q.weight"][1], query[query.shape[0] // 4 // 2], atol=1e-3)
    else:
        np.testing.assert_allclose(found["blk.0.attn_q.weight"], query, atol=1e-3)
    architecture = field(path, "general.architecture")
    assert field(path, f"{architecture}.attention.head_count_kv") == 2
    types, ids = field(path, "tokenizer.ggml.token_type"), manifest.by_name("send_text").id
    assert types[ids] == gguf.TokenType.CONTROL and field(path, "tokenizer.ggml.tokens")[ids] == "<nexa_1>"
    assert len(types) == manifest.decoder.vocab and field(path, "tokenizer.ggml.eos_token_id") == manifest.special.end


@pytest.mark.parametrize(("quant", "worst"), [("Q8_0", 0.01), ("Q4_0", 0.15)])
def test_fewer_bits_stay_near(quant: str, worst: float, tmp_path: Path) -> None:
    checkpoint = built(tmp_path)
    manifest, model = Manifest.load(checkpoint), load_llava(checkpoint)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    for kind in ("F16", quant):
        write_language(model, tokenizer, manifest, tmp_path / f"{kind}.gguf", kind)
    assert (tmp_path / f"{quant}.gguf").stat().st_size < (tmp_path / "F16.gguf").stat().st_size
    whole, small = tensors(tmp_path / "F16.gguf"), tensors(tmp_path / f"{quant}.gguf")
    for name, weight in whole.items():
        assert np.linalg.norm(small[name] - weight) < worst * np.linalg.norm(weight), name


def test_mmproj_holds_the_tower_without_its_last_norm(tmp_path: Path) -> None:
    checkpoint = built(tmp_path)
    manifest, model = Manifest.load(checkpoint), load_llava(checkpoint)
    write_mmproj(model, manifest, tmp_path / "mmproj.gguf")
    found = tensors(tmp_path / "mmproj.gguf")
    vision = model.model.vision_tower.vision_model
    fc1 = vision.encoder.layers[2].mlp.fc1.weight.detach().numpy()
    np.testing.assert_allclose(found["v.blk.2.ffn_up.weight"], fc1, atol=1e-3)
    np.testing.assert_allclose(
        found["mm.2.bias"], model.model.multi_modal_projector.linear_2.bias.detach().numpy(), atol=1e-6
    )
    assert "v.post_ln.weight" not in found and found["v.patch_embd.weight"].shape == (32, 3, 16, 16)
    path = tmp_path / "mmproj.gguf"
    assert field(path, "general.type") == "mmproj" and field(path, "clip.projector_type") == "mlp"
    assert field(path, "clip.vision.block_count") == 3
    assert field(path, "clip.vision.image_mean") == pytest.approx(list(manifest.image.mean))


def test_other_towers_have_no_mmproj(tmp_path: Path) -> None:
    model = load_llava(built(tmp_path, tower="clip"))
    assert "class token" in (check_vision(model.config) or "")
    with pytest.raises(ModelError, match="class token"):
        write_mmproj(model, Manifest.load(tmp_path / "checkpoint"), tmp_path / "mmproj.gguf")
    assert not (tmp_path / "mmproj.gguf").exists()
    model.config.vision_config = TimmVisionConfig()
    assert "regnetx_002" in (check_vision(model.config) or "")


def test_what_llama_cpp_computes_otherwise_is_refused() -> None:
    check_language(text_config("gemma3", 300, **GEMMA))
    with pytest.raises(ModelError, match="every 6th layer"):
        check_language(text_config("gemma3", 300))
    with pytest.raises(ModelError, match="usual scale"):
        check_language(text_config("gemma3", 300, **{**GEMMA, "query_pre_attn_scalar": 24}))
    scaled = text_config("qwen2", 300, rope_scaling={"rope_type": "linear", "factor": 2.0})
    with pytest.raises(ModelError, match="scaled rotary"):
        check_language(scaled)


def test_precisions_belong_to_formats(tmp_path: Path) -> None:
    for to, quant in (("onnx", "Q4_0"), ("gguf", "int8")):
        with pytest.raises(UsageError, match=f"there is no {quant} in {to}"):
            export(tmp_path, tmp_path / "out", to=to, quant=quant)


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_0", "Q4_K_M"])
def test_an_export_is_verified_and_complete(quant: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
    checkpoint = built(tmp_path)
    found = export(checkpoint, tmp_path / "out", to="gguf", quant=quant)
    manifest = Manifest.load(tmp_path / "out")
    manifest.check_files(tmp_path / "out")
    assert {f"tiny-{quant}.gguf", "mmproj-tiny-F16.gguf", "tokenizer.json"} < set(manifest.files)
    assert (tmp_path / "out" / "export.md").read_text(encoding="utf-8") == found["report"]
    with pytest.raises(ModelError, match="class token"):
        export(built(tmp_path / "clip", tower="clip"), tmp_path / "other", to="gguf", quant="F16", mmproj=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_the_same_in_llama_cpp(family: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
    found = export(built(tmp_path, family), tmp_path / "out", to="gguf", quant="F16", mmproj=False)
    assert found["parity"]["logits_cosine"] > 0.999


def test_stock_llama_cpp_sees_the_same_picture(tmp_path: Path) -> None:
    """Its own image code, from our mmproj file: embeddings as PyTorch's, and an answer from its chat handler."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
    import ctypes
    import io
    from base64 import b64encode

    import llama_cpp
    from llama_cpp import mtmd_cpp
    from llama_cpp.llama_chat_format import Llava15ChatHandler
    from PIL import Image

    from octopus.image import preprocess

    checkpoint = built(tmp_path)
    export(checkpoint, tmp_path / "out", to="gguf", quant="F16")
    language, mmproj = tmp_path / "out" / "tiny-F16.gguf", tmp_path / "out" / "mmproj-tiny-F16.gguf"
    photo = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    manifest, model = Manifest.load(checkpoint), load_llava(checkpoint)
    with torch.no_grad():
        pixels = torch.from_numpy(preprocess(photo, manifest.image))[None]
        expected = model.get_image_features(pixel_values=pixels)[0].numpy()

    loaded = llama_cpp.Llama(str(language), n_ctx=256, verbose=False)
    settings = mtmd_cpp.mtmd_context_params_default()
    settings.use_gpu = False
    context = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), loaded.model, settings)
    assert context
    flat = (ctypes.c_uint8 * photo.size).from_buffer_copy(photo.tobytes())
    bitmap = mtmd_cpp.mtmd_bitmap_init(32, 32, flat)
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    marker = mtmd_cpp.mtmd_default_marker()
    text = mtmd_cpp.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert mtmd_cpp.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) == 0
    parts = [mtmd_cpp.mtmd_input_chunks_get(chunks, n) for n in range(mtmd_cpp.mtmd_input_chunks_size(chunks))]
    (image,) = (part for part in parts if mtmd_cpp.mtmd_input_chunk_get_type(part) == 1)  # not text
    assert mtmd_cpp.mtmd_encode_chunk(context, image) == 0
    pointer = mtmd_cpp.mtmd_get_output_embd(context)
    got = np.ctypeslib.as_array(pointer, shape=expected.shape)
    cosine = (got * expected).sum(-1) / np.linalg.norm(got, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosine.min() > 0.999

    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "PNG")
    url = "data:image/png;base64," + b64encode(stream.getvalue()).decode()
    handler = Llava15ChatHandler(clip_model_path=str(mmproj), verbose=False)
    talking = llama_cpp.Llama(str(language), chat_handler=handler, n_ctx=512, verbose=False)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "buy this"}]
    answer = talking.create_chat_completion([{"role": "user", "content": content}], max_tokens=4)
    assert answer["usage"]["completion_tokens"] > 0
