"""A LLaVA checkpoint to three ONNX graphs: vision encoder with projector, embeddings, decoder with cache.

In goes a checkpoint folder with its manifest and tokenizer; out comes a folder that the ONNX runtime loads, its hashes
recorded in the manifest. Names of graphs, inputs and outputs are the usual ones of exported LLaVA models; one decoder
graph serves prompt and steps. Any vision tower and causal language model of transformers with a plain key/value cache
will do; for the families that decoder.py knows the decoder is written with fused operators. How well the result
agrees is the business of `verify`.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoConfig, LlavaForConditionalGeneration
from transformers.cache_utils import DynamicCache

from octopus.errors import ModelError
from octopus.export.decoder import CONTEXT, FAMILIES, is_fusible, weight_bytes, write_decoder
from octopus.export.quantize import OPSET, embedding_graph, quantize_linear, store_half, store_int8
from octopus.manifest import FILE_NAME, Manifest
from octopus.model import decoder_spec, load_llava
from octopus.staging import staged

Quant = Literal["fp32", "fp16", "int8", "int4"]
TOKENIZER = "tokenizer.json"
LARGEST_FILE = 2_000_000_000  # bytes; protobuf holds no more, so larger weights go beside the graph
STEMS = ("vision_encoder", "embed_tokens", "decoder_model_merged")
SUFFIXES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "q4"}
"""What file names of the community's exports end in."""
MAPPED = 200_000_000  # bytes from which decoder weights go beside the graph, to be mapped instead of copied

_Past: TypeAlias = tuple[tuple[Tensor, Tensor], ...]


def export_onnx(checkpoint_dir: str | Path, out_dir: str | Path, quant: Quant = "int8") -> list[Path]:
    """Write the ONNX form of a checkpoint and its manifest; return the paths of the graphs.

    The folder appears when all is done. What an interrupted export of the same checkpoint finished is used again.

    Raises:
        ModelError: if the checkpoint, its manifest or its tokenizer is missing or they contradict each other.
    """
    checkpoint, folder = Path(checkpoint_dir), Path(out_dir)
    with staged_onnx(checkpoint, folder, quant):
        pass
    return sorted(folder.glob("*.onnx"), key=lambda path: [path.name.startswith(stem) for stem in STEMS], reverse=True)


@contextmanager
def staged_onnx(checkpoint: Path, folder: Path, quant: Quant) -> Iterator[Path]:
    """The finished export in its temporary folder, where it can be judged; published when the block ends well."""
    manifest = read_checkpoint(checkpoint)
    loaded: list[LlavaForConditionalGeneration] = []

    def model() -> LlavaForConditionalGeneration:
        if not loaded:
            loaded.append(load_llava(checkpoint))
            check_fit(manifest, loaded[0])
        return loaded[0]

    suffix = SUFFIXES[quant]
    parts: dict[str, Callable[[Path], list[str]]] = {
        "vision_encoder": lambda place: save_graph(
            export_vision(model(), manifest.image.size, quant), place / f"vision_encoder_{suffix}.onnx"
        ),
        "embed_tokens": lambda place: save_graph(
            export_embeddings(model(), quant), place / f"embed_tokens_{suffix}.onnx"
        ),
        "decoder_model_merged": lambda place: save_decoder(
            model(), quant, place / f"decoder_model_merged_{suffix}.onnx"
        ),
    }
    model()  # a checkpoint that does not fit leaves no trace
    key = f"onnx {quant} {fingerprint(checkpoint)}"
    with staged(folder, FILE_NAME, key, stale=[f"{stem}_*.onnx*" for stem in STEMS]) as staging:
        names = [TOKENIZER]
        for stem in shown(parts, "export"):
            names += staging.part(stem, parts[stem])
        shutil.copyfile(checkpoint / TOKENIZER, staging.folder / TOKENIZER)
        config = AutoConfig.from_pretrained(checkpoint).text_config
        shape = decoder_spec(config)
        if config.model_type in FAMILIES:
            shape = replace(shape, context=min(shape.context, CONTEXT))
        replace(manifest, decoder=shape).with_files(staging.folder, names).save(staging.folder)
        loaded.clear()
        yield staging.folder


def read_checkpoint(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint that can be exported.

    Raises:
        ModelError: it has no manifest or no tokenizer.
    """
    manifest = Manifest.load(checkpoint)
    if not (checkpoint / TOKENIZER).is_file():
        raise ModelError(f"{checkpoint} has no {TOKENIZER}", "save the tokenizer beside the weights")
    return manifest


def fingerprint(checkpoint: Path) -> str:
    """Changes when the checkpoint does: sizes and times of its files."""
    files = sorted(path for path in checkpoint.iterdir() if path.is_file())
    return " ".join(f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)


def shown(parts: Iterable[Any], what: str) -> Iterator[Any]:
    """Go through parts with a progress bar, on a terminal."""
    return iter(tqdm(list(parts), desc=what, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False))


def export_vision(model: LlavaForConditionalGeneration, image_size: int, quant: Quant) -> onnx.ModelProto:
    """`pixel_values` [B, 3, S, S] to `image_features` [B, N, H]: vision tower and projector."""
    graph = _export(
        _Vision(model),
        (torch.zeros(2, 3, image_size, image_size),),
        inputs=["pixel_values"],
        outputs=["image_features"],
        dynamic={"pixel_values": {0: torch.export.Dim.DYNAMIC}},
    )
    graph = _fold(graph)  # batch norms into convolutions, before their weights are rounded
    if quant == "fp32":
        return graph
    # Linear layers are computed in int8 like the decoder's; what is left, convolutions, is only stored so.
    return store_half(graph) if quant == "fp16" else store_int8(quantize_linear(graph))


def export_embeddings(model: LlavaForConditionalGeneration, quant: Quant) -> onnx.ModelProto:
    """`input_ids` [B, L] to `inputs_embeds` [B, L, H]. Gemma scales what it looks up."""
    embedding: Any = model.get_input_embeddings()
    table_VH = (embedding.weight.detach().float() * float(getattr(embedding, "embed_scale", 1.0))).numpy()
    if quant == "fp16":
        table_VH = table_VH.astype(np.float16)
    return embedding_graph(table_VH, int8=quant in ("int8", "int4"))


def save_decoder(model: LlavaForConditionalGeneration, quant: Quant, path: Path) -> list[str]:
    """The decoder graph of fused operators where the family is known, else as torch exports it; names of the files."""
    if is_fusible(model):
        beside = weight_bytes(model, quant) > MAPPED
        return write_decoder(model, path, quant, beside=beside, watch=lambda layers: shown(layers, "decoder"))
    return save_graph(export_decoder(model, quant), path)


def export_decoder(model: LlavaForConditionalGeneration, quant: Quant) -> onnx.ModelProto:
    """Embeddings and cache to `logits` [B, K, V] at the K `logits_positions`, and the grown cache, in plain operators.

    Raises:
        ModelError: for 4 bits, which only the fused operators have.
    """
    if quant == "int4":
        kind = model.config.text_config.model_type
        raise ModelError(f"a {kind} language model cannot be exported in 4 bits", f"one of {', '.join(FAMILIES)} can")
    spec = decoder_spec(model.config.text_config)
    names = [f"{layer}.{side}" for layer in range(spec.layers) for side in ("key", "value")]
    past = tuple(
        (torch.randn(1, spec.kv_heads, 7, spec.head_dim), torch.randn(1, spec.kv_heads, 7, spec.head_dim))
        for _ in range(spec.layers)
    )
    length, grown = {1: torch.export.Dim.DYNAMIC}, {2: torch.export.Dim.DYNAMIC}
    graph = _export(
        _Decoder(model),
        (torch.randn(1, 5, spec.hidden), torch.arange(7, 12)[None], torch.arange(5), past),
        inputs=["inputs_embeds", "position_ids", "logits_positions", *(f"past_key_values.{name}" for name in names)],
        outputs=["logits", *(f"present.{name}" for name in names)],
        dynamic={
            "inputs_embeds": length,
            "position_ids": length,
            "logits_positions": {0: torch.export.Dim.DYNAMIC},
            "past": tuple((grown, grown) for _ in range(spec.layers)),
        },
    )
    if quant == "fp32":
        return graph
    return store_half(graph) if quant == "fp16" else quantize_linear(graph)


class _Vision(nn.Module):
    """What turns pixels into rows of embeddings: `get_image_features` without its split into a list of pictures."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.vision_tower = model.model.vision_tower
        self.projector = model.model.multi_modal_projector
        self.layer = model.config.vision_feature_layer
        self.skipped = 1 if model.config.vision_feature_select_strategy == "default" else 0

    def forward(self, pixel_values: Tensor) -> Tensor:
        features_BNC = self.vision_tower(pixel_values, output_hidden_states=True).hidden_states[self.layer]
        projected_BNH: Tensor = self.projector(features_BNC[:, self.skipped :])
        return projected_BNH


class _Decoder(nn.Module):
    """The language model with its cache as plain tensors; nothing sees what comes after it."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.language_model = model.model.language_model
        self.language_model.set_attn_implementation("eager")  # plain matrix products, which every runtime has
        self.lm_head = model.lm_head

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, logits_positions: Tensor, past: _Past
    ) -> tuple[Tensor, _Past]:
        total = past[0][0].shape[2] + inputs_embeds.shape[1]
        hidden = torch.arange(total)[None, None, None, :] > position_ids[:, None, :, None]
        cache = DynamicCache.from_legacy_cache(past)
        states_BLH = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=hidden * torch.finfo(torch.float32).min,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return self.lm_head(states_BLH.index_select(1, logits_positions)), cache.to_legacy_cache()


def check_fit(manifest: Manifest, model: LlavaForConditionalGeneration) -> None:
    """The manifest must speak of these weights."""
    config = model.config
    pairs = {
        "image tokens": (manifest.image.tokens, config.image_seq_length),
        "image placeholder id": (manifest.special.image, config.image_token_id),
        "image size": (manifest.image.size, config.vision_config.image_size),
    }
    for what, (said, found) in pairs.items():
        if said != found:
            raise ModelError(f"{FILE_NAME} and weights disagree on the {what}: {said} and {found}")


def _export(
    module: nn.Module, example: tuple[Any, ...], inputs: list[str], outputs: list[str], dynamic: dict[str, Any]
) -> onnx.ModelProto:
    """One module to a float32 graph with its weights in memory."""
    with tempfile.TemporaryDirectory() as scratch, _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
        if program is None:  # only the older exporter returns nothing
            raise ModelError("torch exported nothing", "install the export extra")
        path = Path(scratch) / "graph.onnx"
        program.save(str(path), external_data=True)
        return onnx.load(str(path))


def _fold(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Let onnxruntime do the foldings that hold on every machine."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "before.onnx", Path(scratch) / "after.onnx"
        save_graph(graph, before)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(after)
        options.log_severity_level = 3
        ort.InferenceSession(str(before), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(after))


def save_graph(graph: onnx.ModelProto, path: Path) -> list[str]:
    """Write a graph; names of the files."""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]  # stack traces of the exporter
    del graph.graph.value_info[:]
    used = {node.domain for node in graph.graph.node}
    domains = [domain for domain in graph.opset_import if domain.domain in used]
    del graph.opset_import[:]  # a domain that is only declared keeps older runtimes from loading the graph
    graph.opset_import.extend(domains)
    large = graph.ByteSize() > LARGEST_FILE
    onnx.save(graph, str(path), save_as_external_data=large, location=path.name + ".data" if large else None)
    return [path.name, path.name + ".data"] if large else [path.name]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's remarks about its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


__all__ = [
    "SUFFIXES",
    "TOKENIZER",
    "Quant",
    "check_fit",
    "export_decoder",
    "export_embeddings",
    "export_onnx",
    "export_vision",
    "fingerprint",
    "read_checkpoint",
    "save_graph",
    "shown",
    "staged_onnx",
]
