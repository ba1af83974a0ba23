"""Bad input at the command line: one clear line, the documented exit code, no traceback, nothing carried out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import Command, phone, refused_in_one_line, write_functions
from octopus.manifest import Manifest
from scripted_model import write_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x1b\x00"])
def test_empty_text(octopus: Command, text: str) -> None:
    refused_in_one_line(octopus("run", "--yes", text), 2, "empty")
    refused_in_one_line(octopus("run", "--yes", stdin=text.encode()), 2, "empty")


def test_far_too_long_text(octopus: Command) -> None:
    refused_in_one_line(octopus("run", "--yes", "text this to mom " * 3000), 2, "characters", "4,000")
    refused_in_one_line(octopus("run", "--yes", stdin=b"a" * 50_000), 2, "50,000")


def test_text_that_is_not_utf8(octopus: Command) -> None:
    refused_in_one_line(octopus("run", "--yes", stdin=b"\xff\xfe\xfa hello"), 2, "UTF-8")


def test_text_and_photo_cannot_share_stdin(octopus: Command) -> None:
    refused_in_one_line(octopus("run", "--yes", "--image", "-", stdin=b"x"), 2, "stdin")


def bad_pictures() -> dict[str, bytes]:
    """What people send that is not a picture octopus can read."""
    jpeg = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(jpeg, "JPEG")
    return {
        "zero-byte": b"",
        "truncated": jpeg.getvalue()[: len(jpeg.getvalue()) // 3],
        "header-only": jpeg.getvalue()[:20],
        "text": b"this is no picture at all\n",
        "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 64,
        "html": b"<html><body>404</body></html>",
    }


@pytest.mark.parametrize("kind", sorted(bad_pictures()))
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_bad_picture(octopus: Command, tmp_path: Path, kind: str, way: str) -> None:
    content = bad_pictures()[kind]
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    source = str(path) if way == "file" else "-"
    ended = octopus("run", "--yes", "--image", source, "text this to mom", stdin=content)
    refused_in_one_line(ended, 2, *(["HEIC"] if kind == "heic" else []))


@pytest.mark.parametrize("source", ["nowhere.jpg", ".", "", "http://127.0.0.1:9/cat.jpg", "ftp://a/b.jpg", "a" * 5000])
def test_picture_that_is_not_there(octopus: Command, source: str) -> None:
    refused_in_one_line(octopus("run", "--yes", "--image", source, "text this to mom"), 2)


def test_unusual_pictures_are_read(octopus: Command, tmp_path: Path) -> None:
    frames = [Image.new("P", (20, 20), n) for n in range(3)]
    frames[0].save(tmp_path / "animated.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (30, 20), (10, 80, 90, 0)).save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(tmp_path / "sixteen.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    for path in sorted(tmp_path.glob("*.*g*")):
        assert octopus("run", "--yes", "--image", path, "text this to mom").code == 0, path.name
    assert len(phone()["texts"]) == 4


def test_unknown_model(octopus: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model in (tmp_path / "empty", tmp_path / "nowhere", "no-such-name", ROOT / "README.md", "x" * 5000):
        refused_in_one_line(octopus("run", "--yes", "--model", model, "text this to mom"), 1, "model")


def test_tampered_weights(octopus: Command, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tampered")
    (folder / "decoder.onnx").write_bytes(b"weights")
    Manifest.load(folder).with_files(folder, ["decoder.onnx"]).save(folder)
    (folder / "decoder.onnx").write_bytes(b"Weights")
    refused_in_one_line(octopus("run", "--yes", "--model", folder, "text this to mom"), 1, "decoder.onnx")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_broken_manifest(octopus: Command, tmp_path: Path, content: str) -> None:
    folder = write_model(tmp_path / "broken")
    (folder / "manifest.json").write_text(content)
    refused_in_one_line(octopus("run", "--yes", "--model", folder, "text this to mom"), 1, "manifest.json")


def test_functions_the_model_was_not_trained_for(octopus: Command, tmp_path: Path) -> None:
    path = tmp_path / "lamp.py"
    path.write_text(
        "from octopus.functions import Effect, function\n\n\n"
        "@function(effect=Effect.WRITE)\ndef lamp(phone):\n    'Switch the lamp.'\n"
    )
    refused_in_one_line(octopus("run", "--functions", path, "text this to mom"), 1, "lamp", "not trained")


def test_a_function_file_with_a_missing_annotation(octopus: Command, tmp_path: Path) -> None:
    path = write_functions(tmp_path, "phone, item, quantity: int = 1", "    Args:\n        item: The item.\n")
    refused_in_one_line(octopus("run", "--functions", path, "买两盒牛奶"), 2, "mine.py:5", "item", "annotation")


@pytest.mark.parametrize(
    "content", ["def broken(:\n", "import nothing_of_this_name\n", "x = 1\n", "raise SystemExit(0)\n"]
)
def test_a_function_file_that_cannot_be_used(octopus: Command, tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content)
    refused_in_one_line(octopus("run", "--functions", path, "买两盒牛奶"), 2, "mine.py")


def test_a_phone_that_cannot_be_used(octopus: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phone.txt"
    path.write_text("this is no database, but it is long enough to look at" * 40)
    with monkeypatch.context() as context:
        context.setenv("OCTOPUS_PHONE", str(path))
        ended = octopus("run", "--yes", "text this to mom")
    refused_in_one_line(ended, 5, "phone.txt", "OCTOPUS_PHONE")


@pytest.mark.parametrize("threads", ["0", "-1", "many", "²"])
def test_a_setting_that_makes_no_sense(octopus: Command, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setenv("OCTOPUS_THREADS", threads)
        ended = octopus("run", "--yes", "text this to mom")
    refused_in_one_line(ended, 2, "OCTOPUS_THREADS")


@pytest.mark.parametrize("arguments", [("run", "--colour"), ("jump",), ("run", "--model"), ("phone", "now")])
def test_a_command_line_that_makes_no_sense(octopus: Command, arguments: tuple[str, ...]) -> None:
    refused_in_one_line(octopus(*arguments), 2)


def test_an_unexpected_error_is_one_line_too(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("octopus.agent.open_backend", explode)
    refused_in_one_line(octopus("run", "--yes", "text this to mom"), 1, "RuntimeError", "OCTOPUS_DEBUG")
    monkeypatch.setenv("OCTOPUS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        octopus("run", "--yes", "text this to mom")
