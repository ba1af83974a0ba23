"""Annotated requests and the split into training and development: TSV files in, Requests out.

The format is described in `functions/requests/FORMAT.md`. The split keeps together what must not be on two sides:
the lines of one contrast group, and lines that say the same in nearly the same words. Knows nothing about photos,
tokens or models.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from octopus.core import Call, Function, Parameter
from octopus.errors import OctopusError
from octopus.registry import Registry

Language = Literal["en", "zh"]
PhotoRole = Literal["none", "attached", "needed"]
Value = int | str

PHOTO: Final = "<photo>"
"""The value of an argument that only the photo names."""
MISSING: Final = "<missing>"
"""The value of a required argument that neither words nor photo give."""

GROUPED: Final = ("_contrast3", "_boundary4")
"""Files whose names end so hold groups of consecutive lines on different sides of a function boundary."""
BLOCK: Final = 8
"""Longest group that is cut out of such a file."""
ALIKE: Final = 0.8
"""Jaccard similarity of character 4-grams from which two lines count as the same."""
SHORTEST: Final = {"en": 10, "zh": 5}
"""Below so many characters the words around the slots say too little; the values are compared as well."""

_MARK = re.compile(r"\[(?:([1-9])\.)?([a-z]+):([^\[\]]+)\]")


@dataclass(frozen=True)
class Annotated:
    """One call of a request. A slot has a span into the text, a value (integer, enum, PHOTO, MISSING), or both."""

    function: str
    spans: Mapping[str, tuple[int, int]]
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Request:
    """One annotated line: what a person says and the calls that are meant. `group` stays on one side of a split."""

    id: str
    lang: Language
    photo: PhotoRole
    text: str
    calls: tuple[Annotated, ...]
    group: str

    @property
    def spans(self) -> list[tuple[int, int, int, str]]:
        """Start, end, number of the call and slot of every span, in the order of the text."""
        return sorted((*span, n, slot) for n, call in enumerate(self.calls) for slot, span in call.spans.items())

    @property
    def photo_slots(self) -> frozenset[str]:
        """The slots that the photo must name (`item`, `material`, ...) before `arguments` can be told."""
        return frozenset(slot for call in self.calls for slot, value in call.values.items() if value == PHOTO)


@dataclass(frozen=True)
class Example:
    """One request as a person says it, and the calls that answer it, as `arguments` gives them."""

    text: str
    calls: tuple[Call, ...]
    lang: Language
    id: str


def read_requests(source: Path) -> list[Request]:
    """All requests of one file, or of a folder's `*.tsv` files, later batches (a number at the end of the name) last.

    A line that repeats the text of an earlier one is left out.

    Raises:
        OctopusError: There is no such file, or a line is malformed; the message names file and line.
    """
    found = [source] if source.is_file() else source.glob("*.tsv")
    files = sorted(found, key=lambda path: (_batch(path.stem), path.stem))
    if not files:
        raise OctopusError(f"{source} has no request files", "annotated requests are in functions/requests")
    requests: list[Request] = []
    seen: set[tuple[str, bool]] = set()
    for file in files:
        own = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            place = f"{file.name}:{number}"
            try:
                request = parse(line, f"{file.stem}:{number}")
            except ValueError as error:
                raise OctopusError(f"{place}: {error}", "FORMAT.md beside the file explains the columns") from None
            key = request.text, request.photo == "none"
            if key not in seen:
                own.append(request)
            seen.add(key)
        requests += _grouped(own) if file.stem.endswith(GROUPED) else own
    return requests


def parse(line: str, name: str) -> Request:
    """One line of a request file; ValueError says what is wrong with it."""
    columns = line.rstrip("\n").split("\t")
    if len(columns) != 5:
        raise ValueError(f"{len(columns)} columns, not 5")
    lang, functions, photo, marked, given = columns
    if lang not in ("en", "zh"):
        raise ValueError(f"language {lang!r} is neither en nor zh")
    if photo not in ("none", "attached", "needed"):
        raise ValueError(f"photo {photo!r} is not none, attached or needed")
    names = functions.split("+")
    if unknown := [name for name in names if name not in signatures()]:
        raise ValueError(f"there is no function {unknown[0]!r}")
    text, spans = _spans(marked, names)
    values = _values(given, names)
    if (photo == "needed") != any(PHOTO in called.values() for called in values):
        raise ValueError(f"photo {photo!r} does not fit the values {given!r}")
    calls = tuple(Annotated(*parts) for parts in zip(names, spans, values, strict=True))
    for call in calls:
        _check(call)
    return Request(name, "en" if lang == "en" else "zh", _role(photo), text, calls, name)


def arguments(request: Request, photo_names: Mapping[str, str | None] | None = None) -> tuple[Call, ...]:
    """The calls that are meant, complete and in signature order, as `Tokens.decode_calls` returns them.

    Args:
        request: Strings are read from its text, literally.
        photo_names: What the photo says for each slot. `to` may be absent: who cannot be read is asked for.

    Raises:
        ValueError: The photo must name a slot and does not.
    """
    return tuple(_call(call, request, photo_names or {}) for call in request.calls)


def split(requests: Sequence[Request], share: float = 0.12, seed: int = 0) -> tuple[list[Request], list[Request]]:
    """Training and development set. A line's side depends only on the seed, itself and the lines before it.

    The first line of a group draws the side; lines alike follow the earliest one. Lines that resemble both sides
    are left out, so that nothing of the development set is in training and new files move no old line.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        groups[request.group].append(index)
    alike = _alike(requests)
    side: dict[int, bool] = {}
    dropped: set[int] = set()
    for members in groups.values():
        earlier = [side[other] for index in members for other in alike[index] if other in side]
        held_out = earlier[0] if earlier else _draw(requests[members[0]].text, seed) < share
        for index in members:
            if any(side.get(other, held_out) != held_out for other in alike[index]):
                dropped.add(index)
            else:
                side[index] = held_out
    train = [request for index, request in enumerate(requests) if side.get(index) is False]
    dev = [request for index, request in enumerate(requests) if side.get(index) is True]
    return train, dev


def normalised(text: str) -> str:
    """The text in lower case, letters and digits only."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def frame(request: Request) -> str:
    """The normalised words around the slots; of the whole text where these are too few to compare."""
    starts, ends = [a for a, _, _, _ in request.spans], [b for _, b, _, _ in request.spans]
    gaps = (request.text[a:b] for a, b in zip([0, *ends], [*starts, None], strict=True))
    words = normalised(" ".join(gaps))
    return words if len(words) >= SHORTEST[request.lang] else normalised(request.text)


@lru_cache(maxsize=1)
def signatures() -> dict[str, Function]:
    """The functions that requests may name."""
    return dict(Registry.default().items())


@lru_cache(maxsize=1)
def _parameters() -> dict[str, dict[str, Parameter]]:
    return {name: {p.name: p for p in function.parameters} for name, function in signatures().items()}


def _batch(stem: str) -> int:
    digits = re.search(r"(\d+)[a-z]?$", stem)
    return int(digits[1]) if digits else 1


def _role(photo: str) -> PhotoRole:
    return "needed" if photo == "needed" else "attached" if photo == "attached" else "none"


def _spans(marked: str, names: Sequence[str]) -> tuple[str, list[dict[str, tuple[int, int]]]]:
    spans: list[dict[str, tuple[int, int]]] = [{} for _ in names]
    text, end = "", 0
    for mark in _MARK.finditer(marked):
        number, slot, words = mark.groups()
        call = _place(number, slot, names)
        if words != words.strip():
            raise ValueError(f"space at the border of {words!r}")
        text += marked[end : mark.start()]
        spans[call].setdefault(slot, (len(text), len(text) + len(words)))  # a second span of a slot is plain text
        text += words
        end = mark.end()
    text += marked[end:]
    if "[" in text or "]" in text:
        raise ValueError("a bracket that belongs to no slot")
    if not text.strip():
        raise ValueError("no text")
    return text, spans


def _values(given: str, names: Sequence[str]) -> list[dict[str, Value]]:
    values: list[dict[str, Value]] = [{} for _ in names]
    for part in filter(None, given.split(";")):
        match = re.fullmatch(r"(?:([1-9])\.)?([a-z]+)=(.+)", part)
        if not match:
            raise ValueError(f"value {part!r} is not slot=value")
        number, slot, value = match.groups()
        call = _place(number, slot, names)
        parameter = _parameters()[names[call]][slot]
        if value not in (PHOTO, MISSING):
            if parameter.kind == "integer" and not (value.isdecimal() and int(value) > 0):
                raise ValueError(f"{slot} must be a number, not {value!r}")
            if parameter.kind == "enum" and value not in parameter.choices:
                raise ValueError(f"{slot} cannot be {value!r}")
            if parameter.kind == "string":
                raise ValueError(f"{slot} must be marked in the text, or be {PHOTO} or {MISSING}")
        values[call][slot] = int(value) if parameter.kind == "integer" else value
    return values


def _place(number: str | None, slot: str, names: Sequence[str]) -> int:
    if len(names) > 1 and number is None:
        raise ValueError(f"{slot} does not say which call it belongs to")
    call = int(number or 1) - 1
    if call >= len(names) or slot not in _parameters()[names[call]]:
        raise ValueError(f"call {call + 1} has no slot {slot!r}")
    return call


def _check(call: Annotated) -> None:
    for slot, parameter in _parameters()[call.function].items():
        if parameter.required and slot not in call.spans and slot not in call.values:
            raise ValueError(f"{call.function} lacks {slot}")
        if parameter.kind != "string" and slot in call.spans and slot not in call.values:
            raise ValueError(f"{slot} needs a value")
        if call.values.get(slot) == MISSING and not parameter.required:
            raise ValueError(f"{slot} has a default and cannot be missing")


def _call(call: Annotated, request: Request, photo_names: Mapping[str, str | None]) -> Call:
    given: dict[str, Value] = {}
    missing = []
    for slot, parameter in _parameters()[call.function].items():
        value: Value | None = call.values.get(slot)
        if value == PHOTO:
            value = photo_names.get(slot) or (MISSING if slot == "to" else None)
            if value is None:
                raise ValueError(f"{request.id}: the photo must name {slot}")
        elif value is None and slot in call.spans:
            start, end = call.spans[slot]
            value = request.text[start:end]
        if value == MISSING:
            missing.append(slot)
        else:
            given[slot] = parameter.default if value is None else value
    return Call(call.function, given, token="", confidence=1.0, missing=tuple(missing))


def _draw(text: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{normalised(text)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _grouped(lines: Sequence[Request]) -> Iterator[Request]:
    """Cut consecutive lines into groups: a line belongs to the group when it shares words with any line of it."""
    start, words = 0, set[str]()
    marks = [_content(line) for line in lines]
    common = {word for word, count in Counter(w for mark in marks for w in mark).items() if count > len(lines) / 40}
    for index, line in enumerate(lines):
        own = marks[index] - common
        if index - start >= BLOCK or (index > start and own and words and not own & words):
            start, words = index, set()
        words |= own
        yield replace(line, group=lines[start].id)


def _content(request: Request) -> set[str]:
    """Words of three letters or more without their ending, or pairs of Chinese characters."""
    text = request.text.lower()
    words = {word[:5] for word in re.findall(r"[a-z]{3,}", text)}
    return words | {text[i : i + 2] for i in range(len(text) - 1) if text[i : i + 2].isalpha() and text[i] > "\u3400"}


def _alike(requests: Sequence[Request]) -> list[list[int]]:
    """For each request those that say nearly the same, by index; symmetric.

    Prefix filter: sets with a Jaccard similarity of ALIKE share one of their rarest grams.
    """
    texts = [frame(request) for request in requests]
    grams = [{text[i : i + 4] for i in range(max(1, len(text) - 3))} for text in texts]
    count = Counter(gram for own in grams for gram in own)
    found: list[list[int]] = [[] for _ in requests]
    index: dict[str, list[int]] = defaultdict(list)
    for number, own in enumerate(grams):
        ranked = sorted(own, key=lambda gram: (count[gram], gram))
        candidates: set[int] = set()
        for gram in ranked[: len(own) - int(ALIKE * len(own)) + 1]:
            candidates.update(index[gram])
            index[gram].append(number)
        for other in sorted(candidates):
            if _jaccard(own, grams[other]) >= ALIKE:
                found[number].append(other)
                found[other].append(number)
    same: dict[str, list[int]] = defaultdict(list)
    for number, request in enumerate(requests):
        same[normalised(request.text)].append(number)
    for members in same.values():
        for number in members if len(members) > 1 else ():
            found[number] = sorted({*found[number], *members} - {number})
    return found


def _jaccard(a: Iterable[str], b: Iterable[str]) -> float:
    a, b = set(a), set(b)
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
