"""`octopus build` on tiny towers and language models of every family, saved in their own formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")

from safetensors.torch import save_file  # noqa: E402
from timm.models import register_model  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from transformers import (  # noqa: E402
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlavaForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from octopus import Agent, MemoryPhone, Registry  # noqa: E402
from octopus.build import TEMPLATE, build  # noqa: E402
from octopus.cli import main  # noqa: E402
from octopus.errors import ModelError, UsageError  # noqa: E402
from octopus.manifest import Manifest  # noqa: E402
from octopus.tokens import Tokens  # noqa: E402
from octopus.towers import from_open_clip, load_language, load_vision  # noqa: E402
from tiny_families import FAMILIES, save_language  # noqa: E402

VIT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 16}


@register_model
def octopus_test_siglip(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """The layout of SigLIP towers in timm, small."""
    wanted = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 3, "num_heads": 2, "class_token": False}
    kwargs = {**wanted, "global_pool": "map", **{k: v for k, v in kwargs.items() if not k.startswith("pretrained")}}
    kwargs.pop("cache_dir", None)
    model = VisionTransformer(**kwargs)
    model.pretrained_cfg = model.default_cfg = {"architecture": "octopus_test_siglip"}
    return model


def open_clip_folder(folder: Path, vision: dict[str, Any], mode: str) -> tuple[Path, Any]:
    """An open_clip model as its hub stores it."""
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(1)
    model = open_clip.CLIP(**config).eval()
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter += 0.05 * torch.randn_like(parameter)  # zero biases would hide mistakes
    folder.mkdir()
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "resize_mode": mode}
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(folder / "open_clip_model.safetensors"))
    return folder, model


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).min())


@pytest.mark.parametrize("quick", [False, True])
def test_open_clip_vit_becomes_clip(quick: bool, tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16}
    config = {
        "embed_dim": 32,
        "vision_cfg": vision,
        "text_cfg": {"vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    visual = open_clip.CLIP(**config, quick_gelu=quick).visual.eval()
    tower = from_open_clip(visual).eval()
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        pooled = tower(pixels).pooler_output @ visual.proj
        assert cosine(pooled, visual(pixels)) > 0.9999
    assert tower.config.hidden_act == ("quick_gelu" if quick else "gelu")


def test_open_clip_siglip_becomes_siglip(tmp_path: Path) -> None:
    vision = {"image_size": 32, "timm_model_name": "octopus_test_siglip", "timm_pool": "map", "timm_proj": "none"}
    folder, model = open_clip_folder(tmp_path / "siglip", vision, "squash")
    tower = load_vision(str(folder))
    assert tower.model.config.model_type == "siglip_vision_model"
    assert (tower.image.mean, tower.image.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert (tower.image.fit, tower.image.tokens, tower.image.size) == ("squash", 4, 32)
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert cosine(tower.model(pixels).last_hidden_state, model.visual.trunk.forward_features(pixels)) > 0.9999


def test_any_other_trunk_of_open_clip_goes_through_the_adapter(tmp_path: Path) -> None:
    vision = {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"}
    folder, model = open_clip_folder(tmp_path / "trunk", vision, "shortest")
    tower = load_vision(str(folder))
    assert tower.model.config.model_type == "octopus_timm_vision" and tower.image.fit == "crop"
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.visual.trunk.forward_features(pixels).flatten(2).transpose(1, 2)
        assert torch.equal(tower.model(pixels).last_hidden_state, expected)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_towers_of_transformers(kind: str, whole: bool, tmp_path: Path) -> None:
    if kind == "siglip":
        config: Any = SiglipVisionConfig(**VIT, **PICTURE)
        model = (
            SiglipModel(SiglipConfig({**VIT, "vocab_size": 64}, config.to_dict()))
            if whole
            else SiglipVisionModel(config)
        )
    else:
        config = CLIPVisionConfig(**VIT, **PICTURE)
        model = CLIPModel(CLIPConfig({**VIT, "vocab_size": 64}, config.to_dict())) if whole else CLIPVisionModel(config)
    model.eval().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "do_center_crop": true}')
    tower = load_vision(str(tmp_path))
    assert (tower.image.mean, tower.image.fit, tower.image.tokens) == ((0.1, 0.2, 0.3), "crop", 4)
    pixels = torch.randn(2, 3, 32, 32)
    own = model
    if whole:
        own = (SiglipVisionModel if kind == "siglip" else CLIPVisionModel)(config).eval()
        own.vision_model.load_state_dict(model.vision_model.state_dict())
    with torch.no_grad():
        expected = own(pixels, output_hidden_states=True).hidden_states[-2]
        assert torch.equal(tower.model(pixels, output_hidden_states=True).hidden_states[-2], expected)


@pytest.fixture(scope="module")
def vision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    torch.manual_seed(2)
    SiglipVisionModel(SiglipVisionConfig(**VIT, **PICTURE)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_builds_and_answers(family: str, vision_folder: Path, tmp_path: Path) -> None:
    language = save_language(family, tmp_path / "lm")
    folder = tmp_path / "built"
    manifest = build(str(vision_folder), str(language), folder)
    assert Manifest.load(folder) == manifest and manifest.name == "built"
    assert manifest.template.endswith(TEMPLATE)

    original, tokens = load_language(str(language)), Tokens.load(folder)
    text = "email mom: 12 eggs & 牛奶 🦑"
    assert tokens.decode_value(tokens.encode_text(text)) == text
    model = LlavaForConditionalGeneration.from_pretrained(folder)  # stock transformers knows all of it
    old, new = original.model.get_input_embeddings().weight, model.get_input_embeddings().weight
    known = original.tokenizer.get_vocab_size()
    assert torch.equal(new[:known], old[:known])
    entry = manifest.by_name("send_text")
    words = f"send_text {Registry.default()['send_text'].description}"
    ids = original.tokenizer.encode(words, add_special_tokens=False).ids
    assert torch.allclose(new[entry.id], old[ids].mean(0), atol=1e-6)
    if not original.model.config.tie_word_embeddings:
        head = original.model.get_output_embeddings().weight
        assert torch.allclose(model.lm_head.weight[entry.id], head[ids].mean(0), atol=1e-6)
        assert not torch.equal(model.lm_head.weight[entry.id], new[entry.id])
    result = Agent(folder, phone=MemoryPhone(":memory:")).call(text, dry_run=True)
    assert result.refused or result.question or result.calls


def test_stock_transformers_serves_it(vision_folder: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    manifest = build(str(vision_folder), str(save_language("qwen2", tmp_path / "lm")), tmp_path / "built")
    processor = AutoProcessor.from_pretrained(tmp_path / "built")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8))
    inputs = processor(images=photo, text=manifest.template.replace("{query}", "buy this"), return_tensors="pt")
    assert int((inputs["input_ids"] == manifest.special.image).sum()) == manifest.image.tokens
    assert inputs["input_ids"][0].tolist() == Tokens.load(tmp_path / "built").encode_prompt("buy this", 4)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "built").eval()
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert written.shape[1] > inputs["input_ids"].shape[1]


def test_the_command_says_the_count(vision_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    language = save_language("llama", tmp_path / "lm")
    command = ["build", "--vision", str(vision_folder), "--lm", str(language), "-o", str(tmp_path / "m"), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "m")
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert main(command) == 2  # it is there already
    assert "not empty" in capsys.readouterr().err


def test_too_many_parameters_are_refused(vision_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    language = save_language("llama", tmp_path / "lm")
    alone = sum(p.numel() for p in load_language(str(language)).model.parameters())
    for largest, words in ((10_000, "alone has 0 million"), (alone, "together they have 0 million")):
        monkeypatch.setattr("octopus.build.LARGEST", largest)
        with pytest.raises(ModelError, match=f"{words} parameters"):
            build(str(vision_folder), str(language), tmp_path / "m")
        assert not (tmp_path / "m").exists() and not list(tmp_path.glob(".m*"))
    build(str(vision_folder), str(language), tmp_path / "m", allow_large=True)


def test_shapes_with_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from octopus import towers

    small = type(towers.TEXT_SHAPES["Qwen/Qwen2-0.5B"])(
        vocab_size=9000, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    monkeypatch.setattr(towers, "TEXT_SHAPES", {"Qwen/Qwen2-0.5B": small})
    monkeypatch.setattr(towers, "VISION_SHAPES", {"a/b": SiglipVisionConfig(**VIT, **PICTURE)})
    manifest = build("a/b", "Qwen/Qwen2-0.5B", tmp_path / "m", random=True)
    assert manifest.decoder.vocab == 9000 and manifest.image.tokens == 4
    assert Tokens.load(tmp_path / "m").encode_prompt("buy this", 4)


@pytest.mark.parametrize(
    ("vision", "language", "words"),
    [
        ("./nowhere", "lm", "is missing"),
        ("open_clip:no-such-net/x", "lm", "open_clip knows no model"),
        ("open_clip:ViT-B-32/nobody", "lm", "no weights 'nobody'"),
        ("lm", "lm", "not a vision tower"),
        ("vision", "vision", "not a language model"),
        ("vision", "./nowhere", "is missing"),
        ("vision", "broken", "cannot load the language model"),
    ],
)
def test_bad_specs(vision: str, language: str, words: str, vision_folder: Path, tmp_path: Path) -> None:
    places = {"vision": str(vision_folder), "lm": str(save_language("llama", tmp_path / "lm"))}
    places["broken"] = str(save_language("llama", tmp_path / "broken"))
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match=words) as error:
        build(places.get(vision, vision), places.get(language, language), tmp_path / "m")
    assert "\n" not in error.value.message
    assert not (tmp_path / "m").exists()


def test_an_existing_folder_is_left_alone(vision_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        build(str(vision_folder), "whatever", tmp_path)
