"""nano's own checkpoint, unquantised, in every backend: the same calls for the same requests."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("onnx")

from transformers import AutoConfig  # noqa: E402

import octopus  # noqa: E402
from octopus import Query, Registry  # noqa: E402
from octopus.decode import Memory, plan  # noqa: E402
from octopus.export.to_onnx import export_embeddings, save_decoder, save_graph  # noqa: E402
from octopus.hub import open_backend  # noqa: E402
from octopus.manifest import Manifest  # noqa: E402
from octopus.model import decoder_spec, load_llava  # noqa: E402
from octopus.runtime import Backend  # noqa: E402
from octopus.runtime.torch import TorchBackend  # noqa: E402
from octopus.tokens import Tokens  # noqa: E402

CHECKPOINT = Path(octopus.__file__).parent / "models" / "nano" / "checkpoint"
REQUESTS = 200

pytestmark = pytest.mark.skipif(not (CHECKPOINT / "manifest.json").is_file(), reason="nano's checkpoint is not there")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_llava(CHECKPOINT)


@pytest.fixture(scope="module")
def expected(model: Any) -> list[tuple[object, ...]]:
    return answers(TorchBackend(model))


def answers(backend: Backend) -> list[tuple[object, ...]]:
    """What 200 requests lead to; every fourth has a picture, whose embeddings are the same for all backends."""
    tokens, registry, memory = Tokens.load(CHECKPOINT), Registry.default(), Memory()
    lines = (Path(__file__).parent.parent / "benchmarks" / "independent.tsv").read_text(encoding="utf-8").splitlines()
    texts = [re.sub(r"\[\w+:([^\]]*)\]", r"\1", line.split("\t")[3]) for line in lines if "\t" in line]
    rows, width = tokens.manifest.image.tokens, decoder_spec(AutoConfig.from_pretrained(CHECKPOINT).text_config).hidden
    image_NH = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    found: list[tuple[object, ...]] = []
    for number, text in enumerate(texts[:: len(texts) // REQUESTS][:REQUESTS]):
        seen = 0.05 * image_NH if number % 4 == 0 else None
        made = plan(Query(text), backend, tokens, registry, photo_embeddings_NH=seen, memory=memory)
        found.append((made.refused, made.question, [(c.name, dict(c.arguments), c.missing) for c in made.calls]))
    assert len(found) == REQUESTS
    return found


def manifest_of(model: Any) -> Manifest:
    """The checkpoint's manifest with the shape of its decoder, as exporters write it."""
    return replace(Manifest.load(CHECKPOINT), decoder=decoder_spec(model.config.text_config))


def test_onnx(model: Any, expected: list[tuple[object, ...]], tmp_path: Path) -> None:
    manifest_of(model).save(tmp_path)
    save_graph(export_embeddings(model, "fp32"), tmp_path / "embed_tokens_fp32.onnx")
    save_decoder(model, "fp32", tmp_path / "decoder_model_merged_fp32.onnx")
    assert answers(open_backend(tmp_path)) == expected


def test_gguf(model: Any, expected: list[tuple[object, ...]], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
    from tokenizers import Tokenizer

    from octopus.export.gguf_files import write_language

    manifest = manifest_of(model)
    manifest.save(tmp_path)
    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    write_language(model, tokenizer, manifest, tmp_path / "nano-F16.gguf", "F16")
    found = answers(open_backend(tmp_path))
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    assert same >= REQUESTS - 2  # keys, values and weights in 16 bits: a near tie may fall the other way
