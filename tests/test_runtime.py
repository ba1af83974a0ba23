"""The contract of a backend, run on all that load a checkpoint."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("onnx")

from octopus.errors import ModelError  # noqa: E402
from octopus.hub import open_backend  # noqa: E402
from octopus.manifest import Manifest  # noqa: E402
from octopus.model import load_llava  # noqa: E402
from octopus.runtime import Backend  # noqa: E402
from octopus.runtime.onnx import OnnxBackend  # noqa: E402
from octopus.runtime.torch import TorchBackend  # noqa: E402
from tiny_model import IMAGE, tiny_export, tiny_gguf  # noqa: E402

TEXT = [70, 71, 72, 73, 74, 75, 76]
PIXELS = np.random.default_rng(0).standard_normal((3, IMAGE.size, IMAGE.size)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.getbasetemp())[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.getbasetemp())[1]


@pytest.fixture(scope="module", params=["torch", "onnx", "gguf"])
def backend(
    request: pytest.FixtureRequest, checkpoint: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Backend:
    if request.param == "gguf":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
        return open_backend(tiny_gguf(checkpoint, folder, tmp_path_factory.getbasetemp() / "tiny_gguf"), 1)
    return TorchBackend(checkpoint) if request.param == "torch" else OnnxBackend(folder, threads=1)


def exact(backend: Backend) -> dict[str, float]:
    """How near two ways to the same scores must come: llama.cpp keeps keys and values in 16 bits."""
    return {"rtol": 0, "atol": 2e-2 if backend.name == "gguf" else 2e-4}


@pytest.fixture(scope="module")
def image_id(checkpoint: Path) -> int:
    return Manifest.load(checkpoint).special.image


def test_shapes(backend: Backend, image_id: int) -> None:
    image_NH = backend.encode_image(PIXELS)
    assert image_NH.shape == (IMAGE.tokens, 64) and image_NH.dtype == np.float32
    session = backend.prefill([*[image_id] * IMAGE.tokens, *TEXT], image_NH)
    assert session.length == IMAGE.tokens + len(TEXT)
    assert session.logits_V.shape == (backend.vocab_size,) and session.logits_V.dtype == np.float32
    assert session.step([80, 81]).shape == (2, backend.vocab_size)
    assert session.length == IMAGE.tokens + len(TEXT) + 2


def test_one_pass_or_many_is_the_same(backend: Backend) -> None:
    whole = backend.prefill(TEXT)
    parts = backend.prefill(TEXT[:2])
    rows_KV = parts.step(TEXT[2:5])
    parts.step(TEXT[5:6])
    parts.step(TEXT[6:])
    np.testing.assert_allclose(parts.logits_V, whole.logits_V, **exact(backend))
    np.testing.assert_allclose(rows_KV[0], backend.prefill(TEXT[:3]).logits_V, **exact(backend))
    np.testing.assert_allclose(rows_KV[2], backend.prefill(TEXT[:5]).logits_V, **exact(backend))


def test_rewind_takes_a_wrong_draft_back(backend: Backend) -> None:
    session = backend.prefill(TEXT)
    rows_KV = session.step([80, 81, 82])
    session.rewind(len(TEXT) + 1)
    np.testing.assert_array_equal(session.logits_V, rows_KV[0])
    straight = backend.prefill(TEXT)
    straight.step([80])
    np.testing.assert_allclose(session.step([90]), straight.step([90]), **exact(backend))
    for length in (len(TEXT) - 1, session.length + 1):
        with pytest.raises(ValueError, match="rewind"):
            session.rewind(length)


def test_forks_do_not_touch_each_other(backend: Backend) -> None:
    session = backend.prefill(TEXT)
    session.step([80])
    twin = session.fork()
    before = session.logits_V.copy()
    twin.step([81, 82])
    twin.rewind(len(TEXT))
    assert session.length == len(TEXT) + 1
    np.testing.assert_array_equal(session.logits_V, before)
    np.testing.assert_allclose(twin.step([80])[0], before, **exact(backend))


def test_the_image_matters(backend: Backend, image_id: int) -> None:
    ids = [*[image_id] * IMAGE.tokens, *TEXT]
    image_NH = backend.encode_image(PIXELS)
    seen = backend.prefill(ids, image_NH).logits_V
    assert np.abs(seen - backend.prefill(ids, image_NH[::-1]).logits_V).max() > 1e-3
    np.testing.assert_array_equal(seen, backend.prefill(ids, image_NH.copy()).logits_V)


def test_a_prefix_is_read_once_and_used_often(backend: Backend, image_id: int) -> None:
    start = [90, 91, 92]
    prefix = backend.prefill(start)
    image_NH = backend.encode_image(PIXELS)
    ids = [*start, *[image_id] * IMAGE.tokens, *TEXT]
    whole = backend.prefill(ids, image_NH)
    for _ in range(2):
        session = backend.prefill(ids, image_NH, prefix)
        assert session.length == len(ids) and prefix.length == len(start)
        np.testing.assert_allclose(session.logits_V, whole.logits_V, **exact(backend))
        session.step([80])
    with pytest.raises(ValueError, match="rewind"):
        session.rewind(len(start))
    with pytest.raises(ModelError, match="beginning"):
        backend.prefill(start, None, prefix)
    with pytest.raises(ModelError, match="placeholders"):
        backend.prefill(ids, None, prefix)


def test_misuse(backend: Backend, image_id: int) -> None:
    image_NH = backend.encode_image(PIXELS)
    for ids, image in (([image_id, *TEXT], image_NH), (TEXT, image_NH), ([image_id, *TEXT], None)):
        with pytest.raises(ModelError, match="placeholders"):
            backend.prefill(ids, image)
    with pytest.raises(ModelError, match="empty"):
        backend.prefill([])
    with pytest.raises(ModelError, match="context of 128"):
        backend.prefill([70] * 129)
    session = backend.prefill([70] * 127)
    session.step([70])
    with pytest.raises(ModelError, match="context of 128"):
        session.step([70])
    with pytest.raises(ValueError, match="at least one"):
        session.step([])


def test_torch_backend_equals_transformers(checkpoint: Path, image_id: int) -> None:
    backend, model = TorchBackend(checkpoint), load_llava(checkpoint)
    ids = [*[image_id] * IMAGE.tokens, *TEXT]
    session = backend.prefill(ids, backend.encode_image(PIXELS))
    input_ids = torch.tensor([ids])
    with torch.no_grad():
        logits = model(
            input_ids=input_ids, attention_mask=torch.ones_like(input_ids), pixel_values=torch.from_numpy(PIXELS)[None]
        ).logits[0, -1]
    np.testing.assert_allclose(session.logits_V, logits.numpy(), **exact(backend))


def test_torch_takes_the_threads_it_is_given(checkpoint: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            assert open_backend(checkpoint, threads).name == "torch"
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_onnx_folder_that_is_incomplete(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        OnnxBackend(tmp_path)
    Manifest.load(folder).save(tmp_path)
    with pytest.raises(ModelError, match="has no embed_tokens graph"):
        OnnxBackend(tmp_path)
    (tmp_path / "embed_tokens_int8.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"cannot load .*embed_tokens_int8"):
        OnnxBackend(tmp_path)


def test_gguf_files_that_cannot_be_used(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
    good = tiny_gguf(checkpoint, folder, tmp_path / "good")
    file = good / "tiny-F16.gguf"
    assert open_backend(file, 1).name == open_backend(good, 1).name == "gguf"
    content = file.read_bytes()
    for damaged, words in (
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (content[:10], "cut off"),
        (content[: len(content) // 2], "cannot load"),
        (content.replace(b"llama", b"lemma"), "cannot load"),  # another architecture
    ):
        file.write_bytes(damaged)
        with pytest.raises(ModelError, match=words):
            open_backend(good, 1)
    file.unlink()
    with pytest.raises(ModelError, match="holds none"):
        open_backend(good, 1, "gguf")


def test_gguf_of_another_model(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `gguf`)")
    good = tiny_gguf(checkpoint, folder, tmp_path / "good")
    manifest = Manifest.load(good)
    replace(manifest, decoder=replace(manifest.decoder, hidden=128)).save(good)
    with pytest.raises(ModelError, match="width of 64, the manifest says 128"):
        open_backend(good, 1)


def test_the_files_say_which_backend(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    assert open_backend(checkpoint).name == "torch" and open_backend(folder).name == "onnx"
    with pytest.raises(ModelError, match="not a model checkpoint"):
        open_backend(folder, kind="torch")
    with pytest.raises(ModelError, match="has no embed_tokens graph"):
        open_backend(checkpoint, kind="onnx")
    with pytest.raises(ModelError, match="holds no weights"):
        open_backend(tmp_path)


def test_without_llama_cpp_gguf_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    for name in ("octopus.runtime.gguf", "octopus.runtime.llama"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="run by gguf, and llama_cpp is not installed") as error:
        open_backend(tmp_path)
    assert "octopus-edge[gguf]" in error.value.hint


def test_onnx_runs_without_torch(folder: Path) -> None:
    code = (
        "import sys; from octopus.runtime.onnx import OnnxBackend; b = OnnxBackend(sys.argv[1], 1); b.prefill([70]);"
        "print([m for m in ('torch', 'transformers', 'onnx', 'timm', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
