"""From a model's name to its folder, and from a folder to what runs it.

In: a name ("nano") or a path. Out: an existing folder with a manifest.json, or a loaded backend. It knows where models
lie and which runtime fits which files; what the files mean is the business of the manifest and of the backends.
"""

from __future__ import annotations

import os.path
from pathlib import Path

from octopus.errors import ModelError
from octopus.manifest import FILE_NAME
from octopus.runtime import Backend

KINDS = ("onnx", "gguf", "torch")
MODELS = Path(__file__).resolve().parent / "models"


def find_model(model: str | Path) -> Path:
    """The folder of a packaged model or of a model on disk, named by itself or by a GGUF file in it.

    A bare name of a packaged model means that one, even when a folder of this name is in the current directory:
    write `./nano` for the folder.

    Raises:
        ModelError: There is no such folder, or it holds no model.
    """
    packaged = packaged_models()
    if isinstance(model, str) and model in packaged:
        return MODELS / model
    folder = weights_of(model)
    if folder.suffix == ".gguf" and _holds_model(folder.parent):
        return folder.parent
    if _holds_model(folder):
        return folder
    names = ", ".join(packaged) or "none in this installation"
    hint = f"give a folder with a {FILE_NAME}, or the name of a packaged model: {names}"
    shown = str(model)[:200]
    if os.path.isfile(folder):
        raise ModelError(f"{shown!r} is a file, not a model folder", hint)
    if os.path.isdir(folder):
        raise ModelError(f"the folder {shown!r} holds no model", hint)
    raise ModelError(f"the model folder {shown!r} is missing", hint)


def weights_of(model: str | Path) -> Path:
    """What to hand to `open_backend`: the GGUF file if one was named, else the folder."""
    packaged = isinstance(model, str) and model in packaged_models()
    return MODELS / model if packaged else Path(model)


def packaged_models() -> tuple[str, ...]:
    """Names of the models that are shipped with the package."""
    if not MODELS.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in MODELS.iterdir() if _holds_model(folder)))


def open_backend(folder: Path, threads: int | None = None, kind: str | None = None) -> Backend:
    """The runtime that fits the files of a model folder: ONNX graphs first, then GGUF, else a PyTorch checkpoint.

    Args:
        folder: A model folder, or the GGUF file of one.
        threads: How many the runtime may use.
        kind: One of `KINDS` forces that runtime.

    Raises:
        ModelError: The files for it are not there, or the library it needs is not installed.
    """
    kind = kind or _kind_of(folder)
    try:
        if kind == "onnx":
            from octopus.runtime.onnx import OnnxBackend

            return OnnxBackend(folder, threads=threads)
        if kind == "gguf":
            from octopus.runtime.gguf import GgufBackend

            return GgufBackend(folder, threads=threads)
        from octopus.runtime.torch import TorchBackend

        return TorchBackend(folder, threads=threads)
    except ImportError as error:
        extra = "gguf" if kind == "gguf" else "train"
        hint = f'pip install "octopus-edge[{extra}]", or export the model to ONNX'
        raise ModelError(f"{folder} is run by {kind}, and {error.name} is not installed", hint) from error


def _kind_of(folder: Path) -> str:
    if folder.suffix == ".gguf" or any(folder.glob("*.gguf")):  # its vision encoder is an ONNX graph as well
        return "onnx" if any(folder.glob("decoder_model_merged*.onnx")) else "gguf"
    if any(folder.glob("*.onnx")):
        return "onnx"
    if any(folder.glob("*.safetensors")):
        return "torch"
    raise ModelError(
        f"{folder} holds no weights", "a model has *.onnx, *.gguf or *.safetensors files; install it again"
    )


def _holds_model(folder: Path) -> bool:
    return os.path.isfile(folder / FILE_NAME)  # False, not an error, for an impossible path
