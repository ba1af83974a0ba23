from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("onnx")

from transformers import AutoModel, CLIPVisionConfig, LlamaForCausalLM, SiglipVisionConfig  # noqa: E402

from octopus.errors import ModelError  # noqa: E402
from octopus.manifest import DecoderSpec  # noqa: E402
from octopus.model import TimmVisionConfig, TimmVisionModel, build_llava, decoder_spec, load_llava  # noqa: E402
from tiny_model import IMAGE, save_tiny_checkpoint, text_config, tiny_llava  # noqa: E402

VIT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("trunk", "tokens", "width", "trunk_args"),
    [
        ("regnetx_002", 4, 368, None),
        ("mobilenetv4_conv_small_035", 4, 336, None),  # widens after pooling
        ("vit_tiny_patch16_224", 16, 192, {"img_size": 64, "depth": 1}),  # has a class token
        ("levit_128s", 1, 384, {"img_size": 64}),  # has buffers that timm leaves out of checkpoints
    ],
)
def test_any_timm_trunk_survives_saving(
    trunk: str, tokens: int, width: int, trunk_args: dict[str, object] | None, tmp_path: Path
) -> None:
    config = TimmVisionConfig.measure(trunk, 64, trunk_args)
    assert (config.image_tokens, config.hidden_size) == (tokens, width)
    model = TimmVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        output, again = model(pixels), loaded(pixels)
    assert output.last_hidden_state.shape == (2, tokens, width)
    assert output.hidden_states[-1] is output.last_hidden_state
    assert torch.equal(output.last_hidden_state, again.last_hidden_state)


def test_tokens_run_row_by_row() -> None:
    model = TimmVisionModel(TimmVisionConfig.measure("regnetx_002", 96)).eval()
    pixels = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        features, tokens = model.trunk.forward_features(pixels), model(pixels).last_hidden_state
    assert torch.equal(tokens[0, 2], features[0, :, 0, 2])  # the top right corner
    assert torch.equal(tokens[0, 3], features[0, :, 1, 0])


def test_unknown_trunk() -> None:
    with pytest.raises(ModelError, match="no_such_net"):
        TimmVisionConfig.measure("no_such_net", 96)


def test_open_clip_weights_are_taken_over() -> None:
    model = TimmVisionModel(TimmVisionConfig.measure("regnetx_002", 64))
    weights = {f"module.visual.trunk.{k}": torch.randn(v.shape) for k, v in model.trunk.named_parameters()}
    with pytest.raises(ModelError, match="does not fit"):
        model.load_open_clip(weights)  # no batch norm statistics
    weights |= {f"module.visual.trunk.{k}": v for k, v in model.trunk.named_buffers()}
    model.load_open_clip(
        weights | {"module.visual.head.proj.weight": torch.zeros(1), "module.logit_scale": torch.ones(1)}
    )
    assert torch.equal(model.trunk.stem.conv.weight, weights["module.visual.trunk.stem.conv.weight"])


@pytest.mark.parametrize(
    ("vision", "tokens"),
    [
        (TimmVisionConfig("regnetx_002", 64, 368, 4), 4),
        (SiglipVisionConfig(**VIT, image_size=32, patch_size=16), 4),
        (CLIPVisionConfig(**VIT, image_size=32, patch_size=16), 4),
    ],
    ids=["timm", "siglip", "clip"],
)
def test_build_llava_is_stock_and_survives_saving(vision: object, tokens: int, tmp_path: Path) -> None:
    text = LlamaForCausalLM(text_config())
    model = build_llava(vision, text, image_token_id=9, pad_token_id=0).eval()
    assert torch.equal(model.get_input_embeddings().weight, text.get_input_embeddings().weight)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    loaded = load_llava(tmp_path)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    ids = torch.tensor([[20, *[9] * tokens, 21, 22]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(1, 3, vision.image_size, vision.image_size),
    }
    with torch.no_grad():
        logits, again = model(**inputs).logits, loaded(**inputs).logits
    assert logits.shape == (1, tokens + 3, text.config.vocab_size)
    assert torch.equal(logits, again)


def test_build_llava_takes_vision_weights_and_an_untied_head() -> None:
    config = text_config()
    config.tie_word_embeddings = False
    text = LlamaForCausalLM(config)
    vision = TimmVisionModel(TimmVisionConfig("regnetx_002", 64, 368, 4))
    model = build_llava(vision, text, image_token_id=9)
    assert torch.equal(model.lm_head.weight, text.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    assert all(
        torch.equal(a, b) for a, b in zip(model.model.vision_tower.parameters(), vision.parameters(), strict=True)
    )


def test_a_training_step_moves_every_part() -> None:
    model = tiny_llava().train()
    image = model.config.image_token_id
    ids = torch.tensor([[20, *[image] * IMAGE.tokens, 21, 22, 23]] * 2)
    labels = ids.masked_fill(ids == image, -100)
    loss = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=torch.randn(2, 3, IMAGE.size, IMAGE.size),
        labels=labels,
    ).loss
    loss.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    assert still == []


def test_decoder_spec() -> None:
    config = text_config()
    expected = DecoderSpec(layers=2, kv_heads=2, head_dim=16, hidden=64, vocab=config.vocab_size, context=128)
    assert decoder_spec(config) == expected


def test_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model checkpoint"):
        load_llava(tmp_path)
    save_tiny_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot load"):
        load_llava(tmp_path)


def test_a_trunk_may_see_a_larger_picture() -> None:
    """The tower enlarges what it gets, so that a small picture leaves a finer map of tokens."""
    config = TimmVisionConfig.measure("regnetx_002", 64, trunk_size=128)
    assert (config.image_size, config.image_tokens) == (64, 16)
    model = TimmVisionModel(TimmVisionConfig(**{**config.to_diff_dict(), "trunk_args": {}})).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        larger = torch.nn.functional.interpolate(pixels, size=128, mode="bilinear")
        assert torch.equal(model(pixels).last_hidden_state[0], model.trunk.forward_features(larger)[0].flatten(1).T)


def test_a_pooled_tower_says_one_token() -> None:
    """Its mean is what the trunk was contrasted by."""
    config = TimmVisionConfig.measure("regnetx_002", 64, pooled=True)
    assert config.image_tokens == 1
    model = TimmVisionModel(TimmVisionConfig(**config.to_diff_dict())).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(
            model(pixels).last_hidden_state[:, 0], model.trunk.forward_features(pixels).mean((2, 3)), atol=1e-5
        )
