"""What may become a text argument: stretches of the request and, with a photo, names of what photos show.

In: the request, what bytes each token id stands for, and the names. Out: for a value that was begun, the ids that carry
it on, and whether it may end. A stretch begins and ends between words (between any two characters in scripts without
spaces), so that what is written always stands in the request letter for letter, or is a whole name. It knows nothing of
functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate

from octopus.text import clean_value, in_word, is_spaced

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

    def ids_at(self, offset: int) -> Sequence[int]:
        """The ids that carry on at an offset."""
        if offset not in self._following:
            rest = self.text[offset : offset + self.pieces.longest]
            begun = (rest[:length] for length in range(1, len(rest) + 1))
            self._following[offset] = [token_id for piece in begun for token_id in self.pieces.ids.get(piece, ())]
        return self._following[offset]

    def after(self, offset: int, piece: bytes) -> Sequence[int]:
        """The offsets behind these bytes; none when they do not stand there."""
        return [offset + len(piece)] if self.text.startswith(piece, offset) else []


class Names(_Text):
    """A closed vocabulary, one name after the other; offset 0 is in front of all. `longest` is in bytes."""

    def __init__(self, names: Iterable[str], pieces: Pieces) -> None:
        cleaned = filter(None, map(clean_value, names))
        spaced = [((" " if is_spaced(name, "") else "") + name).encode("utf-8") for name in cleaned]
        offsets = list(accumulate((len(name) + 1 for name in spaced), initial=1))  # a line break in front of each
        ends = [offset + len(name) for offset, name in zip(offsets, spaced, strict=False)]
        super().__init__(b"".join(b"\n" + name for name in spaced), ends, pieces)
        self._begins = offsets[: len(spaced)]
        self.longest = max(map(len, spaced), default=0)

    @cached_property
    def _begun(self) -> Mapping[bytes, Sequence[int]]:
        """The pieces that begin names, and the offsets behind them in these."""
        found: dict[bytes, list[int]] = {}
        for offset in self._begins:
            for end in range(offset + 1, offset + 1 + self.pieces.longest):
                piece = self.text[offset:end]
                if piece in self.pieces.ids:
                    found.setdefault(piece, []).append(end)
        return found

    def ids_at(self, offset: int) -> Sequence[int]:
        """The ids that carry on at an offset, or begin a name."""
        if offset == 0 and offset not in self._following:
            self._following[0] = [token_id for piece in self._begun for token_id in self.pieces.ids[piece]]
        return super().ids_at(offset)

    def after(self, offset: int, piece: bytes) -> Sequence[int]:
        """The offsets behind these bytes, in all names where they stand."""
        return super().after(offset, piece) if offset else self._begun.get(piece, ())


class Spans(_Text):
    """What may be copied for one request. `starts`: where values begin, in front of the space that comes before a word.

    `names` may be written out as well.
    """

    def __init__(self, query: str, pieces: Pieces, names: Names | None = None) -> None:
        text = " " + clean_value(query)
        offsets = [0]
        for character in text:
            offsets.append(offsets[-1] + len(character.encode("utf-8")))
        borders = [n for n in range(1, len(text)) if not (in_word(text[n - 1]) and in_word(text[n]))]
        super().__init__(text.encode("utf-8"), [*(offsets[n] for n in borders), offsets[-1]], pieces)
        self.names = names if names is not None and names.longest else None
        self.starts: Places = tuple(
            offsets[n - 1] if text[n - 1] == " " else offsets[n] for n in borders if text[n] != " "
        )

    def begin(self, room: int) -> Places:
        """The places where a value may begin; names only where `room` tokens are enough for any of them."""
        return self.starts if self.names is None or room < self.names.longest else (*self.starts, -1)

    def following(self, places: Iterable[int]) -> list[int]:
        """The ids that carry on at any of the places."""
        return [token_id for text, offset in self._found(places) for token_id in text.ids_at(offset)]

    def advance(self, places: Iterable[int], token_id: int) -> Places:
        """The places after this id; none when it stands nowhere there."""
        piece = self.pieces.bytes[token_id] or b""
        return tuple(
            behind if text is self else -1 - behind
            for text, offset in self._found(places)
            for behind in text.after(offset, piece)
        )

    def may_end(self, places: Iterable[int]) -> bool:
        """Whether neither a word nor a name is cut in two at one of the places."""
        return any(offset in text.ends for text, offset in self._found(places))

    def _found(self, places: Iterable[int]) -> Iterator[tuple[_Text, int]]:
        for place in places:
            if place >= 0:
                yield self, place
            elif self.names is not None:
                yield self.names, -1 - place
