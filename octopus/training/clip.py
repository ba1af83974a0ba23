"""Stage `clip`: the vision tower learns what photos show by contrast with bilingual names.

In go packed photos, the label table and a tokenizer; out comes an open_clip model whose timm trunk becomes the vision
tower. Each photo is contrasted with the whole vocabulary (not only the batch, so the loss is the same on one process or
many): with its name and, where known, material, room, animal and broader word (image-text contrast in label space:
Yang et al., UniCL, 2022). Augmentation runs on the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from octopus.model import load_llava
from octopus.training.lm import take
from octopus.training.photos import Label, Photos
from octopus.training.stage import Stage, autocast, precision

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FACETS = ("name", "broader", "material", "room", "animal")
FACET_WEIGHTS = {"name": 1.0, "broader": 0.5, "material": 0.5, "room": 0.5, "animal": 0.5}
MATERIALS_ZH = {"plastic": "塑料", "paper": "纸", "cardboard": "纸板", "glass": "玻璃", "metal": "金属"}
MATERIALS_ZH |= {"organic": "厨余", "textile": "织物", "wood": "木头", "electronic": "电子产品", "other": "其他"}
ROOMS_ZH = {"bedroom": "卧室", "kitchen": "厨房", "bathroom": "浴室", "living room": "客厅", "dining room": "餐厅"}
ROOMS_ZH |= {"office": "书房", "exterior": "室外", "other": "其他房间"}


class Names:
    """The closed vocabularies that photos are contrasted with: for each facet its words, and each label's target."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self.words: dict[str, list[tuple[str, str]]] = {}
        self.targets: dict[str, Tensor] = {}
        for facet in FACETS:
            pairs = [facet_words(label, facet) for label in labels]
            known = list(dict.fromkeys(pair for pair in pairs if pair))
            place = {pair: i for i, pair in enumerate(known)}
            self.words[facet] = known
            self.targets[facet] = torch.tensor([place[pair] if pair else -100 for pair in pairs])


def facet_words(label: Label, facet: str) -> tuple[str, str] | None:
    """The English and Chinese word a photo of this label has in a facet, or None where that is unknown."""
    if facet == "name":
        return label.name_en, label.name_zh
    if facet == "broader":
        return label.broader_en, label.broader_zh
    if facet == "material":
        return (f"made of {label.material}", MATERIALS_ZH[label.material]) if label.material else None
    if facet == "room":
        return (f"room: {label.room}", ROOMS_ZH[label.room]) if label.room else None
    return (f"animal: {label.animal}", f"动物：{label.animal}") if label.animal else None


def build(config: Mapping[str, Any], vocabulary: int) -> open_clip.CustomTextCLIP:
    """An untrained open_clip model of the recipe's sizes."""
    return open_clip.CustomTextCLIP(
        embed_dim=config["width"],
        vision_cfg={
            "timm_model_name": config["trunk"],
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": config["phases"][-1][0],
        },
        text_cfg={
            "context_length": config["context"],
            "vocab_size": vocabulary,
            "width": config["text_width"],
            "heads": 4,
            "layers": config["text_layers"],
            "no_causal_mask": True,
            "pool_type": "first",
        },
    )


def encode_words(words: Sequence[str], tokenizer: Tokenizer, context: int) -> Tensor:
    """Token ids `[len(words), context]`: `<s>`, the word, padding."""
    start, pad = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("<pad>")
    rows = [[start, *tokenizer.encode(" " + word).ids][:context] for word in words]
    return torch.tensor([row + [pad] * (context - len(row)) for row in rows])


def augment(
    pixels_BHWC: Tensor, size: int, generator: torch.Generator, smallest: float = 0.3, jitter: float = 0.3
) -> Tensor:
    """Random crop, flip, brightness, contrast, saturation and tint on the device; normalised `[B, 3, size, size]` out.

    `smallest` is the least share of the area that a crop keeps.
    """
    batch, device = len(pixels_BHWC), pixels_BHWC.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(batch, generator=generator).mul_(high - low).add_(low).to(device)

    area, ratio = uniform(smallest, 1.0), torch.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(batch, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 0, 2] = width * flip, (1 - width) * uniform(-1, 1)
    theta[:, 1, 1], theta[:, 1, 2] = height, (1 - height) * uniform(-1, 1)
    grid = functional.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    images = pixels_BHWC.permute(0, 3, 1, 2).float().div_(255)
    images = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * uniform(1 - jitter, 1 + jitter).view(-1, 1, 1, 1)
    middle = images.mean((1, 2, 3), keepdim=True)
    images = middle + (images - middle) * uniform(1 - jitter, 1 + jitter).view(-1, 1, 1, 1)
    light = torch.stack([uniform(0.9, 1.1) for _ in range(3)], 1).view(-1, 3, 1, 1)  # lamps are yellow, shade is blue
    images = (images * light * uniform(1 - jitter, 1 + jitter).view(-1, 1, 1, 1)).clamp_(0, 1)
    return normalise(images)


def plain(pixels_BHWC: Tensor, size: int) -> Tensor:
    """Whole pictures, resized and normalised `[B, 3, size, size]`: what evaluation and use see.

    Shrunk as the runtime does, enlarged as `TimmVisionModel` does when its trunk wants larger pictures.
    """
    images = pixels_BHWC.permute(0, 3, 1, 2).float().div_(255)
    if size < images.shape[-1]:
        images = functional.interpolate(images, size=size, mode="bicubic", antialias=True).clamp_(0, 1)
    elif size > images.shape[-1]:
        images = functional.interpolate(images, size=size, mode="bilinear")
    return normalise(images)


class Store:
    """Packed photos where the training runs: in the memory of a GPU, else read from the file when asked for."""

    def __init__(self, photos: Photos, device: torch.device) -> None:
        self.photos, self.device = photos, device
        self._all: Tensor | None = None
        if device.type == "cuda":
            self._all = torch.empty(photos.pixels_NHWC.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(self._all), 8192):
                part = np.array(photos.pixels_NHWC[start : start + 8192])
                self._all[start : start + 8192] = torch.from_numpy(part).to(device)

    def pixels(self, rows: NDArray[np.int64]) -> Tensor:
        """Photos of these rows, uint8 `[len(rows), H, W, 3]` on the device."""
        if self._all is not None:
            return self._all[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.photos.pixels_NHWC[rows]).to(self.device)


@lru_cache(maxsize=1)
def store(photos: Photos, device: torch.device) -> Store:
    """The photos on a device, moved there once."""
    return Store(photos, device)


def normalise(images: Tensor) -> Tensor:
    """Subtract MEAN and divide by STD."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


class Contrast(nn.Module):
    """The training objective: photos and words meet at prototypes, one learned unit vector for each thing.

    Each photo is contrasted with the prototypes of every facet, and each English or Chinese word with the same ones.
    A text tower from scratch gives nearly equal vectors for all words at first; photos contrasted with it directly
    learned nothing in an epoch, while prototypes are apart from the start and need no text pass at every step.
    """

    def __init__(self, model: open_clip.CustomTextCLIP, names: Names, tokenizer: Tokenizer, context: int) -> None:
        super().__init__()
        self.model = model
        self.names = names
        width = model.text.text_projection.shape[1]
        self.prototypes = nn.ParameterDict(
            {facet: nn.Parameter(torch.randn(len(words), width)) for facet, words in names.words.items()}
        )
        self.ids = {  # facet -> one id tensor per language
            facet: [encode_words([pair[side] for pair in words], tokenizer, context) for side in (0, 1)]
            for facet, words in names.words.items()
        }

    def forward(self, images_BCHW: Tensor, label_B: Tensor, learn_words: bool, language: int) -> tuple[Tensor, Tensor]:
        """Weighted loss, and the share of photos whose name comes first."""
        image_BD = self.model.encode_image(images_BCHW, normalize=True).float()
        scale = self.model.logit_scale.exp().clamp(max=100)
        total, right = image_BD.new_zeros(()), image_BD.new_zeros(())
        for facet in self.ids:
            target = self.names.targets[facet].to(label_B.device)[label_B]
            logits = scale * image_BD @ functional.normalize(self.prototypes[facet], dim=-1).T
            smoothing = 0.1 if facet == "name" else 0.0
            loss = functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum") / len(target)
            total = total + FACET_WEIGHTS[facet] * loss
            if facet == "name":
                right = (logits.argmax(1) == target).float().mean()
        if learn_words:
            total = total + self.word_loss(language)
        return total, right

    def word_loss(self, language: int) -> Tensor:
        """Cross-entropy of every word of a language against the (held) prototypes of its facet."""
        device = self.model.logit_scale.device
        ids = torch.cat([ids[language] for ids in self.ids.values()]).to(device)
        vectors = self.model.encode_text(ids, normalize=True).float()
        losses = []
        for facet, words in zip(self.ids, vectors.split([len(i[language]) for i in self.ids.values()]), strict=True):
            prototypes = functional.normalize(self.prototypes[facet].detach(), dim=-1)
            losses.append(functional.cross_entropy(20 * words @ prototypes.T, torch.arange(len(words), device=device)))
        return torch.stack(losses).mean()


@torch.no_grad()
def embed(
    model: open_clip.CustomTextCLIP, store: Store, rows: NDArray[np.int64], size: int, batch: int = 256
) -> Tensor:
    """Unit image vectors `[len(rows), width]` of whole photos."""
    model.eval()
    parts = []
    for start in range(0, len(rows), batch):
        pixels = store.pixels(rows[start : start + batch])
        # Compiling once more for a few thousand pictures would take longer than running them as they are.
        with torch.compiler.set_stance("force_eager"), autocast(store.device):
            parts.append(model.encode_image(plain(pixels, size), normalize=True).float().cpu())
    model.train()
    return torch.cat(parts)


def recognise(objective: Contrast, store: Store, rows: NDArray[np.int64], size: int) -> dict[str, float]:
    """Top-1 on held-out photos: `facet/source` -> accuracy among all words of the facet."""
    vectors = embed(objective.model, store, rows, size)
    labels = torch.from_numpy(store.photos.label_N[rows])
    sources = np.asarray([store.photos.source[i] for i in rows])
    scores = {}
    for facet in objective.ids:
        words = functional.normalize(objective.prototypes[facet].detach(), dim=-1).cpu()
        target = objective.names.targets[facet][labels]
        right = ((vectors @ words.T).argmax(1) == target).numpy()
        for source in sorted(set(sources)):
            known = (target.numpy() >= 0) & (sources == source)
            if known.any() and len(objective.names.words[facet]) > 1:
                scores[f"{facet}/{source}"] = float(right[known].mean())
    return scores


def schedule(step: int, total: int, rate: float, warmup: int = 200) -> float:
    """Linear warm-up, then cosine to nearly zero."""
    if step < warmup:
        return rate * (step + 1) / warmup
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))


def train(
    stage: Stage, photos: Photos, tokenizer: Tokenizer, minutes: float | None = None, start: Path | None = None
) -> None:
    """Run the stage to its end, or for `minutes`; go on from the last checkpoint if there is one.

    `start`: a LLaVA checkpoint whose trunk to begin with.
    """
    config = stage.config
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # shapes never change within a phase
    accelerator = Accelerator(mixed_precision=precision())
    objective = Contrast(build(config, tokenizer.get_vocab_size()), Names(photos.labels), tokenizer, config["context"])
    objective.model.visual.to(memory_format=torch.channels_last)
    decay = [p for p in objective.parameters() if p.ndim > 1]
    rest = [p for p in objective.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": config["weight_decay"]}, {"params": rest, "weight_decay": 0.0}],
        lr=config["rate"],
        betas=(0.9, 0.98),
        fused=True,
    )
    state = stage.load()
    first = 0
    stage.begin(state is not None)
    if start and not state:
        take(objective.model.visual.trunk, load_llava(start).model.vision_tower.trunk.state_dict(), start)
    if state:
        objective.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        stage.say(f"resumed at step {first}")
    # Every process reads all the words, seldom, and so has their gradients whole: exchanging them is work for nothing.
    words = [name for name, _ in objective.named_parameters() if name.startswith("model.text.")]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, words)  # type: ignore[no-untyped-call]
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    if config.get("compile", False):
        objective.model.visual.trunk.compile(dynamic=False)
    loop(stage, photos, prepared, objective, optimizer, accelerator, first, minutes)


def loop(
    stage: Stage,
    photos: Photos,
    prepared: nn.Module,
    objective: Contrast,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    first: int,
    minutes: float | None,
) -> None:
    """The steps themselves. Every draw depends on the step number alone, so a resumed run sees the same photos."""
    config, began, stored = stage.config, time.time(), store(photos, accelerator.device)
    rows, held_out = photos.rows("train"), photos.rows("dev")[::5]
    weights = photos.weights(rows)
    total = sum(steps for _, steps in config["phases"])
    sizes = np.repeat([size for size, _ in config["phases"]], [steps for _, steps in config["phases"]])
    every = config["words_every"]
    share, rank = config["batch"] // accelerator.num_processes, accelerator.process_index
    cumulative = np.cumsum(weights)
    epoch = max(1, len(rows) // config["batch"])
    bar, saved, seen = stage.progress(total, first), time.time(), []
    chance = math.log(len(objective.names.words["name"]))
    for step in range(first, total):
        draw = np.random.default_rng([1, step])
        chosen = rows[np.searchsorted(cumulative, draw.random(config["batch"])).clip(max=len(rows) - 1)]
        chosen = chosen[rank * share : (rank + 1) * share]
        generator = torch.Generator().manual_seed(step * 64 + rank)
        chosen = np.sort(chosen)  # read in the order of the file
        labels = torch.from_numpy(photos.label_N[chosen]).to(accelerator.device)
        images = augment(stored.pixels(chosen), int(sizes[step]), generator)
        for group in optimizer.param_groups:
            group["lr"] = schedule(step, total, config["rate"])
        with accelerator.autocast():
            loss, right = prepared(images, labels, step % every == 0, step // every % 2)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        bar.update()
        seen.append(torch.stack([loss.detach(), right]))
        last = step + 1 == total
        if (step + 1) % 25 == 0 or last:
            mean = torch.stack(seen).mean(0).tolist()
            stage.log(step + 1, loss=mean[0], top1=mean[1])
            seen.clear()
        if accelerator.is_main_process and ((step + 1) % epoch == 0 or last):
            scores = recognise(objective, stored, held_out, int(sizes[step]))
            stage.log(step + 1, **scores)
            shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
            stage.say(f"step {step + 1}/{total} loss {loss.item():.2f} (name chance {chance:.2f}): {shown}")
        stop = minutes is not None and time.time() - began > minutes * 60
        if accelerator.is_main_process and (time.time() - saved > 240 or stop or last):
            stage.save({"model": objective.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            saved = time.time()
        if stop:
            stage.say(f"stopped after {minutes} minutes at step {step + 1}; run again to go on")
            return
    scores = recognise(objective, stored, held_out, int(sizes[-1])) if accelerator.is_main_process else {}
    stage.finish(held_out=scores, photos=len(rows))


def load_state(folder: Path) -> dict[str, Tensor]:
    """The weights of the last checkpoint, trunk and all."""
    state: dict[str, Tensor] = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=False)["model"]
    return state
