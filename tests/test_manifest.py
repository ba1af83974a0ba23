"""Manifest: what was saved is loaded, and whatever does not fit the weights is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octopus.core import Effect, Function, Parameter
from octopus.errors import ModelError
from octopus.manifest import (
    Calibration,
    DecoderSpec,
    FunctionToken,
    ImageSpec,
    Manifest,
    SpecialIds,
    hash_file,
    signature_hash,
)


def _function(name: str, *parameters: Parameter) -> Function:
    return Function(name, name, parameters, Effect.READ, body=lambda: None)


TEXT = _function("send_text", Parameter("to", "string"))
SEARCH = _function("google_search", Parameter("query", "string"))
MANIFEST = Manifest(
    name="tiny",
    template="<image>{query}\nResponse:",
    functions=(
        FunctionToken("<nexa_1>", 7, "send_text", signature_hash(TEXT)),
        FunctionToken("<nexa_2>", 8, "google_search", signature_hash(SEARCH)),
    ),
    special=SpecialIds(arg=3, missing=4, end=5, image=2, pad=0, bos=1),
    image=ImageSpec(size=64, mean=(0.1, 0.2, 0.3), fit="crop"),
    decoder=DecoderSpec(layers=2, kv_heads=2, head_dim=8, hidden=16, vocab=300, context=128),
    calibration=Calibration(temperature=1.5, threshold=0.4),
)


def test_round_trip(tmp_path: Path) -> None:
    for manifest in (MANIFEST, replace(MANIFEST, copies=True, names=("lamp", "台灯"))):
        manifest.save(tmp_path)
        assert Manifest.load(tmp_path) == manifest


def test_missing_folder_and_broken_json(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        Manifest.load(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"special": {"arg": 1}}, "malformed at special"),
        ({"decoder": {**vars(MANIFEST.decoder), "layers": "many"}}, r"malformed at decoder\.layers"),
        ({"image": {"fit": "stretch"}}, r"malformed at image\.fit"),
        ({"template": "no place for the request"}, "template"),
        ({"calibration": {"temperature": 0}}, "temperature"),
        ({"functions": [vars(MANIFEST.functions[0])] * 2}, "same function token twice"),
    ],
)
def test_a_wrong_manifest_says_where(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = MANIFEST.save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        Manifest.load(tmp_path)


def test_changed_and_missing_weights_are_named(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    manifest = MANIFEST.with_files(tmp_path, ["b.onnx", "a.onnx"])
    manifest.check_files(tmp_path)
    (tmp_path / "b.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"b\.onnx was changed"):
        manifest.check_files(tmp_path)
    (tmp_path / "b.onnx").unlink()
    with pytest.raises(ModelError, match=r"b\.onnx is missing"):
        manifest.check_files(tmp_path)
    with pytest.raises(ModelError, match="outside"):
        replace(MANIFEST, files={"../a.onnx": "sha256:0"}).check_files(tmp_path)


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for unreadable in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(ModelError, match=f"{unreadable} cannot be read"):
            hash_file(unreadable)


def test_a_graph_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "decoder_model_merged_int8.onnx").write_bytes(b"weights of somebody else")
    with pytest.raises(ModelError, match="not listed"):
        MANIFEST.check_files(tmp_path)


def test_functions_must_be_those_of_the_training() -> None:
    both = {"send_text": TEXT, "google_search": SEARCH}
    MANIFEST.check_functions(both)
    with pytest.raises(ModelError, match="google_search, which is not registered"):
        MANIFEST.check_functions({"send_text": TEXT})
    with pytest.raises(ModelError, match="another signature"):
        MANIFEST.check_functions({**both, "send_text": _function("send_text", Parameter("whom", "string"))})
    with pytest.raises(ModelError, match="not trained for wave"):
        MANIFEST.check_functions({**both, "wave": _function("wave")})
    assert MANIFEST.by_name("send_text").id == 7
    with pytest.raises(ModelError, match="not trained for wave"):
        MANIFEST.by_name("wave")
