"""The language model as one graph of fused operators: grouped-query attention, normalisation, 4- and 8-bit products.

In: a LLaVA whose language model is a Llama, Qwen2, Qwen3 or Gemma 3; out: the decoder graph. Inputs are embeddings, the
positions whose scores are wanted and the cache; outputs are scores and last hidden states at these positions, and the
grown cache. Layer by layer, so that a model is never in memory twice. It knows nothing of pictures and manifests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from transformers import LlavaForConditionalGeneration

from octopus.export.graph import MICROSOFT, Graph
from octopus.model import decoder_spec

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")
CONTEXT = 4096
"""Longest sequence a graph reads, however long the model itself could: the rotary tables grow with it."""

Watch = Callable[[Iterable[Any]], Iterable[Any]]
"""Goes through the layers, for a progress bar."""


def is_fusible(model: LlavaForConditionalGeneration) -> bool:
    """Whether this file knows the language model; others go through torch's exporter."""
    config = model.config.text_config
    activations = {"silu", "gelu_pytorch_tanh"}
    return (
        config.model_type in FAMILIES
        and getattr(config, "hidden_activation", getattr(config, "hidden_act", "")) in activations
        and getattr(config, "final_logit_softcapping", None) is None
        and not getattr(config, "use_bidirectional_attention", False)
    )


def write_decoder(
    model: LlavaForConditionalGeneration, path: Path, quant: str, *, beside: bool, watch: Watch = lambda layers: layers
) -> list[str]:
    """Write the decoder graph; names of the files."""
    spec, language = decoder_spec(model.config.text_config), model.model.language_model
    graph = Graph(path, quant, beside=beside)
    made = _Decoder(graph, language, spec.kv_heads, spec.head_dim)
    states = made.layers(list(watch(language.layers)))
    graph.node("Identity", [states], ["hidden_states"])
    head = graph.linear(states, _array(model.lm_head.weight), None, "lm_head")
    graph.node("Identity", [head], ["logits"])
    cache: dict[str, tuple[int, list[Any]]] = {
        f"{layer}.{side}": (TensorProto.FLOAT, [1, spec.kv_heads, "", spec.head_dim])
        for layer in range(spec.layers)
        for side in ("key", "value")
    }
    floats = TensorProto.FLOAT
    inputs: dict[str, tuple[int, list[Any]]] = {
        "inputs_embeds": (floats, [1, "length", spec.hidden]),
        "logits_positions": (TensorProto.INT64, ["positions"]),
        **{f"past_key_values.{name}": (kind, _named(shape, "past")) for name, (kind, shape) in cache.items()},
    }
    outputs: dict[str, tuple[int, list[Any]]] = {
        "logits": (floats, [1, "positions", spec.vocab]),
        "hidden_states": (floats, [1, "positions", spec.hidden]),
        **{f"present.{name}": (kind, _named(shape, "total")) for name, (kind, shape) in cache.items()},
    }
    return graph.save(inputs, outputs)


class _Decoder:
    """The layers between embeddings and head."""

    def __init__(self, graph: Graph, language: Any, kv_heads: int, head_dim: int) -> None:
        self.graph = graph
        self.language = language
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.config = language.config
        self.heads = self.config.num_attention_heads
        self.gemma = self.config.model_type == "gemma3_text"
        self.context = min(CONTEXT, self.config.max_position_embeddings)
        self.lengths = self._lengths()
        self.tables = {"full_attention": self._rotary(language.rotary_emb, "rotary")}
        if self.gemma:
            self.tables["sliding_attention"] = self._rotary(language.rotary_emb_local, "rotary_local")

    def layers(self, layers: list[Any]) -> str:
        """Normalised hidden states `[1, K, H]` at the wanted positions."""
        graph, residual = self.graph, "inputs_embeds"
        normed = self._norm(residual, layers[0].input_layernorm, "layers.0.input_norm")
        for number, layer in enumerate(layers):
            name, last = f"layers.{number}", number == len(layers) - 1
            attended = self._attention(layer, normed, number, name)
            if last:  # nothing but the wanted positions matters from here on
                attended = graph.add("Gather", attended, "logits_positions", axis=1)
                residual = graph.add("Gather", residual, "logits_positions", axis=1)
            output = layer.self_attn.o_proj
            attended = graph.linear(attended, _array(output.weight), _bias(output), f"{name}.o_proj")
            if self.gemma:
                attended = self._norm(attended, layer.post_attention_layernorm, f"{name}.post_attention_norm")
            before = layer.pre_feedforward_layernorm if self.gemma else layer.post_attention_layernorm
            normed, residual = self._skip_norm(attended, residual, before, f"{name}.mlp_norm")
            mixed = self._mlp(layer.mlp, normed, name)
            if self.gemma:
                mixed = self._norm(mixed, layer.post_feedforward_layernorm, f"{name}.post_mlp_norm")
            following = self.language.norm if last else layers[number + 1].input_layernorm
            normed, residual = self._skip_norm(mixed, residual, following, f"{name}.next_norm")
        return normed

    def _attention(self, layer: Any, x: str, number: int, name: str) -> str:
        graph, own = self.graph, layer.self_attn
        parts = (own.q_proj, own.k_proj, own.v_proj)
        weight = np.concatenate([_array(part.weight) for part in parts])
        biases = [_bias(part) for part in parts]
        bias = None if biases[0] is None else np.concatenate([b for b in biases if b is not None])
        qkv = graph.linear(x, weight, bias, f"{name}.qkv_proj")
        query, key, value = qkv, "", ""
        if hasattr(own, "q_norm"):
            widths = np.array([self.heads * self.head_dim, *[self.kv_heads * self.head_dim] * 2], np.int64)
            sizes = graph.weight(widths, f"{name}.widths")
            query, key, value = graph.add("Split", qkv, sizes, outputs=3, axis=-1)
            query = self._head_norm(query, own.q_norm, self.heads, f"{name}.q_norm")
            key = self._head_norm(key, own.k_norm, self.kv_heads, f"{name}.k_norm")
        kinds = getattr(self.config, "layer_types", None)
        kind = kinds[number] if kinds else "full_attention"
        sliding = kind == "sliding_attention"
        cos, sin = self.tables[kind if self.gemma else "full_attention"]
        past = [f"past_key_values.{number}.{side}" for side in ("key", "value")]
        attended = f"{name}.attention"
        graph.node(
            "GroupQueryAttention",
            [query, key, value, *past, *self.lengths, cos, sin],
            [attended, f"present.{number}.key", f"present.{number}.value"],
            MICROSOFT,
            num_heads=self.heads,
            kv_num_heads=self.kv_heads,
            scale=float(own.scaling),
            do_rotary=1,
            rotary_interleaved=0,
            local_window_size=int(self.config.sliding_window) if sliding else -1,
        )
        return attended

    def _mlp(self, mlp: Any, x: str, name: str) -> str:
        graph = self.graph
        weight = np.concatenate([_array(mlp.gate_proj.weight), _array(mlp.up_proj.weight)])
        bias = _bias(mlp.gate_proj)
        if bias is not None:
            bias = np.concatenate([bias, _bias(mlp.up_proj)])
        both = graph.linear(x, weight, bias, f"{name}.gate_up_proj")
        gate, up = graph.add("Split", both, outputs=2, axis=-1, num_outputs=2)
        if self.gemma:
            gate = graph.add("FastGelu", gate, domain=MICROSOFT)
        else:
            gate = graph.add("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)  # x * sigmoid(x)
        mixed = graph.add("Mul", gate, up)
        return graph.linear(mixed, _array(mlp.down_proj.weight), _bias(mlp.down_proj), f"{name}.down_proj")

    def _lengths(self) -> tuple[str, str]:
        """The two lengths attention asks for: last position `[1]`, and number of tokens with the cache."""
        graph = self.graph
        past = graph.add("Shape", "past_key_values.0.key", start=2, end=3)
        new = graph.add("Shape", "inputs_embeds", start=1, end=2)
        total = graph.add("Cast", graph.add("Add", past, new), to=TensorProto.INT32)
        one = graph.weight(np.array([1], np.int32), "one")
        scalar = graph.add("Squeeze", total)
        return graph.add("Sub", total, one), scalar

    def _rotary(self, rotary: Any, name: str) -> tuple[str, str]:
        places = torch.arange(self.context)[None]
        with torch.no_grad():
            cos, sin = rotary(torch.zeros(1), places)
        half = self.head_dim // 2
        tables = [_array(table[0, :, :half]) for table in (cos, sin)]
        return self.graph.weight(tables[0], f"{name}.cos"), self.graph.weight(tables[1], f"{name}.sin")

    def _scale(self, norm: Any, name: str) -> tuple[str, float]:
        epsilon = getattr(norm, "variance_epsilon", None) or norm.eps
        scale = _array(norm.weight) + np.float32(1 if self.gemma else 0)
        return self.graph.weight(scale, f"{name}.scale"), float(epsilon)

    def _norm(self, x: str, norm: Any, name: str) -> str:
        scale, epsilon = self._scale(norm, name)
        normed: str = self.graph.add("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=epsilon, stash_type=1)
        return normed

    def _skip_norm(self, x: str, residual: str, norm: Any, name: str) -> tuple[str, str]:
        """The norm of a sum, and the sum."""
        scale, epsilon = self._scale(norm, name)
        outputs = [f"{name}.normed", "", "", f"{name}.sum"]
        kind = "SkipSimplifiedLayerNormalization"
        self.graph.node(kind, [x, residual, scale], outputs, MICROSOFT, epsilon=epsilon)
        return outputs[0], outputs[3]

    def _head_norm(self, x: str, norm: Any, heads: int, name: str) -> str:
        graph = self.graph
        apart = graph.weight(np.array([0, 0, heads, self.head_dim], np.int64), f"{name}.apart")
        together = graph.weight(np.array([0, 0, heads * self.head_dim], np.int64), f"{name}.together")
        joined: str = graph.add("Reshape", self._norm(graph.add("Reshape", x, apart), norm, name), together)
        return joined


def weight_bytes(model: LlavaForConditionalGeneration, quant: str) -> int:
    """About how large the decoder graph becomes."""
    count: int = sum(p.numel() for p in model.model.language_model.layers.parameters()) + model.lm_head.weight.numel()
    return math.ceil(count * {"fp32": 4, "fp16": 2, "int8": 1.04, "int4": 0.63}[quant])


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().numpy()
    return array


def _bias(layer: Any) -> NDArray[np.float32] | None:
    return None if layer.bias is None else _array(layer.bias)


def _named(shape: list[Any], name: str) -> list[Any]:
    return [side or name for side in shape]


__all__ = ["CONTEXT", "FAMILIES", "is_fusible", "weight_bytes", "write_decoder"]
