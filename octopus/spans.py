"""What may become a text argument: stretches of the request and, with a photo, names of what photos show.

In: the request, what bytes each token id stands for, and the names. Out: for a value that was begun, the ids that carry
it on, and whether it may end. A stretch begins and ends between words (between any two characters in scripts without
spaces), so that what is written always stands in the request letter for letter, or is a whole name. It knows nothing of
functions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate

from octopus.text import clean_value, is_spaced, is_spaceless

Places = tuple[int, ...]
"""How far a value may have been written, several if its words occur repeatedly: byte offsets in the request and, below
zero, -1 - offset in the names; -1 is in front of all names."""


class Pieces:
    """The bytes of each token id, None for special ones, and the other way round."""

    def __init__(self, token_bytes: Sequence[bytes | None]) -> None:
        self.bytes = tuple(token_bytes)

    @cached_property
    def ids(self) -> Mapping[bytes, Sequence[int]]:
        """The ids that stand for some bytes."""
        found: dict[bytes, list[int]] = {}
        for token_id, piece in enumerate(self.bytes):
            if piece:
                found.setdefault(piece, []).append(token_id)
        return found

    @cached_property
    def longest(self) -> int:
        """How many bytes the longest piece has."""
        return max(map(len, self.ids), default=0)


class _Text:
    """A text in which values are written. `ends`: the offsets where one may end."""

    def __init__(self, text: bytes, ends: Iterable[int], pieces: Pieces) -> None:
        self.text, self.ends, self.pieces = text, frozenset(ends), pieces
        self._following: dict[int, list[int]] = {}

    def following(self, place: int) -> list[int]:
        """The ids that carry on at an offset."""
        if place not in self._following:
            rest = self.text[place : place + self.pieces.longest]
            begun = (rest[:length] for length in range(1, len(rest) + 1))
            self._following[place] = [token_id for piece in begun for token_id in self.pieces.ids.get(piece, ())]
        return self._following[place]


class Names(_Text):
    """A closed vocabulary, one name after the other."""

    def __init__(self, names: Iterable[str], pieces: Pieces) -> None:
        spaced = [((" " if is_spaced(name, "") else "") + name).encode("utf-8") for name in names]
        starts = list(accumulate((len(name) + 1 for name in spaced), initial=1))  # a line break in front of each
        ends = [start + len(name) for start, name in zip(starts, spaced, strict=False)]
        super().__init__(b"".join(b"\n" + name for name in spaced), ends, pieces)
        self.starts = starts[: len(spaced)]

    def following(self, place: int) -> list[int]:
        """The ids that carry on at an offset, or in front of all names."""
        if place == 0 and place not in self._following:
            begun = map(super().following, self.starts)
            self._following[0] = sorted({token_id for ids in begun for token_id in ids})
        return super().following(place)


class Spans(_Text):
    """What may be copied for one request. `starts`: where values begin, in front of the space that comes before a word.

    `names` may be written out as well.
    """

    def __init__(self, query: str, pieces: Pieces, names: Names | None = None) -> None:
        text = " " + clean_value(query)
        offsets = [0]
        for character in text:
            offsets.append(offsets[-1] + len(character.encode("utf-8")))
        borders = [n for n in range(1, len(text)) if not (_in_word(text[n - 1]) and _in_word(text[n]))]
        super().__init__(text.encode("utf-8"), [*(offsets[n] for n in borders), offsets[-1]], pieces)
        stretches = (offsets[n - 1] if text[n - 1] == " " else offsets[n] for n in borders if text[n] != " ")
        self._names = names
        self.starts: Places = (*stretches, -1) if names is not None and names.starts else tuple(stretches)

    def following_any(self, places: Iterable[int]) -> list[int]:
        """The ids that carry on at any of the places."""
        return [token_id for text, offset in self._found(places) for token_id in text.following(offset)]

    def advance(self, places: Iterable[int], token_id: int) -> Places:
        """The places after this id; none when it stands nowhere there."""
        piece = self.pieces.bytes[token_id] or b""
        found = []
        for text, offset in self._found(places):
            if isinstance(text, Names):
                offsets = text.starts if offset == 0 else [offset]
                found += [-1 - (o + len(piece)) for o in offsets if text.text.startswith(piece, o)]
            elif text.text.startswith(piece, offset):
                found.append(offset + len(piece))
        return tuple(found)

    def may_end(self, places: Iterable[int]) -> bool:
        """Whether neither a word nor a name is cut in two at one of the places."""
        return any(offset in text.ends for text, offset in self._found(places))

    def _found(self, places: Iterable[int]) -> Iterator[tuple[_Text, int]]:
        for place in places:
            if place >= 0:
                yield self, place
            elif self._names is not None:
                yield self._names, -1 - place


def _in_word(character: str) -> bool:
    """Whether this is a letter, mark or digit of a script that puts spaces between words."""
    return unicodedata.category(character)[0] in "LMN" and not is_spaceless(character)
