"""A LLaVA checkpoint to GGUF: language model for llama.cpp, vision encoder as ONNX, and mmproj where it is right.

In goes a checkpoint folder with its manifest and tokenizer; out comes a folder that the gguf runtime loads, its hashes
recorded in the manifest. Image embeddings are injected into llama.cpp, so every tower works; a SigLIP tower is also
written in llama.cpp's own form, for its own tools. What the files look like is the business of gguf_files.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from octopus.errors import ModelError
from octopus.export.gguf_files import check_language, check_vision, write_language, write_mmproj
from octopus.export.to_onnx import TOKENIZER, check_fit, export_vision, fingerprint, read_checkpoint, save_graph, shown
from octopus.manifest import FILE_NAME
from octopus.model import decoder_spec, load_llava
from octopus.staging import staged

DIRECT = ("F16", "Q8_0", "Q4_0")
"""Written here; the K-quants are llama.cpp's own work."""


@contextmanager
def staged_gguf(checkpoint: Path, folder: Path, quant: str, mmproj: bool | None = None) -> Iterator[Path]:
    """The finished export in its temporary folder, where it can be judged; published when the block ends well.

    `mmproj`: True insists on llama.cpp's image file, None writes it where it is right.

    Raises:
        ModelError: the checkpoint does not fit together, llama.cpp does not know its parts, or it is not installed and
            needed for this precision.
    """
    manifest = read_checkpoint(checkpoint)
    loaded = [load_llava(checkpoint)]  # emptied before verification, which needs the memory
    config = loaded[0].config
    check_fit(manifest, loaded[0])
    check_language(config.text_config)
    reason = check_vision(config)
    if mmproj and reason is not None:
        raise ModelError(f"no mmproj: {reason}", "leave --mmproj out: the ONNX vision encoder serves every tower")
    if quant not in DIRECT:
        _llama_cpp()
    tokenizer = Tokenizer.from_file(str(checkpoint / TOKENIZER))
    vision_quant = "fp16" if quant == "F16" else "int8"
    language_name = f"{manifest.name}-{quant}.gguf"

    def language(place: Path) -> list[str]:
        if quant in DIRECT:
            write_language(loaded[0], tokenizer, manifest, place / language_name, quant)
        else:
            whole = place / "whole.gguf"
            write_language(loaded[0], tokenizer, manifest, whole, "F16")
            _quantize(whole, place / language_name, quant)
            whole.unlink()
        return [language_name]

    def projector(place: Path) -> list[str]:
        name = f"mmproj-{manifest.name}-F16.gguf"
        write_mmproj(loaded[0], manifest, place / name)
        return [name]

    parts: dict[str, Callable[[Path], list[str]]] = {
        "vision_encoder": lambda place: save_graph(
            export_vision(loaded[0], manifest.image.size, vision_quant),  # type: ignore[arg-type]
            place / f"vision_encoder_{vision_quant}.onnx",
        ),
        "language": language,
    }
    if reason is None and mmproj is not False:
        parts["mmproj"] = projector
    key = f"gguf {quant} {mmproj} {fingerprint(checkpoint)}"
    stale = ["*.gguf", "vision_encoder_*.onnx*"]
    with staged(folder, FILE_NAME, key, stale=stale) as staging:
        names = [TOKENIZER]
        for part in shown(parts, "export"):
            names += staging.part(part, parts[part])
        shutil.copyfile(checkpoint / TOKENIZER, staging.folder / TOKENIZER)
        loaded.clear()
        shape = decoder_spec(config.text_config)
        replace(manifest, decoder=shape).with_files(staging.folder, names).save(staging.folder)
        yield staging.folder


def _quantize(source: Path, target: Path, quant: str) -> None:
    import ctypes

    llama_cpp = _llama_cpp()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quant}")
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings))
    if failed:
        raise ModelError(f"llama.cpp cannot quantise to {quant} (code {failed})", f"try one of {', '.join(DIRECT)}")


def _llama_cpp() -> Any:
    try:
        import llama_cpp
    except ImportError as error:
        hint = f"pip install 'octopus-edge[gguf]', or use one of {', '.join(DIRECT)}"
        raise ModelError("K-quants are made by llama-cpp-python, which is not installed", hint) from error
    from octopus.runtime.llama import silence

    silence()
    return llama_cpp


__all__ = ["DIRECT", "staged_gguf"]
