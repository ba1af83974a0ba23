"""Which stretches of a request may become a text argument, byte by byte.

In: the request and what bytes each token id stands for. Out: for a value begun somewhere in the request, the ids that
carry on there, and whether it may end. A value begins and ends between words (between any two characters in scripts
without spaces), so that what is written always stands in the request letter for letter. It knows nothing of functions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from octopus.text import clean_value, is_spaceless

Places = tuple[int, ...]
"""Byte offsets in the request up to which a value may have been written; several where its words occur repeatedly."""


class Spans:
    """The stretches of one request. `starts`: where values begin, in front of the space that comes before a word."""

    def __init__(self, query: str, token_bytes: tuple[bytes | None, ...]) -> None:
        text = " " + clean_value(query)
        self.text = text.encode("utf-8")
        self._ids, self._longest = _ids_by_bytes(token_bytes)
        self._following: dict[int, list[int]] = {}
        offsets = [0]
        for character in text:
            offsets.append(offsets[-1] + len(character.encode("utf-8")))
        borders = [n for n in range(1, len(text)) if not (_in_word(text[n - 1]) and _in_word(text[n]))]
        self.starts: Places = tuple(
            offsets[n - 1] if text[n - 1] == " " else offsets[n] for n in borders if text[n] != " "
        )
        self._ends = frozenset([*(offsets[n] for n in borders), len(self.text)])

    def following(self, places: Iterable[int]) -> list[int]:
        """The ids that carry on at any of the places."""
        return [token_id for place in places for token_id in self._at(place)]

    def advance(self, places: Iterable[int], piece: bytes) -> Places:
        """The places after these bytes; none when they stand nowhere there."""
        return tuple(place + len(piece) for place in places if self.text.startswith(piece, place))

    def may_end(self, places: Iterable[int]) -> bool:
        """Whether no word is cut in two at one of the places."""
        return not self._ends.isdisjoint(places)

    def _at(self, place: int) -> list[int]:
        if place not in self._following:
            rest = self.text[place : place + self._longest]
            pieces = (rest[:length] for length in range(1, len(rest) + 1))
            self._following[place] = [token_id for piece in pieces for token_id in self._ids.get(piece, ())]
        return self._following[place]


@lru_cache(maxsize=4)
def _ids_by_bytes(token_bytes: tuple[bytes | None, ...]) -> tuple[Mapping[bytes, Sequence[int]], int]:
    found: dict[bytes, list[int]] = {}
    for token_id, piece in enumerate(token_bytes):
        if piece:
            found.setdefault(piece, []).append(token_id)
    return found, max(map(len, found), default=0)


def _in_word(character: str) -> bool:
    """Whether this is a letter, mark or digit of a script that puts spaces between words."""
    return unicodedata.category(character)[0] in "LMN" and not is_spaceless(character)
