"""A tiny LLaVA with random weights but every real part, shared by the tests of model, runtime and export."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from transformers import LlamaConfig, LlavaForConditionalGeneration

from octopus.export.to_onnx import export_onnx
from octopus.manifest import ImageSpec
from octopus.model import TimmVisionConfig, build_llava, decoder_spec
from octopus.tokens import FUNCTION_TOKENS, new_manifest
from tiny import FUNCTIONS, TOKENIZER

IMAGE = ImageSpec(size=64, tokens=4)


def text_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=TOKENIZER.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.1,  # larger than usual: scores apart enough to compare
        bos_token_id=None,
        eos_token_id=None,
    )


def tiny_llava() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    vision = TimmVisionConfig.measure("resnet10t", IMAGE.size)
    return build_llava(vision, text_config(), image_token_id=TOKENIZER.token_to_id("<image>"), pad_token_id=0).eval()


def save_tiny_checkpoint(folder: Path) -> Path:
    """What training leaves: weights, manifest and tokenizer."""
    model = tiny_llava()
    functions = dict(zip(FUNCTION_TOKENS, FUNCTIONS.values(), strict=False))
    model.save_pretrained(folder)
    TOKENIZER.save(str(folder / "tokenizer.json"))
    decoder = decoder_spec(model.config.text_config)
    new_manifest(TOKENIZER, functions, name="tiny", image=IMAGE, decoder=decoder).save(folder)
    return folder


@cache
def tiny_export(base: Path) -> tuple[Path, Path]:
    """The tiny checkpoint and its int8 export, made once a run in pytest's temporary folder."""
    checkpoint, folder = base / "tiny_checkpoint", base / "tiny_int8"
    checkpoint.mkdir()
    export_onnx(save_tiny_checkpoint(checkpoint), folder)
    return checkpoint, folder


def tiny_gguf(checkpoint: Path, onnx: Path, folder: Path) -> Path:
    """The tiny checkpoint as GGUF, with the vision encoder of its ONNX export."""
    from octopus.export.gguf_files import write_language
    from octopus.manifest import Manifest
    from octopus.model import load_llava

    if not folder.exists():
        folder.mkdir()
        manifest = Manifest.load(checkpoint)
        write_language(load_llava(checkpoint), TOKENIZER, manifest, folder / "tiny-F16.gguf", "F16")
        for name in ("vision_encoder_int8.onnx", "tokenizer.json"):
            (folder / name).write_bytes((onnx / name).read_bytes())
        manifest.with_files(folder, [path.name for path in folder.iterdir()]).save(folder)
    return folder
