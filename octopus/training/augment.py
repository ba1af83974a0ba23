"""A request as written, or as somebody else might have said it: other names, things and numbers, small mistakes.

In: a Request, a random generator, a Vocabulary of training values, what the photo shows. Out: an Example whose
arguments stand literally in its text. Knows nothing about tokens or models.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from octopus.training import forms
from octopus.training.auxiliary import auxiliary
from octopus.training.noise import disturb, lowered
from octopus.training.requests import MISSING, PHOTO, Annotated, Example, Request, Value, arguments
from octopus.training.vocabulary import Vocabulary

__all__ = ["Example", "PhotoFacts", "Vocabulary", "auxiliary", "realise", "variants"]

EXCHANGED = 0.65
"""Share of the realisations in which spans are exchanged."""
DISTURBED = 0.6
"""Share of the realisations that noise may touch."""
_FREE_WORDS = ("message", "body", "subject", "query", "concern", "location")
_PROPER = ("to", "message", "body", "subject", "query")


@dataclass(frozen=True)
class PhotoFacts:
    """What a photo shows, in both languages; None where it shows no such thing."""

    name_en: str | None = None
    name_zh: str | None = None
    material: str | None = None
    room: str | None = None
    animal_en: str | None = None
    animal_zh: str | None = None
    query_en: str | None = None
    query_zh: str | None = None

    def names(self, lang: str) -> dict[str, str | None]:
        """The value of each slot, in the language of the request; enum values are always English."""
        chinese = lang == "zh"
        name = self.name_zh if chinese else self.name_en
        return {
            "item": name,
            "dish": name,
            "animal": self.animal_zh if chinese else self.animal_en,
            "query": (self.query_zh if chinese else self.query_en) or name,
            "material": self.material,
            "room": self.room,
        }


@dataclass
class _Draft:
    """A request cut at its spans: gaps[0] spans[0] gaps[1] ... gaps[-1], and the values that go with it."""

    request: Request
    gaps: list[str]
    spans: list[str]
    places: list[tuple[int, str]]  # the call and slot of each span
    values: list[dict[str, Value]]

    @classmethod
    def of(cls, request: Request) -> _Draft:
        text, gaps, spans, places, end = request.text, [], [], [], 0
        for start, stop, number, slot in request.spans:
            gaps.append(text[end:start])
            spans.append(text[start:stop])
            places.append((number, slot))
            end = stop
        return cls(request, [*gaps, text[end:]], spans, places, [dict(call.values) for call in request.calls])

    def done(self) -> Request:
        """The request that the pieces make."""
        found: list[dict[str, tuple[int, int]]] = [{} for _ in self.values]
        text = self.gaps[0]
        for span, gap, (number, slot) in zip(self.spans, self.gaps[1:], self.places, strict=True):
            found[number][slot] = (len(text), len(text) + len(span))
            text += span + gap
        calls = tuple(
            Annotated(call.function, spans, values)
            for call, spans, values in zip(self.request.calls, found, self.values, strict=True)
        )
        return replace(self.request, text=text, calls=calls)


def realise(
    request: Request, rng: random.Random, vocabulary: Vocabulary | None = None, photo: PhotoFacts | None = None
) -> Example:
    """One way to say the request.

    Args:
        request: The annotated line.
        rng: Source of all choices.
        vocabulary: What spans may be exchanged for; None leaves the line as written.
        photo: What the photo shows; needed when the request has slots that only the photo names.

    Raises:
        ValueError: The photo must name a slot and does not.
    """
    if request.photo == "needed" and photo is None:
        raise ValueError(f"{request.id}: this request needs a photo")
    if vocabulary is not None:
        draft = _Draft.of(request)
        if rng.random() < EXCHANGED:
            _exchange(draft, rng, vocabulary)
        if rng.random() < DISTURBED:
            _disturb(draft, rng, vocabulary)
        request = draft.done()
    calls = arguments(request, None if photo is None else photo.names(request.lang))
    return Example(request.text, calls, request.lang, request.id)


def variants(
    request: Request, count: int, rng: random.Random, vocabulary: Vocabulary, photo: PhotoFacts | None = None
) -> Iterator[Example]:
    """The request as written, then `count - 1` different ways to say it."""
    for index in range(count):
        yield realise(request, rng, vocabulary if index else None, photo)


def _disturb(draft: _Draft, rng: random.Random, vocabulary: Vocabulary) -> None:
    pieces = [piece for pair in zip(draft.gaps, [*draft.spans, ""], strict=True) for piece in pair][:-1]
    free = bool(draft.places) and draft.places[-1][1] in _FREE_WORDS
    pieces = disturb(pieces, draft.request.lang, rng, vocabulary.common, free)
    draft.gaps, draft.spans = pieces[::2], pieces[1::2]


def _exchange(draft: _Draft, rng: random.Random, vocabulary: Vocabulary) -> None:
    """Exchange a random, not empty subset of the spans."""
    chance = rng.choice((0.4, 0.7, 1.0))
    chosen = [index for index in range(len(draft.spans)) if rng.random() < chance]
    if not chosen and draft.spans:
        chosen = [rng.randrange(len(draft.spans))]
    for index in chosen:
        number, slot = draft.places[index]
        if slot == "quantity":
            _requantify(draft, index, rng)
        elif slot != "material":
            _replace(draft, index, draft.request.calls[number].function, slot, rng, vocabulary)


def _replace(draft: _Draft, index: int, function: str, slot: str, rng: random.Random, vocabulary: Vocabulary) -> None:
    lang, span = draft.request.lang, draft.spans[index]
    before = "".join(_interleave(draft.gaps[: index + 1], draft.spans[:index]))
    after = draft.gaps[index + 1]
    values = draft.values[draft.places[index][0]]
    wanted: Value | None = None
    valued = "room" if slot == "room" else "material" if function == "smart_recycling" else None
    if valued:
        current = values.get(valued)
        if current in (PHOTO, MISSING, None):
            return
        told = valued == "material" and (
            any(s == "material" for _, s in draft.places) or forms.tells_material(" ".join(draft.gaps))
        )
        wanted = current if told else None
    if before[-1:] and before[-1] in "“\"'‘「":
        return  # a quotation ends where the quoting person says
    entry = vocabulary.draw(forms.form(lang, function, slot, span, before, after), rng, wanted)
    if entry is None or entry[0] == span:
        return
    text = entry[0] if lang == "zh" else _cased(entry[0], span, before, slot, draft.request.text, vocabulary)
    draft.spans[index] = text
    if valued and entry[1] is not None:
        values[valued] = entry[1]
    if lang == "en":
        draft.gaps[index] = forms.with_article(draft.gaps[index], text)


def _interleave(gaps: list[str], spans: list[str]) -> Iterator[str]:
    for gap, span in zip(gaps, [*spans, ""], strict=True):
        yield gap
        yield span


def _cased(new: str, old: str, before: str, slot: str, text: str, vocabulary: Vocabulary) -> str:
    """The new words in the manner of the old ones: capital at the start of a sentence, none in a lower-case text."""
    if text.islower():
        return new.lower()
    starts = not before.strip() or before.rstrip()[-1:] in ".!?"
    if old[0].isupper() and (starts or (slot in _PROPER and slot != "to")):
        return new[0].upper() + new[1:]
    if old[0].islower() and slot != "to":
        return lowered(new, vocabulary.common)
    return new


_SINGLES = re.compile("[个個只隻支瓶罐枚盒包袋份杯]")


def _requantify(draft: _Draft, index: int, rng: random.Random) -> None:
    """Another number, written as people write it, with its value."""
    lang, span = draft.request.lang, draft.spans[index]
    value = draft.values[draft.places[index][0]].get("quantity")
    after = draft.gaps[index + 1]
    if value != forms.number_of(span, lang) or not isinstance(value, int) or after.startswith(("打", " dozen")):
        return
    new = rng.choices(
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 24, 30), (6, 9, 7, 5, 5, 5, 2, 3, 2, 4, 3, 1, 2, 1, 1)
    )[0]
    if lang == "zh":
        _requantify_zh(draft, index, new, rng)
        return
    if value == 1 or new == 1 or span.lower() in forms.COUPLES_EN:
        return  # one and many would change the words around them
    words = [word for word, number in forms.NUMBERS_EN.items() if number == new]
    if rng.random() < 0.3 or not words:
        words = [str(new)]
    if not after.startswith((" of", " more")) and not draft.gaps[index].lower().endswith(
        ("the ", "my ", "those ", "these ")
    ):
        words += [word for word, number in forms.DOZENS_EN.items() if number == new]
    text = rng.choice(words)
    draft.spans[index] = text[0].upper() + text[1:] if span[0].isupper() else text
    draft.values[draft.places[index][0]]["quantity"] = new


def _requantify_zh(draft: _Draft, index: int, new: int, rng: random.Random) -> None:
    span, after = draft.spans[index], draft.gaps[index + 1]
    if span in ("俩", "仨"):
        new = rng.choice((2, 3))
        text = {2: "俩", 3: "仨"}[new]
    elif span in ("一打", "半打"):
        new = rng.choice((6, 12))
        text = {6: "半打", 12: "一打"}[new]
    elif new in (6, 12) and _SINGLES.match(after) and rng.random() < 0.3:
        text = {6: "半打", 12: "一打"}[new]
        draft.gaps[index + 1] = after[1:]
    elif new in (2, 3) and after[:1] in ("个", "個") and rng.random() < 0.15:
        text = {2: "俩", 3: "仨"}[new]
        draft.gaps[index + 1] = after[1:]
    else:
        text = str(new) if rng.random() < 0.25 else forms.chinese_number(new)
    draft.spans[index] = text
    draft.values[draft.places[index][0]]["quantity"] = new
