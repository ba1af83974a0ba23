"""The peers that `peers.py` measures: each answers a request about a photo, and says how long its stages took.

Every peer must write the same call, whatever the weights say: the right answer is put on top of the scores after each
pass, so that random weights do not matter and every pass is really computed.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from octopus import Call, Query, Registry
from octopus.decode import Memory, plan
from octopus.image import preprocess
from octopus.runtime import Backend, Floats, Session
from octopus.tokens import Tokens

REQUESTS = (
    ("text this to mom and say we land at six", "send_text", {"to": "mom", "message": "we land at six"}),
    ("put 3 cartons of oat milk in my basket", "instacart_shopping", {"item": "cartons of oat milk", "quantity": 3}),
    ("which bin does this paper cup go in", "smart_recycling", {"item": "paper cup", "material": "paper"}),
    ("search the web for hotels near the old harbour", "google_search", {"query": "hotels near the old harbour"}),
    ("order two lattes for delivery please", "doordash_order", {"dish": "lattes", "quantity": 2}),
    ("I found this red umbrella at the bus stop", "lost_and_found", {"item": "red umbrella", "location": "bus stop"}),
)
BOOST = np.float32(1e4)
Times = dict[str, float]


@dataclass(frozen=True)
class Request:
    """What is asked, and what every peer shall answer."""

    text: str
    call: Call
    answer: list[int]  # ids from the functional token to the end


class Steered:
    """A backend whose scores are put right after every pass; all the work is done all the same."""

    def __init__(self, backend: Backend) -> None:
        self.inner = backend
        self.name, self.vocab_size = backend.name, backend.vocab_size
        self.answer: list[int] = []

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        return self.inner.encode_image(pixels_CHW)

    def prefill(self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Any = None) -> SteeredSession:
        inner = self.inner.prefill(ids, embeddings_NH, prefix.inner if prefix else None)
        return SteeredSession(inner, self.answer, [])


class SteeredSession:
    """One prompt whose continuation is known."""

    def __init__(self, inner: Session, answer: list[int], written: list[int]) -> None:
        self.inner, self.answer, self.written = inner, answer, written

    @property
    def length(self) -> int:
        return self.inner.length

    @property
    def logits_V(self) -> Floats:
        return self._right(self.inner.logits_V, self.written)

    def step(self, ids: Sequence[int]) -> Floats:
        rows_KV = self.inner.step(ids)
        rows = [self._right(row, [*self.written, *ids[: n + 1]]) for n, row in enumerate(rows_KV)]
        self.written = [*self.written, *ids]
        return np.stack(rows)

    def rewind(self, length: int) -> None:
        self.written = self.written[: len(self.written) - (self.inner.length - length)]
        self.inner.rewind(length)

    def fork(self) -> SteeredSession:
        return SteeredSession(self.inner.fork(), self.answer, list(self.written))

    def _right(self, logits_V: Floats, written: Sequence[int]) -> Floats:
        logits_V = logits_V.copy()
        if list(written) == self.answer[: len(written)] and len(written) < len(self.answer):
            logits_V[self.answer[len(written)]] += BOOST
        return logits_V


class Octopus:
    """octopus itself, at full speed; photos are encoded every time."""

    def __init__(self, folder: Path, threads: int) -> None:
        from octopus.hub import open_backend

        self.tokens, self.registry = Tokens.load(folder), Registry.default()
        self.backend, self.memory = Steered(open_backend(folder, threads)), Memory()

    def __call__(self, request: Request, picture: Any) -> Times:
        self.backend.answer = request.answer
        found = plan(Query(request.text, picture), self.backend, self.tokens, self.registry, memory=self.memory)
        assert [call.name for call in found.calls] == [request.call.name], found
        assert dict(found.calls[0].arguments) == dict(request.call.arguments), found
        times = found.timings
        return {"image": times.image, "prefill": times.prefill, "decode": times.decode}


class Transformers:
    """The checkpoint in stock transformers, one token a pass."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        from octopus.runtime.torch import TorchBackend

        self.tokens, self.backend = Tokens.load(checkpoint), TorchBackend(checkpoint, threads=threads)

    def __call__(self, request: Request, picture: Any) -> Times:
        started = perf_counter()
        image_NH = self.backend.encode_image(preprocess(picture, self.tokens.manifest.image))
        seen = perf_counter()
        session = self.backend.prefill(self.tokens.encode_prompt(request.text, len(image_NH)), image_NH)
        read = perf_counter()
        for token_id in request.answer[:-1]:
            session.logits_V.argmax()
            session.step([token_id])
        return _times(started, seen, read)


class GenAi:
    """onnxruntime-genai by itself, one token a pass."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        import onnxruntime_genai

        from octopus.hub import open_backend

        self.genai, self.tokens = onnxruntime_genai, Tokens.load(checkpoint)
        self.vision = open_backend(ready(checkpoint, "onnx", "int8"), threads)
        folder = checkpoint.parent / f"{checkpoint.name}-genai-int4"
        if not folder.is_dir():
            build_genai(checkpoint, folder)
        config = onnxruntime_genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self.model = onnxruntime_genai.Model(config)

    def __call__(self, request: Request, picture: Any) -> Times:
        started = perf_counter()
        image_NH = self.vision.encode_image(preprocess(picture, self.tokens.manifest.image))
        seen = perf_counter()
        ids = self.tokens.encode_prompt(request.text, len(image_NH))
        limits = self.genai.GeneratorParams(self.model)
        limits.set_search_options(max_length=len(ids) + len(request.answer), do_sample=False)
        generator = self.genai.Generator(self.model, limits)
        generator.append_tokens(np.asarray(ids, np.int32))
        generator.get_logits()
        read = perf_counter()
        for token_id in request.answer[:-1]:
            generator.get_logits().argmax()
            generator.append_tokens(np.asarray([token_id], np.int32))
        generator.get_logits()
        return _times(started, seen, read)


def build_genai(checkpoint: Path, folder: Path) -> None:
    """The language model of a checkpoint as onnxruntime-genai's model builder makes it: 4-bit weights, 8-bit sums."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from octopus.model import load_llava

    llava = load_llava(checkpoint)
    model = AutoModelForCausalLM.from_config(llava.config.text_config, dtype=torch.float32)
    model.model.load_state_dict(llava.model.language_model.state_dict())
    model.lm_head.load_state_dict(llava.lm_head.state_dict())
    model.config.eos_token_id = Tokens.load(checkpoint).manifest.special.end
    with tempfile.TemporaryDirectory() as work:
        model.save_pretrained(f"{work}/model")
        PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json")).save_pretrained(f"{work}/model")
        del llava, model
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", f"{work}/model", "-o", f"{work}/out"]
        command += ["-p", "int4", "-e", "cpu", "-c", f"{work}/cache", "--extra_options", "int4_accuracy_level=4"]
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        shutil.move(f"{work}/out", folder)


class LlamaCpp:
    """llama.cpp by itself: its image code and cache, one token a pass. `schemas`: functions as JSON, with a grammar."""

    def __init__(self, folder: Path, threads: int, schemas: bool = False, keep: bool = False) -> None:
        import llama_cpp
        from llama_cpp import mtmd_cpp

        from octopus.hub import open_backend
        from octopus.runtime.gguf import language_file
        from octopus.runtime.llama import LlamaContext

        self.cpp, self.mtmd, self.keep = llama_cpp, mtmd_cpp, keep
        self.tokens, self.registry = Tokens.load(folder), Registry.default()
        self.llama = LlamaContext(language_file(folder), 4096, threads)
        settings = mtmd_cpp.mtmd_context_params_default()
        settings.use_gpu, settings.n_threads = False, threads
        self.images = None
        for mmproj in folder.glob("mmproj-*.gguf"):
            self.images = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), self.llama._model, settings)
        self.vision = None if self.images else open_backend(folder, threads)
        self.vocab = llama_cpp.llama_model_get_vocab(self.llama._model)
        self.grammar = self._grammar() if schemas else None
        self.system = self.tokens.encode_text(self._schemas()) if schemas else None
        self.kept: int | None = None  # the sequence that has read the schemas

    def __call__(self, request: Request, picture: Any) -> Times:
        started = perf_counter()
        image_NH = self._see(picture)
        seen = perf_counter()
        before, after, answer = self._prompt(request, len(image_NH))
        if self.keep and self.system is not None:
            if self.kept is None:
                self.kept = self.llama.open_sequence()
                self.llama.read(self.kept, 0, before, keep=0)
            sequence = self.llama.copy_sequence(self.kept)
        else:
            sequence = self.llama.open_sequence()
            if before:
                self.llama.read(sequence, 0, before, keep=0)
        place = len(before)
        self.llama.read(sequence, place, image_NH, keep=0)
        place += len(image_NH)
        logits_V = self.llama.read(sequence, place, after, keep=1)[0]
        place += len(after)
        read = perf_counter()
        sampler = self.grammar() if self.grammar else None
        for number, token_id in enumerate(answer):
            self._choose(logits_V, token_id, sampler)
            if number < len(answer) - 1:
                logits_V = self.llama.read(sequence, place, [token_id], keep=1)[0]
                place += 1
        times = _times(started, seen, read)
        if sampler:
            self.cpp.llama_sampler_free(sampler)
        self.llama.close_sequence(sequence)
        return times

    def _see(self, picture: Any) -> Floats:
        """The photo through llama.cpp's own preprocessing and encoder, `[N, H]`."""
        if self.vision is not None:
            return self.vision.encode_image(preprocess(picture, self.tokens.manifest.image))
        mtmd = self.mtmd
        flat = np.ascontiguousarray(picture)
        data = (ctypes.c_uint8 * flat.size).from_buffer_copy(flat.tobytes())
        bitmap = mtmd.mtmd_bitmap_init(flat.shape[1], flat.shape[0], data)
        chunks, marker = mtmd.mtmd_input_chunks_init(), mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if mtmd.mtmd_tokenize(self.images, chunks, ctypes.byref(text), bitmaps, 1):
            raise SystemExit("llama.cpp cannot read the photo")
        parts = [mtmd.mtmd_input_chunks_get(chunks, n) for n in range(mtmd.mtmd_input_chunks_size(chunks))]
        (image,) = (part for part in parts if mtmd.mtmd_input_chunk_get_type(part) == 1)
        mtmd.mtmd_encode_chunk(self.images, image)
        count = self.tokens.manifest.image.tokens
        rows = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self.images), shape=(count, self.llama.hidden)).copy()
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)
        return rows

    def _prompt(self, request: Request, image_tokens: int) -> tuple[list[int], list[int], list[int]]:
        """Ids before the image, ids behind it, and the answer."""
        if self.system is None:
            ids, image = self.tokens.encode_prompt(request.text, image_tokens), self.tokens.manifest.special.image
            place = ids.index(image)
            return ids[:place], ids[place + image_tokens :], request.answer
        answer = json.dumps({"name": request.call.name, "arguments": dict(request.call.arguments)}, ensure_ascii=False)
        behind = self.tokens.encode_text(f"\nUser: {request.text}\nAssistant: ")
        return self.system, behind, [*self.tokens.encode_text(answer), self.tokens.manifest.special.end]

    def _choose(self, logits_V: Floats, right: int, sampler: Any) -> None:
        """What choosing costs: the best id, or the best one that the grammar allows; then the right one is taken."""
        if sampler is None:
            logits_V.argmax()
            return
        data = (self.cpp.llama_token_data * len(logits_V))()
        table = np.frombuffer(data, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        table["id"], table["logit"] = np.arange(len(logits_V)), logits_V
        candidates = self.cpp.llama_token_data_array(data=data, size=len(logits_V), selected=-1, sorted=False)
        self.cpp.llama_sampler_apply(sampler, ctypes.byref(candidates))
        if right != self.tokens.manifest.special.end:
            self.cpp.llama_sampler_accept(sampler, right)

    def _schemas(self) -> str:
        names = [name for name in self.registry if name != "irrelevant_function"]
        listed = [
            {"name": name, "description": self.registry[name].description, "parameters": self.registry.schema(name)}
            for name in names
        ]
        return (
            "You are a phone assistant. Call exactly one of these functions. Answer with a JSON object that has `name` "
            f"and `arguments` and nothing else.\n{json.dumps(listed, ensure_ascii=False)}\n"
        )

    def _grammar(self) -> Callable[[], Any]:
        from llama_cpp.llama_grammar import json_schema_to_gbnf

        one_of = []
        for name in self.registry:
            if name != "irrelevant_function":
                arguments = self.registry.schema(name)
                for described in arguments["properties"].values():
                    described.pop("pattern", None)  # llama.cpp takes only whole patterns; without it is less work
                properties = {"name": {"const": name}, "arguments": arguments}
                one_of.append({"type": "object", "properties": properties, "required": ["name", "arguments"]})
        text = json_schema_to_gbnf(json.dumps({"oneOf": one_of})).encode()
        return lambda: self.cpp.llama_sampler_init_grammar(self.vocab, text, b"root")


def _times(started: float, seen: float, read: float) -> Times:
    ended = perf_counter()
    return {"image": 1000 * (seen - started), "prefill": 1000 * (read - seen), "decode": 1000 * (ended - read)}


def requests(tokens: Tokens) -> list[Request]:
    """The requests with the answers in this model's tokens, defaults filled in."""
    registry, found = Registry.default(), []
    for text, name, arguments in REQUESTS:
        call = Call(name, registry.validate(name, arguments), tokens.manifest.by_name(name).token, 1.0)
        found.append(Request(text, call, tokens.encode_calls([call], text, registry)))
    return found


def ready(checkpoint: Path, to: str, quant: Any) -> Path:
    """An export beside the checkpoint, made now if need be; not judged, since random weights agree on nothing."""
    from octopus.export.to_gguf import staged_gguf
    from octopus.export.to_onnx import staged_onnx

    folder = checkpoint.parent / f"{checkpoint.name}-{to}-{quant}"
    if not folder.is_dir():
        print(f"exporting to {folder}", file=sys.stderr)
        with staged_onnx(checkpoint, folder, quant) if to == "onnx" else staged_gguf(checkpoint, folder, quant):
            pass
    return folder


def open_peer(letter: str, checkpoint: Path, threads: int) -> Callable[[Request, Any], Times]:
    if letter == "c":
        return Transformers(checkpoint, threads)
    if letter == "d":
        return GenAi(checkpoint, threads)
    if letter == "e":
        return Octopus(ready(checkpoint, "onnx", "int8"), threads)
    folder = ready(checkpoint, "gguf", "Q4_0")
    if letter == "f":
        return Octopus(folder, threads)
    return LlamaCpp(folder, threads, schemas=letter.startswith("a"), keep=letter == "a+")
