"""Where the two halves of a model come from: a vision tower and a language model, by name or path.

In: a spec, `open_clip:NAME/TAG`, a Hugging Face id, or a folder. Out: a tower in the form that stock LLaVA takes, with
what its pictures must look like, and a causal language model with its tokenizer. open_clip's SigLIP and CLIP towers are
converted to the classes of transformers; its other timm trunks go through the adapter of model.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.utils import cached_file, logging

from octopus.errors import ModelError
from octopus.hub import MODELS
from octopus.manifest import ImageSpec
from octopus.model import TimmVisionConfig, TimmVisionModel, count_image_tokens

OPEN_CLIP = "open_clip:"
LANGUAGE_MODELS = ("llama", "qwen2", "qwen3", "gemma3_text")
"""Families of language models (SmolLM is a Llama) that training, export and every backend know."""

_SIGLIP = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "fit": "squash"}
_CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "fit": "crop",
}

# Shapes that `--random` knows without a network.
VISION_SHAPES: Mapping[str, PretrainedConfig] = {
    "google/siglip-base-patch16-224": SiglipVisionConfig(image_size=224, patch_size=16, vision_use_head=False),
    "openai/clip-vit-base-patch32": CLIPVisionConfig(image_size=224, patch_size=32),
}
TEXT_SHAPES: Mapping[str, PretrainedConfig] = {
    "Qwen/Qwen2-0.5B": Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-0.6B": Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        rope_theta=1e6,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
    ),
    "HuggingFaceTB/SmolLM2-135M": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        rope_theta=1e5,
        rms_norm_eps=1e-5,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "google/gemma-3-270m": Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=512,
        max_position_embeddings=32768,
        layer_types=["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(18)],
    ),
}


@dataclass(frozen=True)
class Vision:
    """A vision tower for LLaVA and the pictures it was trained on."""

    model: PreTrainedModel
    image: ImageSpec


@dataclass(frozen=True)
class Language:
    """A causal language model, its tokenizer, and the ids it pads and begins with (-1: it has no such token)."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    pad: int
    bos: int


def load_vision(spec: str, random: bool = False) -> Vision:
    """A vision tower by spec; `random`: its shape only, with random weights.

    Raises:
        ModelError: There is no such tower, or it is of a kind that does not fit into LLaVA.
    """
    if spec.startswith(OPEN_CLIP) or (Path(spec) / "open_clip_config.json").is_file():
        return _load_open_clip(spec, random)
    with _loading("vision tower", spec):
        if random and spec in VISION_SHAPES:
            config: Any = VISION_SHAPES[spec]
        else:
            config = AutoConfig.from_pretrained(_place(spec))
        config = getattr(config, "vision_config", config)
        kinds = {
            "siglip_vision_model": SiglipVisionModel,
            "clip_vision_model": CLIPVisionModel,
            "octopus_timm_vision": TimmVisionModel,
        }
        if config.model_type not in kinds:
            raise ModelError(
                f"{spec} is a {config.model_type} model, not a vision tower that octopus knows",
                f"SigLIP, CLIP, or any timm trunk of open_clip as {OPEN_CLIP}NAME/TAG",
            )
        if config.model_type == "siglip_vision_model":
            config.vision_use_head = False  # LLaVA takes the rows before it
        kind = kinds[config.model_type]
        if random:
            model = kind(config)
        else:
            model = kind.from_pretrained(spec, config=config, dtype=torch.float32)
    usual = _CLIP if config.model_type == "clip_vision_model" else _SIGLIP
    return Vision(model.eval(), _image_spec(model, {**usual, **({} if random else _preprocessing(spec))}))


def load_language(spec: str, random: bool = False, largest: int | None = None) -> Language:
    """A language model by spec; `random`: its shape with random weights and nano's tokenizer.

    Raises:
        ModelError: There is no such model, it is of another family, or by itself it has more than `largest` parameters
            (which is found out before its weights are fetched).
    """
    with _loading("language model", spec):
        if random and spec in TEXT_SHAPES:
            config: Any = TEXT_SHAPES[spec]
        else:
            config = AutoConfig.from_pretrained(_place(spec))
        if config.model_type not in LANGUAGE_MODELS:
            raise ModelError(
                f"{spec} is a {config.model_type} model, not a language model that octopus knows",
                f"one of the families {', '.join(LANGUAGE_MODELS)} (SmolLM and SmolLM2 are llama)",
            )
        if largest is not None and (count := _count(config)) > largest:
            raise ModelError(f"{spec} alone has {count / 1e6:,.0f} million parameters", "--allow-large builds it")
        if random:
            config.bos_token_id = config.eos_token_id = config.pad_token_id = None  # ids of another tokenizer
            model = AutoModelForCausalLM.from_config(config)
            tokenizer = Tokenizer.from_file(str(MODELS / "nano" / "tokenizer.json"))
            return Language(model.eval(), tokenizer, tokenizer.token_to_id("<pad>"), tokenizer.token_to_id("<s>"))
        model = AutoModelForCausalLM.from_pretrained(spec, dtype=torch.float32)
        wrapped = AutoTokenizer.from_pretrained(spec, use_fast=True)
        if not wrapped.is_fast:
            raise ModelError(f"{spec} has no fast tokenizer", "save it once with transformers as tokenizer.json")
    begin = -1 if wrapped.bos_token_id is None else wrapped.bos_token_id
    pad = next((i for i in (wrapped.pad_token_id, wrapped.eos_token_id) if i is not None), 0)
    return Language(model.eval(), _plain(wrapped.backend_tokenizer), pad, begin)


def _count(config: PretrainedConfig) -> int:
    """Parameters of a language model, without making it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that adds nothing of its own: octopus writes prompts piece by piece."""
    content = json.loads(tokenizer.to_str())
    content["post_processor"] = content["truncation"] = content["padding"] = None
    normalizer = content.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    kept = [step for step in steps if step and step["type"] != "Prepend"]  # Llama 2's space before every text
    content["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    return Tokenizer.from_str(json.dumps(content))


def _load_open_clip(spec: str, random: bool) -> Vision:
    import open_clip

    with _loading("vision tower", spec):
        if spec.startswith(OPEN_CLIP):
            name, _, tag = spec.removeprefix(OPEN_CLIP).partition("/")
            if open_clip.get_model_config(name) is None:
                raise ModelError(f"open_clip knows no model {name!r}", "open_clip.list_models() names them")
            if not random and tag not in open_clip.list_pretrained_tags_by_model(name):
                known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none; use --random"
                raise ModelError(f"open_clip has no weights {tag!r} of {name}", f"{OPEN_CLIP}{name}/TAG, tags: {known}")
            whole = open_clip.create_model(name, pretrained=None if random else tag)
        else:
            whole = open_clip.create_model(f"local-dir:{spec}", load_weights=not random)
        preprocessing = open_clip.get_model_preprocess_cfg(whole)
        model = from_open_clip(whole.visual).eval()
    fit = "crop" if preprocessing.get("resize_mode", "shortest") == "shortest" else "squash"
    wanted = {"mean": preprocessing["mean"], "std": preprocessing["std"], "fit": fit}
    return Vision(model, _image_spec(model, wanted))


def from_open_clip(visual: nn.Module) -> PreTrainedModel:
    """An open_clip tower as transformers has it: hidden states are equal, what open_clip does behind them is left out.

    Raises:
        ModelError: The tower has a part that CLIP's vision model in transformers has not.
    """
    trunk: Any = getattr(visual, "trunk", None)
    if trunk is None:
        return _clip_from_open_clip(visual)
    plain_vit = hasattr(trunk, "blocks") and hasattr(trunk, "patch_embed") and hasattr(trunk, "pos_embed")
    if plain_vit and not trunk.num_prefix_tokens and isinstance(getattr(trunk, "norm_pre", None), nn.Identity):
        block = trunk.blocks[0]
        if hasattr(block, "ls1") and isinstance(block.ls1, nn.Identity) and isinstance(block.attn.q_norm, nn.Identity):
            return _siglip_from_timm(trunk)
    shape: Any = visual.image_size
    size = int(shape[0])
    architecture = trunk.pretrained_cfg["architecture"]
    arguments = {"img_size": size} if plain_vit else None
    model = TimmVisionModel(TimmVisionConfig.measure(architecture, size, arguments))
    model.load_open_clip({f"visual.{name}": value for name, value in visual.state_dict().items()})
    return model


def _siglip_from_timm(trunk: Any) -> PreTrainedModel:
    block = trunk.blocks[0]
    approximate = "Tanh" in type(block.mlp.act).__name__ or getattr(block.mlp.act, "approximate", "none") == "tanh"
    config = SiglipVisionConfig(
        hidden_size=trunk.embed_dim,
        intermediate_size=block.mlp.fc1.out_features,
        num_hidden_layers=len(trunk.blocks),
        num_attention_heads=block.attn.num_heads,
        image_size=trunk.patch_embed.img_size[0],
        patch_size=trunk.patch_embed.patch_size[0],
        hidden_act="gelu_pytorch_tanh" if approximate else "gelu",
        layer_norm_eps=block.norm1.eps,
        vision_use_head=False,
    )
    own = trunk.state_dict()
    found = {
        "embeddings.patch_embedding.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": own["patch_embed.proj.bias"],
        "embeddings.position_embedding.weight": own["pos_embed"][0],
        "post_layernorm.weight": own["norm.weight"],
        "post_layernorm.bias": own["norm.bias"],
    }
    names = {"layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for layer in range(len(trunk.blocks)):
        for kind in ("weight", "bias"):
            here = f"encoder.layers.{layer}"
            for new, old in (names | {"self_attn.out_proj": "attn.proj"}).items():
                found[f"{here}.{new}.{kind}"] = own[f"blocks.{layer}.{old}.{kind}"]
            parts = own[f"blocks.{layer}.attn.qkv.{kind}"].chunk(3)
            found |= {f"{here}.self_attn.{n}_proj.{kind}": part for n, part in zip("qkv", parts, strict=True)}
    return _filled(SiglipVisionModel(config), found)


def _clip_from_open_clip(visual: Any) -> PreTrainedModel:
    if not hasattr(visual, "transformer") or not hasattr(visual, "class_embedding"):
        raise ModelError(f"open_clip's {type(visual).__name__} has no form in LLaVA", "use a ViT or a timm trunk")
    blocks = visual.transformer.resblocks
    quick = "Quick" in type(blocks[0].mlp.gelu).__name__
    config = CLIPVisionConfig(
        hidden_size=visual.conv1.out_channels,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        hidden_act="quick_gelu" if quick else "gelu",
        layer_norm_eps=blocks[0].ln_1.eps,
    )
    own = visual.state_dict()
    found = {
        "embeddings.class_embedding": own["class_embedding"],
        "embeddings.patch_embedding.weight": own["conv1.weight"],
        "embeddings.position_embedding.weight": own["positional_embedding"],
    }
    for new, old in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")):
        found |= {f"{new}.{kind}": own[f"{old}.{kind}"] for kind in ("weight", "bias") if f"{old}.{kind}" in own}
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in range(len(blocks)):
        for kind in ("weight", "bias"):
            here, there = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            for new, old in (names | {"self_attn.out_proj": "attn.out_proj"}).items():
                found[f"{here}.{new}.{kind}"] = own[f"{there}.{old}.{kind}"]
            parts = own[f"{there}.attn.in_proj_{kind}"].chunk(3)
            found |= {f"{here}.self_attn.{n}_proj.{kind}": part for n, part in zip("qkv", parts, strict=True)}
    if any(name.endswith("gamma") for name in own):
        raise ModelError("open_clip towers with layer scale have no form in CLIP's vision model", "use another tower")
    return _filled(CLIPVisionModel(config), found)


def _filled(model: PreTrainedModel, found: Mapping[str, Tensor]) -> PreTrainedModel:
    missing, unknown = model.load_state_dict({f"vision_model.{k}": v for k, v in found.items()}, strict=False)
    if [name for name in missing if not name.endswith("position_ids")] or unknown:
        raise ModelError(f"the open_clip tower lacks {', '.join([*missing, *unknown][:3])}", "use another tower")
    return model


def _image_spec(model: PreTrainedModel, preprocessing: Mapping[str, Any]) -> ImageSpec:
    config = model.config
    mean, std = (tuple(float(value) for value in preprocessing[name]) for name in ("mean", "std"))
    return ImageSpec(config.image_size, mean, std, count_image_tokens(config), preprocessing["fit"])  # type: ignore[arg-type]


def _preprocessing(spec: str) -> dict[str, Any]:
    """What `preprocessor_config.json` says, if there is one."""
    path = cached_file(spec, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for name in ("mean", "std"):
        if f"image_{name}" in content:
            found[name] = content[f"image_{name}"]
    if "do_center_crop" in content:
        found["fit"] = "crop" if content["do_center_crop"] else "squash"
    return found


def _place(spec: str) -> str:
    """The spec, unless it can only be a folder that is not there: no hub should be asked for that."""
    if not Path(spec).is_dir() and (spec.startswith((".", "/", "~")) or spec.count("/") > 1):
        raise ModelError(f"the folder {spec!r} is missing", "give a folder, a Hugging Face id, or an open_clip name")
    return spec


@contextmanager
def _loading(what: str, spec: str) -> Iterator[None]:
    """Whatever the libraries raise on a bad spec becomes one clear line; that a head is not used is no news."""
    talk = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise ModelError(f"cannot load the {what} {spec!r}: {reason}", "check the name, path and connection") from error
    finally:
        logging.set_verbosity(talk)


__all__ = ["LANGUAGE_MODELS", "OPEN_CLIP", "Language", "Vision", "from_open_clip", "load_language", "load_vision"]
