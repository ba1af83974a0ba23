"""What the model may write next, so that every output parses and validates.

Functions with their parameters come in; for each state of the writing a mask over the vocabulary comes out: stretches
of the request, names, or free text for strings, digits for integers, a trie for enums, separators where a call is
complete. A state also knows how much room is left and is steered to a proper end before it runs out. It knows nothing
of logits or how a token is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from octopus.core import Effect, Function, Parameter
from octopus.declaration import MAX_DIGITS
from octopus.errors import ModelError
from octopus.spans import Pieces, Places, Spans
from octopus.tokens import Tokens

Mask = NDArray[np.bool_]
"""`[V]`: which ids may come next."""

MAX_CALLS = 4
MAX_VALUE_TOKENS = 96

# UTF-8 as a state machine over bytes, without control characters (U+0000-001F, U+007F-009F) and U+FFFD.
# state -> [(first byte, last byte, next state)]; PENDING says how many bytes a character still needs in each state.
_CONTINUE = (0x80, 0xBF)
_UTF8: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (
        *((0x20, 0x7E, 0), (0xC2, 0xC2, 8), (0xC3, 0xDF, 1), (0xE0, 0xE0, 4), (0xE1, 0xEC, 2), (0xED, 0xED, 5)),
        *((0xEE, 0xEE, 2), (0xEF, 0xEF, 9), (0xF0, 0xF0, 6), (0xF1, 0xF3, 3), (0xF4, 0xF4, 7)),
    ),
    ((*_CONTINUE, 0),),  # 1: one more byte
    ((*_CONTINUE, 1),),  # 2: two more
    ((*_CONTINUE, 2),),  # 3: three more
    ((0xA0, 0xBF, 1),),  # 4: after E0, no overlong forms
    ((0x80, 0x9F, 1),),  # 5: after ED, no surrogates
    ((0x90, 0xBF, 2),),  # 6: after F0, no overlong forms
    ((0x80, 0x8F, 2),),  # 7: after F4, nothing above U+10FFFF
    ((0xA0, 0xBF, 0),),  # 8: after C2, no C1 controls
    ((0x80, 0xBE, 1), (0xBF, 0xBF, 10)),  # 9: after EF
    ((0x80, 0xBC, 0), (0xBE, 0xBF, 0)),  # 10: after EF BF, no U+FFFD
)
_PENDING = np.array([0, 1, 2, 3, 2, 2, 3, 3, 1, 2, 1])
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")


@dataclass(frozen=True)
class TextRules:
    """Which ids continue a text, for each of the S states that bytes of an unfinished character leave behind."""

    following_SV: NDArray[np.int8]  # the state after an id, -1 where it is illegal
    legal_SV: Mask
    finishing_SV: Mask  # brings the unfinished character nearer to its end; in state 0: a visible character at once
    digits_V: NDArray[np.int8]  # how many digits an id of digits only has, else 0
    zero_V: Mask  # an id of digits that begins with 0


@dataclass(frozen=True)
class State:
    """A point in the writing of calls. Immutable, so that a draft can be tried and dropped."""

    room: int  # tokens that may still be written
    calls: int = 0
    function: Function | None = None
    place: int = 0  # which parameter is being written
    value: tuple[int, ...] = ()
    missing: bool = False
    character: int = 0  # state of the UTF-8 machine
    visible: bool = False  # the text has a character that is not space
    places: Places | None = None  # where in the request or the names the value stands, if it is copied
    done: bool = False


class Grammar:
    """The legal outputs of a model for a set of functions.

    With `spans`, strings are stretches of that request (copying as in extractive question answering: Rajpurkar et al.,
    SQuAD, 2016) or its names; without, they are free text.
    """

    def __init__(
        self,
        tokens: Tokens,
        registry: Mapping[str, Function],
        *,
        max_calls: int = MAX_CALLS,
        max_value_tokens: int = MAX_VALUE_TOKENS,
        spans: Spans | None = None,
    ) -> None:
        self.tokens = tokens
        self.spans = spans if spans and spans.starts else None
        self.special = tokens.manifest.special
        self.functions = {e.id: registry[e.name] for e in tokens.manifest.functions if e.name in registry}
        self.function_ids = np.array(list(self.functions), dtype=np.int64)
        # Refusing is an answer of its own: it never stands behind another call.
        self.later_ids = np.array([i for i, f in self.functions.items() if f.effect is not Effect.NONE], dtype=np.int64)
        self.max_calls = max_calls
        self.max_value_tokens = max_value_tokens
        self.text = _text_rules(tokens.pieces)
        self._latest: tuple[State, Mask] | None = None
        self._tries: dict[tuple[str, ...], dict[tuple[int, ...], dict[int, int]]] = {}
        for function in self.functions.values():
            for parameter in function.parameters:
                if parameter.kind == "enum" and parameter.choices not in self._tries:
                    self._tries[parameter.choices] = _trie(tokens, parameter.choices)
        longest = max((len(prefix) for trie in self._tries.values() for prefix in trie), default=0)
        most = max((len(function.parameters) for function in self.functions.values()), default=0)
        # One token can open an argument or a character; what that may cost to close again must always be left.
        self._slack = longest + 6
        self.least_room = self._slack + 2 * most + 2

    def start(self, room: int) -> State:
        """The state before the first functional token; `room`, at least `least_room`, bounds the output's length."""
        if room < self.least_room:
            raise ValueError(f"{room} tokens are not enough to write a call; at least {self.least_room}")
        return State(room)

    def allowed(self, state: State) -> Mask:
        """Mask over the vocabulary, read-only; at least one id is allowed until the state is done."""
        # Each state is asked about several times in a row: is it forced, what is best, is that allowed.
        if self._latest is not None and self._latest[0] is state:
            return self._latest[1]
        mask = self._mask(state)
        mask.flags.writeable = False
        self._latest = (state, mask)
        return mask

    def free_text(self, state: State) -> Mask | None:
        """What could carry on the string being copied if it were free text; None where it is none, or a name."""
        parameter, places = self._parameter(state), self._places(state)
        if parameter is None or parameter.kind != "string" or state.missing or not places or max(places) < 0:
            return None
        text_V: Mask = self.text.legal_SV[state.character]
        return text_V

    def forced(self, state: State) -> int | None:
        """The only id that may come next, or None when there is a choice."""
        ids = np.flatnonzero(self.allowed(state))
        return int(ids[0]) if len(ids) == 1 else None

    def advance(self, state: State, token_id: int) -> State:
        """The state after an allowed id; ValueError for an id that is not allowed."""
        if not self.allowed(state)[token_id]:
            raise ValueError(f"id {token_id} is not allowed here")
        room = state.room - 1
        if token_id == self.special.end:
            return replace(state, room=room, done=True)
        if token_id in self.functions:
            return State(room, state.calls + 1, self.functions[token_id])
        if token_id == self.special.arg:
            return State(room, state.calls, state.function, state.place + 1)
        if token_id == self.special.missing:
            return replace(state, room=room, missing=True)
        value = (*state.value, token_id)
        character, visible, places = 0, True, None
        parameter = self._parameter(state)
        if parameter is not None and parameter.kind == "string":
            character = int(self.text.following_SV[state.character, token_id])
            visible = state.visible or bool(self.tokens.decode_value(value))
            before = self._places(state)
            if self.spans is not None and before is not None:
                places = self.spans.advance(before, token_id)
        return replace(state, room=room, value=value, character=character, visible=visible, places=places)

    def _mask(self, state: State) -> Mask:
        mask = np.zeros(self.tokens.vocab_size, dtype=np.bool_)
        if state.done:
            return mask
        if state.function is None:
            mask[self.function_ids] = True
            return mask
        tight = state.room <= self._cost(state) + self._slack
        if self._closable(state, tight):
            self._allow_separators(mask, state, state.function, tight)
        parameter = self._parameter(state)
        # Optional arguments can be left out, but one that follows a separator must say something in the end.
        if parameter is not None and not state.missing and not (tight and mask.any()):
            self._allow_value(mask, state, parameter, tight)
        return mask

    def _parameter(self, state: State) -> Parameter | None:
        parameters = state.function.parameters if state.function else ()
        return parameters[state.place] if state.place < len(parameters) else None

    def _places(self, state: State) -> Places | None:
        """Where in the request or the names the string being written may stand; None: it is free text."""
        if self.spans is None or state.value:
            return state.places
        return self.spans.begin(state.room - self.least_room)

    def _ending(self, state: State, tight: bool) -> bool:
        """Whether the value has become as long as it may."""
        return tight or len(state.value) >= self.max_value_tokens

    def _closable(self, state: State, tight: bool) -> bool:
        """Whether the argument being written may end here; a word is cut in two only where room is tight."""
        parameter = self._parameter(state)
        if parameter is None or state.missing:
            return True
        if not state.value:
            return not parameter.required
        if parameter.kind == "enum":
            return self._tries[parameter.choices][state.value][-1] == 0
        whole = (
            self._ending(state, tight) or self.spans is None or state.places is None or self.spans.may_end(state.places)
        )
        return state.visible and state.character == 0 and whole

    def _allow_separators(self, mask: Mask, state: State, function: Function, tight: bool) -> None:
        rest = function.parameters[state.place + 1 :]
        # An empty argument is a default with something behind it: at the end it would be left out with its separator.
        says_something = bool(state.value) or state.missing
        ends = not any(p.required for p in rest) and (says_something or state.place == 0)
        if ends:
            mask[self.special.end] = True
            if state.calls < self.max_calls and function.effect is not Effect.NONE and state.room > 2 * self.least_room:
                mask[self.later_ids] = True
        if rest and not (tight and (ends or not says_something)):
            mask[self.special.arg] = True

    def _allow_value(self, mask: Mask, state: State, parameter: Parameter, tight: bool) -> None:
        if parameter.required and not state.value:
            mask[self.special.missing] = True
            if tight:
                return
        if parameter.kind == "enum":
            ways = self._tries[parameter.choices][state.value]
            shortest = min((cost for token_id, cost in ways.items() if token_id >= 0), default=0)
            mask[[i for i, cost in ways.items() if i >= 0 and (not tight or cost == shortest)]] = True
        elif parameter.kind == "integer":
            written = int(self.text.digits_V[list(state.value)].sum())
            digits = self.text.digits_V
            mask |= (digits > 0) & (digits <= MAX_DIGITS - written) & (~self.text.zero_V | (written > 0))
        else:
            self._allow_text(mask, state, tight)

    def _allow_text(self, mask: Mask, state: State, tight: bool) -> None:
        """What carries a string on, and when it is long enough only what ends it."""
        places, ending = self._places(state), self._ending(state, tight)
        if ending and state.value and self._closable(state, tight):
            return
        if places is None or self.spans is None:
            mask |= (self.text.finishing_SV if ending else self.text.legal_SV)[state.character]
            return
        ids = np.array(self.spans.following(places), dtype=np.int64)
        ids = ids[self.text.legal_SV[state.character, ids]]
        finishing = ids[self.text.finishing_SV[state.character, ids]]
        mask[finishing if ending and len(finishing) else ids] = True

    def _cost(self, state: State) -> int:
        """How many tokens it takes at most to end the output properly from here, `<nexa_end>` included."""
        parameter = self._parameter(state)
        if state.function is None or parameter is None:
            return 1
        rest = sum(2 for p in state.function.parameters[state.place + 1 :] if p.required)
        if state.missing or (state.value and parameter.kind == "integer"):
            value = 0
        elif parameter.required and not state.value:
            value = 1  # <nexa_missing>
        elif parameter.kind == "enum":
            value = min(self._tries[parameter.choices][state.value].values())
        else:
            # In free text one token shows something; what is copied may be written byte by byte.
            value = int(_PENDING[state.character]) + (0 if state.visible else 1 if self.spans is None else 4)
        return value + rest + 1


def _trie(tokens: Tokens, choices: tuple[str, ...]) -> dict[tuple[int, ...], dict[int, int]]:
    """Prefix of ids -> {next id: tokens to the nearest end that way}; the key -1 with 0 marks a whole choice."""
    trie: dict[tuple[int, ...], dict[int, int]] = {}
    for choice in choices:
        ids = tuple(tokens.encode_choice(choice))
        for length, token_id in enumerate((*ids, -1)):
            ways = trie.setdefault(ids[:length], {})
            ways[token_id] = min(ways.get(token_id, len(ids)), len(ids) - length)
    for ways in trie.values():
        ways.setdefault(-1, max(ways.values()) + 1)  # not an end here: never the cheapest
    return trie


@lru_cache(maxsize=4)
def _text_rules(pieces: Pieces) -> TextRules:
    states, size = len(_UTF8), len(pieces.bytes)
    following = np.full((states, size), -1, dtype=np.int8)
    finishing = np.zeros((states, size), dtype=np.bool_)
    digits, zero = np.zeros(size, dtype=np.int8), np.zeros(size, dtype=np.bool_)
    for token_id, piece in enumerate(pieces.bytes):
        if not piece:
            continue
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError:  # part of a character: legal only behind the right bytes
            for state in range(states):
                following[state, token_id] = _walk(state, piece)
            continue
        if not _FORBIDDEN.search(text):  # whole characters: legal only between characters
            following[0, token_id] = 0
            finishing[0, token_id] = bool(text.strip())
            if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
                digits[token_id], zero[token_id] = len(text), text[0] == "0"
    legal = following >= 0
    for state in range(1, states):
        finishing[state] = legal[state] & (_PENDING[following[state]] < _PENDING[state])
    if not finishing.any(axis=1).all():
        raise ModelError("the tokenizer has no ids for some bytes", "train it with the whole byte alphabet")
    return TextRules(following, legal, finishing, digits, zero)


def _walk(state: int, piece: bytes) -> int:
    """The UTF-8 state after some bytes, or -1."""
    for byte in piece:
        for first, last, following in _UTF8[state]:
            if first <= byte <= last:
                state = following
                break
        else:
            return -1
    return state
