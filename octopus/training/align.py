"""Stage `align`: the language model learns to read the vision tower.

In go the tower of stage `clip` and the language model of stage `lm`; out comes a stock LLaVA checkpoint that names what
a photo shows, in either language, and its material, room or animal. First the projector alone learns, then the
language model with it; the tower stays frozen. `probe` is the gate in front: a linear probe on its mean features
(`features`) must be well above chance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from octopus.core import Call
from octopus.errors import OctopusError
from octopus.model import TimmVisionConfig, TimmVisionModel
from octopus.training import clip
from octopus.training.data import PhotoChoice
from octopus.training.functions import Encoder, Row
from octopus.training.photos import Photos
from octopus.training.requests import Example, Language
from octopus.training.stage import Stage, autocast

LANGUAGES: tuple[Language, Language] = ("en", "zh")
CUES = {
    "name": ("what is this", "这是什么"),
    "material": ("what is it made of", "什么材质"),
    "room": ("which room is this", "这是哪个房间"),
    "animal": ("which animal is this", "这是什么动物"),
}


def tower(clip_folder: Path, config: Mapping[str, Any]) -> TimmVisionModel:
    """The trained trunk as a vision tower of the final size."""
    trunk_size = config["phases"][-1][0]
    size = config.get("image_size", trunk_size)
    model = TimmVisionModel(TimmVisionConfig.measure(config["trunk"], size, trunk_size=trunk_size))
    _, state = clip.load_trunk(clip_folder)
    model.load_open_clip(state)
    model.eval()
    return model


@torch.no_grad()
def features(model: TimmVisionModel, photos: Photos, path: Path, batch: int = 512) -> NDArray[np.float16]:
    """Mean tower output of every photo, `[N, width]` float16: of a new crop where the tower was trained on it.

    Seen whole, a photo of the training side would look better known than it is. Stored at `path` and read from there
    next time, unless `checkpoint.pt` beside it is newer: the tower learned since.
    """
    checkpoint = path.with_name("checkpoint.pt")
    if not path.exists() or (checkpoint.exists() and checkpoint.stat().st_mtime_ns > path.stat().st_mtime_ns):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        store, size, model = clip.store(photos, device), model.config.image_size, model.to(device)
        found = np.zeros((len(photos.pixels_NHWC), model.config.hidden_size), np.float16)
        generator = torch.Generator().manual_seed(0)
        for split in ("train", "dev"):
            rows = photos.rows(split)
            for chosen in np.split(rows, range(batch, len(rows), batch)):
                pixels = store.pixels(chosen)
                images = clip.augment(pixels, size, generator) if split == "train" else clip.plain(pixels, size)
                with autocast(device):
                    states = model(images).last_hidden_state
                found[chosen] = states.float().mean(1).cpu().numpy()
        np.save(path.with_suffix(".tmp.npy"), found)
        path.with_suffix(".tmp.npy").replace(path)
        model.to("cpu")
    stored: NDArray[np.float16] = np.load(path)
    return stored


def certainty(
    clip_folder: Path,
    config: Mapping[str, Any],
    photos: Photos,
    features_NC: NDArray[np.float16],
    tokenizer: Tokenizer,
) -> NDArray[np.float32]:
    """The tower's own probability of each photo's right name, `[N]`: tells when the exact name is doubtful."""
    vocabulary = tokenizer.get_vocab_size()
    objective = clip.Contrast(clip.build(config, vocabulary), clip.Names(photos.labels), tokenizer, config["context"])
    objective.load_state_dict(clip.load_trunk(clip_folder)[1])
    objective.eval()
    found = np.ones(len(photos.label_N), dtype=np.float32)
    with torch.no_grad():
        words = torch.nn.functional.normalize(objective.prototypes["name"], dim=-1)
        scale = objective.model.logit_scale.exp()
        head = objective.model.visual.head
        for start in range(0, len(found), 4096):
            views_NC = torch.from_numpy(features_NC[start : start + 4096].astype(np.float32))
            vectors = torch.nn.functional.normalize(head(views_NC), dim=-1)
            chances = (scale * vectors @ words.T).softmax(-1).numpy()
            labels = photos.label_N[start : start + 4096]
            targets = objective.names.targets["name"].numpy()[labels]
            found[start : start + 4096] = chances[np.arange(len(labels)), targets]
    return found


def probe(features_NC: NDArray[np.float16], photos: Photos, ridge: float = 1.0) -> dict[str, float]:
    """Linear probe (ridge regression on mean features): held-out top-1 of the name, and chance."""
    train, held_out = photos.rows("train"), photos.rows("dev")
    pooled = features_NC.astype(np.float32)
    mean, std = pooled[train].mean(0), pooled[train].std(0) + 1e-6
    x = (pooled - mean) / std
    classes = np.unique(photos.label_N[train])
    y = (photos.label_N[train][:, None] == classes[None]).astype(np.float32)
    gram = x[train].T @ x[train] + ridge * len(train) * 1e-3 * np.eye(x.shape[1], dtype=np.float32)
    weights = np.linalg.solve(gram, x[train].T @ (y - y.mean(0)))
    guess = classes[(x[held_out] @ weights + y.mean(0)).argmax(1)]
    return {"probe": float((guess == photos.label_N[held_out]).mean()), "chance": 1 / len(classes)}


class Captions:
    """Endless "what is this" examples; the answer is carried as the argument of a search."""

    def __init__(self, choice: PhotoChoice) -> None:
        self.choice = choice
        self.photos = choice.photos
        self.rows = self.photos.rows("train")
        self.cumulative = np.cumsum(self.photos.weights(self.rows))

    def example(self, index: int) -> tuple[Example, int | None]:
        """Example and photo of a number."""
        rng = random.Random(f"caption {index}")
        place = int(np.searchsorted(self.cumulative, rng.random()))
        row = int(self.rows[min(place, len(self.rows) - 1)])
        known, lang = self.choice.facts(row), LANGUAGES[rng.random() < 0.5]
        names = known.names(lang)
        facets = [facet for facet in ("material", "room", "animal") if names[facet]]
        facet = rng.choice(facets) if facets and rng.random() < 0.4 else "name"
        answer = names["item" if facet == "name" else facet]
        cue = CUES[facet][lang == "zh"]
        return Example(
            cue, (Call("google_search", {"query": answer or ""}, "", 1.0),), "en" if lang == "en" else "zh", ""
        ), row


class CaptionEncoder(Encoder):
    """Rows whose answer is the bare words, without a function in front."""

    def row(self, text: str, calls: Sequence[Call], photo: int | None, lang: str) -> Row:
        """The row of a caption."""
        prompt = self.prompt(text, photo, lang)
        answer = self.tokens.encode_value(calls[0].arguments["query"], "")
        return Row([*prompt, *answer, self.tokens.manifest.special.end], len(prompt), -1 if photo is None else photo)


def gate(stage: Stage, scores: Mapping[str, float]) -> None:
    """Refuse to go on with a tower that sees nothing."""
    stage.say(f"linear probe {scores['probe']:.3f}, chance {scores['chance']:.4f}")
    if scores["probe"] < 10 * scores["chance"]:
        raise OctopusError("the vision tower's features are hardly above chance", "train stage clip longer")
