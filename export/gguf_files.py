"""The two kinds of GGUF files: a language model, and llama.cpp's `mmproj` with vision tower and projector.

In: a LLaVA checkpoint in memory and what the manifest says; out: one file each, tensor by tensor, so that memory stays
small. Functional tokens are CONTROL tokens: llama.cpp prints them as nothing, so read ids, never text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from octopus.errors import ModelError
from octopus.manifest import Manifest
from octopus.model import decoder_spec

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3"}
_PRE = {
    "llama": "smollm",
    "qwen2": "qwen2",
    "qwen3": "qwen2",
}  # how llama.cpp's own tokenizer splits; octopus has its own
_TYPES = {
    "F16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "Q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
_GEMMA_PATTERN = 6  # llama.cpp: every sixth layer of a Gemma 3 sees everything

_Tensors = Iterator[tuple[str, Callable[[], NDArray[np.float32]], tuple[int, ...]]]


def write_language(
    model: LlavaForConditionalGeneration, tokenizer: Tokenizer, manifest: Manifest, path: Path, quant: str
) -> None:
    """The language model in F16, Q8_0 or Q4_0 (whose embedding table and head stay in Q8_0).

    Raises:
        ModelError: llama.cpp has no architecture for it.
    """
    config = model.config.text_config
    check_language(config)
    spec = decoder_spec(config)
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
    writer.add_type("model")
    writer.add_name(manifest.name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(spec.hidden)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(spec.vocab)
    if config.model_type == "gemma3_text":
        writer.add_sliding_window(config.sliding_window)
    kind, file_type = _TYPES[quant]
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_tokenizer(writer, tokenizer, manifest, spec.vocab, config.model_type)
    _write(writer, list(_language_tensors(model)), path, lambda name, shape: _kind_of(name, shape, kind))


def check_language(config: Any) -> None:
    """ModelError with the reason when llama.cpp would compute something else."""
    if config.model_type not in ARCHITECTURES:
        raise ModelError(f"llama.cpp's form of a {config.model_type} model is unknown here", f"known: {_known()}")
    scaling = getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise ModelError("scaled rotary positions cannot be written to GGUF yet", "export it to ONNX")
    if config.model_type == "gemma3_text":
        pattern = [n % _GEMMA_PATTERN == _GEMMA_PATTERN - 1 for n in range(config.num_hidden_layers)]
        if [kind == "full_attention" for kind in config.layer_types] != pattern:
            raise ModelError(f"llama.cpp knows Gemma 3 only with full attention in every {_GEMMA_PATTERN}th layer")
        if config.query_pre_attn_scalar != config.head_dim or config.rope_local_base_freq != 10000:
            raise ModelError("llama.cpp knows Gemma 3 only with its usual scale and local positions", "export to ONNX")


def check_vision(config: Any) -> str | None:
    """Why there can be no mmproj file of this tower, or None: stock llama.cpp must compute the same with it."""
    vision = config.vision_config
    if vision.model_type == "clip_vision_model":
        return (
            "llama.cpp puts CLIP's class token behind the patches (its issue 25814), so the embeddings would be wrong"
        )
    if vision.model_type != "siglip_vision_model":
        return f"llama.cpp has no {getattr(vision, 'architecture', vision.model_type)} vision tower, only ViTs"
    if config.vision_feature_layer != -2 or config.vision_feature_select_strategy != "full":
        return "llama.cpp takes the rows before the last block, this model takes others"
    if vision.hidden_act not in ("gelu", "gelu_pytorch_tanh") or config.projector_hidden_act != "gelu":
        return f"llama.cpp's SigLIP has no {vision.hidden_act}"
    return None


def write_mmproj(model: LlavaForConditionalGeneration, manifest: Manifest, path: Path) -> None:
    """Vision tower and projector for llama.cpp's multimodal tools, matrices in F16.

    All blocks are written, because llama.cpp itself stops before the last; no final norm, because it would apply it.

    Raises:
        ModelError: the tower is of another kind.
    """
    reason = check_vision(model.config)
    if reason is not None:
        raise ModelError(f"no mmproj: {reason}", "leave --mmproj out: the ONNX vision encoder serves every tower")
    vision = model.config.vision_config
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(manifest.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_use_gelu(True)
    writer.add_vision_projection_dim(model.config.text_config.hidden_size)
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.num_hidden_layers)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_image_mean(list(manifest.image.mean))
    writer.add_vision_image_std(list(manifest.image.std))
    half = gguf.GGMLQuantizationType.F16
    whole = gguf.GGMLQuantizationType.F32

    def kind_of(name: str, shape: tuple[int, ...]) -> Any:
        return half if len(shape) == 2 and name.endswith("weight") and "position" not in name else whole

    _write(writer, list(_vision_tensors(model)), path, kind_of)


def _language_tensors(model: LlavaForConditionalGeneration) -> _Tensors:
    config = model.config.text_config
    spec = decoder_spec(config)
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[config.model_type])
    names = gguf.get_tensor_name_map(architecture, spec.layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": spec.kv_heads}
    own = {f"model.{name}": parameter for name, parameter in model.model.language_model.named_parameters()}
    if not config.tie_word_embeddings:
        own["lm_head.weight"] = model.lm_head.weight
    for name, parameter in own.items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ModelError(f"llama.cpp has no tensor for {name}", "export it to ONNX")
        part = name.split(".")[-2]

        def values(parameter: Any = parameter, part: str = part, name: str = name) -> NDArray[np.float32]:
            array: NDArray[np.float32] = parameter.detach().float().numpy()
            if config.model_type == "llama" and part in heads:  # llama.cpp rotates neighbours, transformers halves
                count = heads[part]
                split = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
                array = np.ascontiguousarray(split.swapaxes(1, 2)).reshape(array.shape)
            if config.model_type == "gemma3_text" and part.endswith("norm"):
                array = array + np.float32(1)
            return array

        yield target, values, tuple(parameter.shape)


def _vision_tensors(model: LlavaForConditionalGeneration) -> _Tensors:
    tower = dict(model.model.vision_tower.vision_model.named_parameters())
    renamed = {
        "embeddings.patch_embedding": "v.patch_embd",
        "embeddings.position_embedding": "v.position_embd",
        **{
            f"encoder.layers.{n}.{old}": f"v.blk.{n}.{new}"
            for n in range(model.config.vision_config.num_hidden_layers)
            for old, new in {
                "self_attn.q_proj": "attn_q",
                "self_attn.k_proj": "attn_k",
                "self_attn.v_proj": "attn_v",
                "self_attn.out_proj": "attn_out",
                "layer_norm1": "ln1",
                "layer_norm2": "ln2",
                "mlp.fc1": "ffn_up",
                "mlp.fc2": "ffn_down",
            }.items()
        },
    }
    found = {new: tower[f"{old}.weight"] for old, new in renamed.items()}
    named = {f"{new}.weight": parameter for new, parameter in found.items()}
    named |= {f"{new}.bias": tower[f"{old}.bias"] for old, new in renamed.items() if f"{old}.bias" in tower}
    projector = model.model.multi_modal_projector
    for place, layer in ((0, projector.linear_1), (2, projector.linear_2)):
        named[f"mm.{place}.weight"] = layer.weight
        if layer.bias is not None:
            named[f"mm.{place}.bias"] = layer.bias
    for name, parameter in named.items():
        yield name, lambda parameter=parameter: parameter.detach().float().numpy(), tuple(parameter.shape)  # type: ignore[misc]


def _kind_of(name: str, shape: tuple[int, ...], kind: Any) -> Any:
    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    if name in ("token_embd.weight", "output.weight") and kind is gguf.GGMLQuantizationType.Q4_0:
        kind = gguf.GGMLQuantizationType.Q8_0  # first and last matter most
    block = gguf.GGML_QUANT_SIZES[kind][0]
    return kind if shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _write(writer: Any, tensors: list[Any], path: Path, kind_of: Callable[[str, tuple[int, ...]], Any]) -> None:
    for name, _, shape in tensors:
        kind = kind_of(name, shape)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = int(np.prod(shape))
        writer.add_tensor_info(name, shape, np.dtype(np.float32), count // block * size, raw_dtype=kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, values, shape in tensors:
        writer.write_tensor_data(gguf.quantize(values(), kind_of(name, shape)))
    writer.close()


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, manifest: Manifest, vocab: int, family: str) -> None:
    content = json.loads(tokenizer.to_str())
    added = tokenizer.get_added_tokens_decoder()
    tokens, types = [], []
    for token_id in range(vocab):
        token = tokenizer.id_to_token(token_id)
        if token is None:
            tokens.append(f"[unused{token_id}]")
            types.append(gguf.TokenType.UNUSED)
            continue
        tokens.append(token)
        special = token_id in added and added[token_id].special
        byte = family == "gemma3_text" and len(token) == 6 and token.startswith("<0x")
        own = gguf.TokenType.USER_DEFINED if token_id in added else gguf.TokenType.NORMAL
        types.append(gguf.TokenType.CONTROL if special else gguf.TokenType.BYTE if byte else own)
    if family == "gemma3_text":
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([-float(token_id) for token_id in range(vocab)])
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_PRE[family])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if family != "gemma3_text":
        merges = content["model"]["merges"]
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(manifest.special.end)
    writer.add_pad_token_id(manifest.special.pad)
    if manifest.special.bos >= 0:
        writer.add_bos_token_id(manifest.special.bos)
    writer.add_add_bos_token(False)


def _known() -> str:
    return ", ".join(ARCHITECTURES)


__all__ = ["ARCHITECTURES", "check_language", "check_vision", "write_language", "write_mmproj"]
