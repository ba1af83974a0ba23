"""What the functions stage and the evaluation look at: requests, each with a photo that fits it.

In go annotated requests, the label table and packed photos; out come training examples (endlessly varied, each fixed by
its number) and development cases (one for each held-out line, as written, with a held-out photo). `check_apart` proves
that the two sides share no request and no photo. Knows nothing about token ids.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octopus.core import Call
from octopus.errors import OctopusError
from octopus.training.augment import PhotoFacts, Vocabulary, realise
from octopus.training.photos import Label, Photos
from octopus.training.requests import MISSING, PHOTO, Annotated, Example, Language, Request, normalised

ANIMALS_ZH = {"dog": "狗", "cat": "猫", "bird": "鸟", "fish": "鱼", "pig": "猪", "guinea pig": "豚鼠", "ferret": "雪貂"}
DOMAINS = {
    "doordash_order": "food",
    "instacart_shopping": "groceries",
    "smart_recycling": "waste material",
    "interior_design": "rooms",
    "pet_care": "pets",
    "amazon_purchase": "products",
    "lost_and_found": "found objects",
    "google_search": "search",
}
DISTRACTOR = 0.12
"""Share of the requests without a photo that get an unrelated one in training."""
AUXILIARY = 0.08
"""Share of training examples taken from independent refusal sets."""
CAPTIONED = 0.3
"""Share of training examples that ask what a photo shows, so that functions do not crowd out seeing."""
CAPTION = "caption"
"""Stands for a function where the answer is bare words."""
LANGUAGES: tuple[Language, Language] = ("en", "zh")
CUES = {
    "name": ("name:", "名称："),
    "material": ("material:", "材质："),
    "room": ("room:", "房间："),
    "animal": ("animal:", "动物："),
}
"""What stands where a request would: nothing that a person says, because to "what is this" a call is the answer."""
REPEAT_TWO_CALLS = 2
"""How often a request with two calls is seen for one with a single call."""


@dataclass(frozen=True)
class Case:
    """One development request. `exact` and `broader` are the names of what the photo shows, where a call needs it."""

    id: str
    lang: str
    text: str
    photo: int | None
    role: str
    calls: tuple[Call, ...]
    domain: str | None
    exact: str
    broader: str


class PhotoChoice:
    """Chooses photos that fit a request, and says what they show.

    `certain_N`, where given, is how sure the vision tower is of each photo's own name: below `doubt` the broader
    word is what a careful person would say, and so the answer to learn.
    """

    def __init__(
        self, photos: Photos, split: str, certain_N: NDArray[np.float32] | None = None, doubt: float = 0.01
    ) -> None:
        self.photos, self.split = photos, split
        self.certain_N, self.doubt = certain_N, doubt
        self._fits: dict[frozenset[tuple[str, str]], dict[int, float]] = {}
        self._rows = photos.rows(split)

    def fitting(self, request: Request) -> dict[int, float]:
        """Labels that can fill every slot the request leaves to the photo, with weights."""
        wanted = frozenset(
            (call.function, slot) for call in request.calls for slot, value in call.values.items() if value == PHOTO
        )
        if wanted not in self._fits:
            self._fits[wanted] = {
                i: min(self.photos.count(i, self.split), 200) ** 0.5
                for i, label in enumerate(self.photos.labels)
                if all(fits(label, *pair) for pair in wanted)
            }
        return self._fits[wanted]

    def choose(self, request: Request, rng: random.Random) -> tuple[int, PhotoFacts]:
        """A photo for the request, and its facts. A photo that is only attached may show anything."""
        labels = self.fitting(request) if request.photo == "needed" else {}
        row = self.photos.pick(labels, self.split, rng) if labels else int(rng.choice(self._rows))
        return row, self.facts(row)

    def facts(self, row: int) -> PhotoFacts:
        """What a photo shows, by its exact or, when in doubt, its broader name."""
        label = self.photos.labels[self.photos.label_N[row]]
        doubtful = self.certain_N is not None and self.certain_N[row] < self.doubt
        return facts(label, broad=doubtful)

    def any(self, rng: random.Random) -> int:
        """Any photo of this side."""
        return int(rng.choice(self._rows))


def fits(label: Label, function: str, slot: str) -> bool:
    """Whether a photo of this kind can fill this slot."""
    if slot == "material":
        return bool(label.material)
    if slot == "room":
        return bool(label.room)
    if slot == "animal":
        return bool(label.animal)
    if slot == "query":
        return label.source != "waste9_new" and not label.room
    return function in label.functions and (slot != "item" or function != "smart_recycling" or bool(label.material))


def facts(label: Label, broad: bool = False) -> PhotoFacts:
    """The facts of a label."""
    return PhotoFacts(
        name_en=label.broader_en if broad else label.name_en,
        name_zh=label.broader_zh if broad else label.name_zh,
        material=label.material or None,
        room=label.room or None,
        animal_en=label.animal or None,
        animal_zh=(ANIMALS_ZH.get(label.animal) or label.broader_zh) if label.animal else None,
    )


def spoken(labels: Sequence[Label]) -> list[str]:
    """Every name that a photo may be given in an argument, in both languages."""
    known = [facts(label, broad) for label in labels for broad in (False, True)]
    names = [name for fact in known for lang in LANGUAGES for name in map(fact.names(lang).get, ("item", "animal"))]
    return sorted({name for name in names if name})


def without_reading(request: Request) -> Request:
    """A recipient can only be read off a photo with text in it, which this model cannot do: it should ask."""
    calls = tuple(
        replace(call, values={s: MISSING if v == PHOTO and s in UNSEEN_SLOTS else v for s, v in call.values.items()})
        for call in request.calls
    )
    needed = any(v == PHOTO for call in calls for v in call.values.values())
    return replace(request, calls=calls, photo="needed" if needed else _role(request))


def servable(requests: Sequence[Request], choice: PhotoChoice) -> list[Request]:
    """The requests, less the few that want a photo of two things at once that no label shows."""
    ready = [without_reading(request) for request in requests]
    return [request for request in ready if request.photo != "needed" or choice.fitting(request)]


UNSEEN_SLOTS = ("to", "subject", "body", "message", "location", "concern", "style", "quantity")


def _role(request: Request) -> Any:
    return "attached" if request.photo == "needed" else request.photo


class Captions:
    """Endless captions: after a cue, what a photo shows in bare words."""

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
        return Example(cue, (Call(CAPTION, {"words": answer or ""}, "", 1.0),), lang, ""), row


class Mixture:
    """The training examples: number `i` always gives the same example and photo. `captions`: some of these as well."""

    def __init__(
        self,
        requests: Sequence[Request],
        vocabulary: Vocabulary,
        choice: PhotoChoice,
        extra: Sequence[Example],
        captions: Captions | None = None,
    ) -> None:
        self.requests = [
            r for r in servable(requests, choice) for _ in range(REPEAT_TWO_CALLS if len(r.calls) > 1 else 1)
        ]
        self.vocabulary, self.choice, self.extra, self.captions = vocabulary, choice, extra, captions
        self._order: tuple[int, list[int]] = (-1, [])

    def example(self, index: int) -> tuple[Example, int | None]:
        """Example and photo row (or None) of a number; every pass over all requests is in a new order."""
        epoch, place = divmod(index, len(self.requests))
        if self._order[0] != epoch:
            order = list(range(len(self.requests)))
            random.Random(f"order {epoch}").shuffle(order)
            self._order = (epoch, order)
        rng = random.Random(f"example {index}")
        if self.captions is not None and rng.random() < CAPTIONED:
            return self.captions.example(index)
        if self.extra and rng.random() < AUXILIARY:
            return rng.choice(self.extra), (self.choice.any(rng) if rng.random() < 0.2 else None)
        request = self.requests[self._order[1][place]]
        if request.photo == "none":
            missing = any(value == MISSING for call in request.calls for value in call.values.values())
            row = self.choice.any(rng) if not missing and rng.random() < DISTRACTOR else None
            return realise(request, rng, self.vocabulary), row
        row, known = self.choice.choose(request, rng)
        return realise(request, rng, self.vocabulary, known), row


def cases(requests: Sequence[Request], choice: PhotoChoice) -> Iterator[Case]:
    """The development cases of the held-out lines."""
    for request in servable(requests, choice):
        rng = random.Random(request.id)
        row: int | None = None
        exact = broader = ""
        known: PhotoFacts | None = None
        if request.photo != "none":
            row, known = choice.choose(request, rng)
        example = realise(request, rng, None, known)
        seen = next((call for call in request.calls if PHOTO in call.values.values()), None)
        domain = DOMAINS.get(seen.function) if seen else None
        if seen is not None and domain is not None and row is not None:
            label = choice.photos.labels[choice.photos.label_N[row]]
            exact, broader = _answer(seen, label, request.lang)
        yield Case(request.id, request.lang, example.text, row, request.photo, example.calls, domain, exact, broader)


def _answer(call: Annotated, label: Label, lang: str) -> tuple[str, str]:
    """What the photo says for the call, exactly and more broadly; material and room have one word only."""
    slots = [slot for slot, value in call.values.items() if value == PHOTO]
    if "room" in slots:
        return label.room, label.room
    if "animal" in slots:
        animal = label.animal if lang == "en" else ANIMALS_ZH.get(label.animal) or label.broader_zh
        return animal, animal
    if "material" in slots:
        return label.material, label.material
    return (label.name_en, label.broader_en) if lang == "en" else (label.name_zh, label.broader_zh)


def save_cases(cases_: Sequence[Case], path: Path) -> None:
    """Write development cases as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for case in cases_:
            file.write(json.dumps(asdict(case), ensure_ascii=False) + "\n")


def load_cases(folder: Path) -> list[Case]:
    """Development cases of a built data folder."""
    path = folder / "dev.jsonl"
    if not path.exists():
        raise OctopusError(f"{path} is missing", "run `octopus data build` first")
    return [_case(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _case(row: Mapping[str, Any]) -> Case:
    calls = tuple(Call(**{**call, "missing": tuple(call["missing"])}) for call in row["calls"])
    return Case(**{**row, "calls": calls})


def check_apart(train: Sequence[Request], dev: Sequence[Request], photos: Photos) -> dict[str, int]:
    """Prove that no request (letters and digits only) and no photo stands on both sides; counts of what was checked."""
    shared = {normalised(r.text) for r in train} & {normalised(r.text) for r in dev}
    groups = {r.group for r in train} & {r.group for r in dev}
    rows = set(photos.rows("train").tolist()) & set(photos.rows("dev").tolist())
    if shared or groups or rows:
        raise OctopusError(
            f"training and development share {len(shared)} requests, {len(groups)} groups and {len(rows)} photos",
            "the split is broken; report this",
        )
    return {"train": len(train), "dev": len(dev), "train_photos": len(photos.rows("train"))}
