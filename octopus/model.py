"""The trained model: a stock LLaVA checkpoint, whose vision tower may be any timm trunk.

In go two towers (configs, or models with weights); out comes a `LlavaForConditionalGeneration` that `save_pretrained`
and `from_pretrained` store and load as usual once this module is imported. The adapter around timm is the only
modelling code of octopus. This file needs torch, transformers and timm; nothing that runs on a phone imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models.mobilenetv3 import MobileNetV3
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from octopus.errors import ModelError
from octopus.manifest import DecoderSpec


class TimmVisionConfig(PretrainedConfig):
    """Names a timm trunk and the size of what it returns: `image_tokens` rows of `hidden_size` numbers.

    Use `TimmVisionConfig.measure` unless both sizes are known. `trunk_args` go to `timm.create_model`. Where
    `trunk_size` is larger than `image_size`, the tower enlarges its picture first: the strides of common trunks are
    made for larger pictures than a small model is trained on, and an enlarged one leaves a finer last feature map.
    `pooled`: one token, the mean of the feature map, which is what a trunk trained by contrast says about a photo.
    """

    model_type = "octopus_timm_vision"

    def __init__(
        self,
        architecture: str = "regnetx_002",
        image_size: int = 96,
        hidden_size: int = 368,
        image_tokens: int = 9,
        trunk_args: dict[str, Any] | None = None,
        trunk_size: int | None = None,
        pooled: bool = False,
        **kwargs: Any,
    ) -> None:
        self.architecture = architecture
        self.image_size = image_size
        self.trunk_size = trunk_size or image_size
        self.hidden_size = hidden_size
        self.image_tokens = image_tokens
        self.pooled = pooled
        self.trunk_args = trunk_args or {}
        super().__init__(**kwargs)

    @classmethod
    def measure(
        cls,
        architecture: str,
        image_size: int,
        trunk_args: dict[str, Any] | None = None,
        trunk_size: int | None = None,
        pooled: bool = False,
        **kwargs: Any,
    ) -> TimmVisionConfig:
        """The config of a trunk at an image size; token count and width are found by running it without weights."""
        seen = trunk_size or image_size
        with torch.device("meta"), torch.no_grad():
            trunk = _create_trunk(architecture, trunk_args or {}).eval()
            _, tokens, width = _features(trunk, torch.empty(1, 3, seen, seen)).shape
        tokens = 1 if pooled else tokens
        return cls(architecture, image_size, width, tokens, trunk_args, trunk_size, pooled, **kwargs)


class TimmVisionModel(PreTrainedModel):
    """A timm trunk as a Hugging Face vision tower: the last feature map, one token per position, or their mean."""

    config_class = TimmVisionConfig
    base_model_prefix = "vision_tower"
    main_input_name = "pixel_values"
    _no_split_modules = ()

    def __init__(self, config: TimmVisionConfig) -> None:
        super().__init__(config)
        self.trunk = _create_trunk(config.architecture, config.trunk_args)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing to do: timm initialises its own trunk."""

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = True, **_: Any) -> BaseModelOutput:
        """`pixel_values` [B, 3, S, S] -> `last_hidden_state` [B, N, C]; also the only entry of `hidden_states`."""
        if self.config.trunk_size != self.config.image_size:
            pixel_values = functional.interpolate(pixel_values, size=self.config.trunk_size, mode="bilinear")
        tokens_BNC = _features(self.trunk, pixel_values)
        if self.config.pooled:
            tokens_BNC = tokens_BNC.mean(1, keepdim=True)
        return BaseModelOutput(
            last_hidden_state=tokens_BNC, hidden_states=(tokens_BNC,) if output_hidden_states else None
        )

    def load_open_clip(self, weights: Mapping[str, Tensor]) -> None:
        """Take the trunk out of an open_clip checkpoint (`visual.trunk.*`, with or without DDP's `module.`).

        Raises:
            ModelError: if the checkpoint lacks a weight of the trunk or has another shape.
        """
        marker = "visual.trunk."
        found = {key.split(marker, 1)[1]: value for key, value in weights.items() if marker in key}
        own = self.trunk.state_dict()
        bad = [key for key, value in own.items() if key not in found or found[key].shape != value.shape]
        if bad:
            raise ModelError(
                f"the open_clip checkpoint does not fit {self.config.architecture}: {len(bad)} weights, first {bad[0]}",
                "train and load with the same trunk name",
            )
        self.trunk.load_state_dict({key: found[key] for key in own})


AutoConfig.register(TimmVisionConfig.model_type, TimmVisionConfig, exist_ok=True)
AutoModel.register(TimmVisionConfig, TimmVisionModel, exist_ok=True)


def build_llava(
    vision: PretrainedConfig | PreTrainedModel,
    text: PretrainedConfig | PreTrainedModel,
    image_token_id: int,
    **config_args: Any,
) -> LlavaForConditionalGeneration:
    """Join a vision tower and a causal language model with a fresh two-layer GELU projector.

    A config gives a randomly initialised tower, a model gives its weights. Vision towers: `TimmVisionModel`, or the
    `SiglipVisionModel` and `CLIPVisionModel` of transformers. `config_args` go to `LlavaConfig`, for instance
    `pad_token_id`.
    """
    vision_config = vision.config if isinstance(vision, PreTrainedModel) else vision
    text_config = text.config if isinstance(text, PreTrainedModel) else text
    layer, strategy = _feature_choice(vision_config)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        config_args.setdefault(name, getattr(text_config, name, None))
    config = LlavaConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_index=image_token_id,
        image_seq_length=count_image_tokens(vision_config),
        vision_feature_layer=layer,
        vision_feature_select_strategy=strategy,
        tie_word_embeddings=text_config.tie_word_embeddings,
        **config_args,
    )
    model = LlavaForConditionalGeneration(config)
    if isinstance(vision, PreTrainedModel):
        model.model.vision_tower.load_state_dict(vision.state_dict())
    if isinstance(text, PreTrainedModel):
        decoder = getattr(text, "model", text.base_model)  # Gemma 3 names no base model
        model.model.language_model.load_state_dict(decoder.state_dict())
        if not text_config.tie_word_embeddings:
            model.lm_head.load_state_dict(text.get_output_embeddings().state_dict())
    model.tie_weights()
    return model


def load_llava(folder: str | Path) -> LlavaForConditionalGeneration:
    """Load a checkpoint folder in float32, ready for inference.

    Raises:
        ModelError: if the folder holds no such checkpoint.
    """
    if not (Path(folder) / "config.json").is_file():
        raise ModelError(f"{folder} is not a model checkpoint", "it must hold config.json and model.safetensors")
    try:
        model = LlavaForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the checkpoint {folder}: {_first_line(error)}") from error
    model.eval()
    return model


def count_image_tokens(vision_config: PretrainedConfig) -> int:
    """How many tokens one image becomes."""
    if isinstance(vision_config, TimmVisionConfig):
        return int(vision_config.image_tokens)
    return int((vision_config.image_size // vision_config.patch_size) ** 2)


def decoder_spec(text_config: PretrainedConfig) -> DecoderSpec:
    """The shape of a language model, as the manifest records it."""
    heads = text_config.num_attention_heads
    return DecoderSpec(
        layers=text_config.num_hidden_layers,
        kv_heads=getattr(text_config, "num_key_value_heads", None) or heads,
        head_dim=getattr(text_config, "head_dim", None) or text_config.hidden_size // heads,
        hidden=text_config.hidden_size,
        vocab=text_config.vocab_size,
        context=text_config.max_position_embeddings,
    )


def _feature_choice(vision_config: PretrainedConfig) -> tuple[int, str]:
    """LLaVA's layer and strategy. CLIP's class token goes; SigLIP and timm trunks have none to drop."""
    if isinstance(vision_config, TimmVisionConfig):
        return -1, "full"
    return -2, "default" if vision_config.model_type == "clip_vision_model" else "full"


def _create_trunk(architecture: str, trunk_args: Mapping[str, Any]) -> nn.Module:
    """A timm model without classifier, pooling and whatever follows them. Never downloads."""
    try:
        trunk: nn.Module = timm.create_model(
            architecture, pretrained=False, num_classes=0, global_pool="", **trunk_args
        )
    except RuntimeError as error:
        raise ModelError(
            f"timm knows no trunk {architecture!r}: {_first_line(error)}", "see timm.list_models()"
        ) from error
    if isinstance(trunk, MobileNetV3):  # v3 and v4 widen after pooling: dead weight here
        trunk.conv_head = nn.Identity()
        trunk.norm_head = nn.Identity()
    for module in trunk.modules():  # from_pretrained leaves buffers that are not in the checkpoint uninitialised
        module._non_persistent_buffers_set.clear()
    return trunk


def _features(trunk: Any, pixels_BCHW: Tensor) -> Tensor:
    """The last feature map of a trunk as tokens [B, N, C], row by row from the top left."""
    features: Tensor = trunk.forward_features(pixels_BCHW)
    if features.ndim == 3:  # a transformer: class and register tokens come first
        prefix: int = getattr(trunk, "num_prefix_tokens", 0)
        return features[:, prefix:]
    if getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


__all__ = ["TimmVisionConfig", "TimmVisionModel", "build_llava", "count_image_tokens", "decoder_spec", "load_llava"]
