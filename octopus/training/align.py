"""Stage `align`: the language model learns to read the vision tower.

In go the tower of stage `clip` and the language model of stage `lm`; out comes a stock LLaVA checkpoint that names what
a photo shows, in either language, and its material, room or animal. First the projector alone learns, from word
vectors (`point_at_words`) and then before the language model, at last the language model with it; the tower stays
frozen. `probe` is the gate in front: a linear probe on its mean features (`features`) must be well above chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from octopus.errors import OctopusError
from octopus.model import TimmVisionConfig, TimmVisionModel
from octopus.tokens import Tokens
from octopus.training import clip
from octopus.training.photos import Photos
from octopus.training.stage import Stage, autocast


def tower(clip_folder: Path, config: Mapping[str, Any]) -> TimmVisionModel:
    """The trained trunk as a vision tower of the recipe's `image_size`, enlarged to `trunk_size`, maybe `pooled`.

    Both sizes are that of the last phase unless the recipe says otherwise. A trunk trained on random crops sees whole
    pictures best somewhat enlarged, as things in them are smaller (Touvron et al., FixRes, 2019).
    """
    last = config["phases"][-1][0]
    trunk_size = config.get("trunk_size", last)
    model = TimmVisionModel(
        TimmVisionConfig.measure(
            config["trunk"],
            config.get("image_size", last),
            trunk_size=trunk_size,
            pooled=config.get("pooled", False),
        )
    )
    model.load_open_clip(clip.load_state(clip_folder))
    model.eval()
    return model


def trained_rows(photos: Photos) -> NDArray[np.int64]:
    """The photos of the training side that speak for all: seeing every one takes as long as many steps of training."""
    return photos.rows("train")[::3]


def held_out_rows(photos: Photos) -> NDArray[np.int64]:
    """The photos of the development side that towers and projectors are tried on."""
    return photos.rows("dev")[::5]


@torch.no_grad()
def features(model: TimmVisionModel, photos: Photos, path: Path, batch: int = 64) -> NDArray[np.float16]:
    """Mean tower output of photos, `[N, width]` float16: of crops of `trained_rows`, of `held_out_rows` whole, else 0.

    A photo of the training side, seen whole, would look better known than it is. Stored at `path` and read from there
    next time, if it is the same tower then.
    """
    known, mark = weights_hash(model), path.with_suffix(".sha256")
    if not (path.exists() and mark.exists() and mark.read_text(encoding="utf-8") == known):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        store, size, model = clip.store(photos, device), model.config.image_size, model.to(device).eval()
        found = np.zeros((len(photos.pixels_NHWC), model.config.hidden_size), np.float16)
        generator = torch.Generator().manual_seed(0)
        for rows in (trained_rows(photos), held_out_rows(photos)):
            for chosen in np.split(rows, range(batch, len(rows), batch)):
                pixels, trained = store.pixels(chosen), photos.split[chosen[0]] == "train"
                images = clip.augment(pixels, size, generator) if trained else clip.plain(pixels, size)
                with autocast(device):
                    states = model(images).last_hidden_state
                found[chosen] = states.float().mean(1).cpu().numpy()
        np.save(path.with_suffix(".tmp.npy"), found)
        path.with_suffix(".tmp.npy").replace(path)
        mark.write_text(known, encoding="utf-8")
        model.to("cpu")
    stored: NDArray[np.float16] = np.load(path)
    return stored


def weights_hash(model: nn.Module) -> str:
    """Hex SHA-256 over the weights of a model."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def certainty(features_NC: NDArray[np.float16], photos: Photos) -> NDArray[np.float32]:
    """The probability of each photo's right name, `[N]`: tells when the exact name is doubtful.

    By softmax regression on the features of the other half of the photos. A photo without features has the mean of
    those with its label.
    """
    rows = trained_rows(photos)
    labels_R, names = photos.label_N[rows], clip.Names(photos.labels)
    targets_R = names.targets["name"][torch.from_numpy(labels_R)]
    x_RC = torch.from_numpy(features_NC[rows]).float()
    x_RC = (x_RC - x_RC.mean(0)) / (x_RC.std(0) + 1e-6)
    half_R = torch.from_numpy(np.random.default_rng(5).permutation(len(rows)) % 2)
    sure_R = np.empty(len(rows), np.float32)
    for half in (0, 1):
        learnt, judged = half_R == half, half_R != half
        chances = regress(x_RC[learnt], targets_R[learnt], len(names.words["name"]), x_RC[judged])
        sure_R[judged.numpy()] = chances.gather(1, targets_R[judged][:, None])[:, 0].numpy()
    count = np.bincount(labels_R, minlength=len(photos.labels))
    mean = np.bincount(labels_R, sure_R, minlength=len(photos.labels)) / np.maximum(count, 1)
    found = np.where(count > 0, mean, 1.0)[photos.label_N].astype(np.float32)
    found[rows] = sure_R
    return found


def regress(x_RC: Tensor, target_R: Tensor, classes: int, other_QC: Tensor, steps: int = 300) -> Tensor:
    """Softmax regression of the targets on x; probabilities `[Q, classes]` of other rows."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(x_RC.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(x_RC), (2048,), generator=generator)
        loss = functional.cross_entropy(layer(x_RC[chosen]), target_R[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        chances: Tensor = layer(other_QC).softmax(-1)
    return chances


def probe(features_NC: NDArray[np.float16], photos: Photos, ridge: float = 1.0) -> dict[str, float]:
    """Linear probe (ridge regression on mean features): held-out top-1 of the name, and chance."""
    train, held_out = trained_rows(photos), held_out_rows(photos)
    pooled = features_NC.astype(np.float32)
    mean, std = pooled[train].mean(0), pooled[train].std(0) + 1e-6
    x = (pooled - mean) / std
    classes = np.unique(photos.label_N[train])
    y = (photos.label_N[train][:, None] == classes[None]).astype(np.float32)
    gram = x[train].T @ x[train] + ridge * len(train) * 1e-3 * np.eye(x.shape[1], dtype=np.float32)
    weights = np.linalg.solve(gram, x[train].T @ (y - y.mean(0)))
    guess = classes[(x[held_out] @ weights + y.mean(0)).argmax(1)]
    return {"probe": float((guess == photos.label_N[held_out]).mean()), "chance": 1 / len(classes)}


def point_at_words(
    model: LlavaForConditionalGeneration,
    features_NC: NDArray[np.float16],
    photos: Photos,
    tokens: Tokens,
    config: Mapping[str, Any],
) -> dict[str, float]:
    """The projector learns to turn stored features into the word vectors of what a photo shows, in both languages.

    The language model understands photos that are told in words, so an image token that resembles the word is most of
    the way (a map from image to text space: Merullo et al., LiMBeR, 2023), and needs neither tower nor language model:
    a minute here saves many of `align`. Returns the held-out top-1 of names for each language, and chance.
    """
    projector, table_VD = model.model.multi_modal_projector, model.get_input_embeddings().weight.detach().float()
    objective_names = clip.Names(photos.labels)
    pairs = objective_names.words["name"]
    words_2WD = torch.stack(
        [torch.stack([table_VD[tokens.encode_text(f" {pair[side]}")].mean(0) for pair in pairs]) for side in (0, 1)]
    )
    centre_D = words_2WD.mean((0, 1))  # what all words share tells nothing about one
    radius = (words_2WD - centre_D).norm(dim=-1).mean()
    units_2WD = functional.normalize(words_2WD - centre_D, dim=-1)
    target_N = objective_names.targets["name"][torch.from_numpy(photos.label_N)]
    train, held_out = trained_rows(photos), held_out_rows(photos)
    cumulative, rng = np.cumsum(photos.weights(train)), np.random.default_rng(4)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=config["rate"], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config["rate"], total_steps=config["steps"])

    def look(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        offset_BD = projector(torch.from_numpy(features_NC[rows]).float()[:, None])[:, 0] - centre_D
        return offset_BD, 20 * functional.normalize(offset_BD, dim=-1) @ units_2WD.transpose(1, 2)

    for _ in range(config["steps"]):
        rows = train[np.searchsorted(cumulative, rng.random(config["batch"])).clip(max=len(train) - 1)]
        offset_BD, logits_2BW = look(rows)
        loss = sum(functional.cross_entropy(logits_BW, target_N[rows]) for logits_BW in logits_2BW)
        loss = loss + (offset_BD.norm(dim=-1) / radius - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = (look(held_out)[1].argmax(-1) == target_N[held_out]).float().mean(1)
    return {"en": float(right[0]), "zh": float(right[1]), "chance": 1 / len(pairs)}


def gate(stage: Stage, scores: Mapping[str, float]) -> None:
    """Refuse to go on with a tower that sees nothing."""
    stage.say(f"linear probe {scores['probe']:.3f}, chance {scores['chance']:.4f}")
    if scores["probe"] < 10 * scores["chance"]:
        raise OctopusError("the vision tower's features are hardly above chance", "train stage clip longer")
