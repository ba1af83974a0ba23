"""Grammar: any walk through legal ids ends in time, parses and validates; what was trained on is legal."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core import Call, Effect, Function, Parameter
from octopus.declaration import INTEGERS
from octopus.errors import FunctionError, ModelError
from octopus.grammar import Grammar, State, _text_rules
from octopus.spans import Pieces
from octopus.tokens import FUNCTION_TOKENS, SPECIAL_TOKENS, Tokens, new_manifest, train_tokenizer
from tiny import FUNCTIONS, TOKENS, check, show

GRAMMAR = Grammar(TOKENS, FUNCTIONS)
END = TOKENS.manifest.special.end
ARG = TOKENS.manifest.special.arg
MISSING = TOKENS.manifest.special.missing


def function_id(name: str) -> int:
    return TOKENS.manifest.by_name(name).id


def walk(state: State, ids: list[int], grammar: Grammar = GRAMMAR) -> State:
    for token_id in ids:
        state = grammar.advance(state, token_id)
    return state


def random_walk(grammar: Grammar, room: int, random: np.random.Generator, text: float) -> list[int]:
    """Legal ids at random; `text` is the chance to prefer text to separators, so that values get long."""
    state, ids = grammar.start(room), []
    while not state.done:
        legal = np.flatnonzero(grammar.allowed(state))
        plain = [i for i in legal if grammar.tokens.pieces.bytes[i] is not None]
        chosen = int(random.choice(plain if plain and random.random() < text else legal))
        ids.append(chosen)
        state = grammar.advance(state, chosen)
    return ids


@pytest.mark.parametrize("text", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("room", [GRAMMAR.least_room, 25, 40, 200, 2000])
def test_random_walks_end_and_validate(room: int, text: float) -> None:
    random = np.random.default_rng(room)
    for _ in range(60):
        ids = random_walk(GRAMMAR, room, random, text)
        assert len(ids) <= room
        calls = TOKENS.decode_calls(ids, FUNCTIONS)
        check(calls, FUNCTIONS)
        assert 1 <= len(calls) <= 4
        assert TOKENS.parse_calls(TOKENS.format_calls(calls, FUNCTIONS), FUNCTIONS) == calls


def test_limits_bound_the_output() -> None:
    grammar = Grammar(TOKENS, FUNCTIONS, max_calls=2, max_value_tokens=5)
    random = np.random.default_rng(0)
    for _ in range(100):
        ids = random_walk(grammar, 10_000, random, text=0.99)
        assert len(TOKENS.decode_calls(ids, FUNCTIONS)) <= 2
        assert len(ids) <= 2 * (1 + 3 * (5 + 4 + 1)) + 1


def test_room_is_kept_for_many_awkward_parameters() -> None:
    colours = ("very dark olive green", "very", "red")
    functions = {
        "paint": Function(
            "paint",
            "",
            (
                *(Parameter(f"a{i}", "enum", colours) for i in range(4)),
                *(Parameter(f"b{i}", "string", required=False, default="") for i in range(8)),
                Parameter("c", "enum", colours, required=False, default="red"),
                Parameter("d", "integer", required=False, default=3),
            ),
            Effect.WRITE,
            body=lambda: None,
        )
    }
    tokenizer = train_tokenizer(["olive"], 400)
    tokens = Tokens(tokenizer, new_manifest(tokenizer, {FUNCTION_TOKENS[5]: functions["paint"]}))
    grammar = Grammar(tokens, functions)
    random = np.random.default_rng(1)
    for room in (grammar.least_room, grammar.least_room + 9, 100):
        for text in (0.0, 0.5, 1.0):
            for _ in range(40):
                ids = random_walk(grammar, room, random, text)
                assert len(ids) <= room
                check(tokens.decode_calls(ids, functions), functions)
    with pytest.raises(ValueError, match="not enough"):
        grammar.start(grammar.least_room - 1)


@given(st.text(max_size=20), st.integers(1, 9999), st.sampled_from(["living", "living room", "kitchen"]))
@settings(max_examples=200, deadline=None)
def test_whatever_training_writes_is_legal(text: str, number: int, room: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    calls = [
        Call("send_email", {"to": "x" + text, "subject": "", "body": text}, "<nexa_0>", 1.0),
        Call("amazon_purchase", {"quantity": number}, "<nexa_1>", 1.0, missing=("item",)),
        Call("interior_design", {"room": room, "style": text}, "<nexa_2>", 1.0),
    ]
    ids = TOKENS.encode_calls(calls, "x" + text, FUNCTIONS)
    assert walk(GRAMMAR.start(1000), ids).done


@given(st.text(max_size=6).map(lambda s: s.encode("utf-8", "surrogatepass")) | st.binary(max_size=6))
@settings(max_examples=500, deadline=None)
def test_text_rules_are_utf8_without_control_characters(data: bytes) -> None:
    rules = _text_rules(TOKENS.pieces)
    single = {piece: i for i, piece in enumerate(TOKENS.pieces.bytes) if piece is not None and len(piece) == 1}
    state = 0
    for byte in data:
        state = int(rules.following_SV[state, single[bytes([byte])]])
        if state < 0:
            break
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        assert state != 0
    else:
        assert (state == 0) == all(c != "\ufffd" and unicodedata.category(c) != "Cc" for c in text)


def test_the_first_token_is_a_function() -> None:
    legal = np.flatnonzero(GRAMMAR.allowed(GRAMMAR.start(100)))
    assert sorted(legal) == sorted(entry.id for entry in TOKENS.manifest.functions)


def test_a_refusal_stands_alone() -> None:
    functions = {**FUNCTIONS, "irrelevant_function": _none()}
    grammar = Grammar(TOKENS, functions)
    refusal = function_id("irrelevant_function")
    state = walk(grammar.start(100), [refusal], grammar)
    assert grammar.forced(state) == END
    state = walk(grammar.start(100), [function_id("amazon_purchase"), MISSING], grammar)
    assert not grammar.allowed(state)[refusal] and grammar.allowed(state)[function_id("send_email")]


def _none() -> Function:
    return Function("irrelevant_function", "", (), Effect.NONE, body=lambda: None)


def test_required_arguments_must_come_first() -> None:
    state = walk(GRAMMAR.start(100), [function_id("amazon_purchase")])
    allowed = GRAMMAR.allowed(state)
    assert allowed[MISSING] and not allowed[END] and not allowed[ARG]
    space = TOKENS.encode_text(" ")
    assert not GRAMMAR.allowed(walk(state, space))[END], "a space alone is no item"
    state = walk(state, TOKENS.encode_text(" eggs"))
    assert GRAMMAR.allowed(state)[END] and GRAMMAR.allowed(state)[ARG]
    state = walk(state, [ARG])
    assert not GRAMMAR.allowed(state)[END], "a separator promises a value"
    assert not GRAMMAR.allowed(state)[MISSING], "what has a default is never missing"
    assert {show([int(i)]) for i in np.flatnonzero(GRAMMAR.allowed(state))} == set("123456789")
    state = walk(state, TOKENS.encode_text("1000"))
    assert not any(GRAMMAR.allowed(state)[i] for i in TOKENS.encode_text("0123456789"))


def test_enums_are_tries_and_their_tails_are_forced() -> None:
    state = walk(GRAMMAR.start(100), [function_id("interior_design")])
    kitchen = TOKENS.encode_choice("kitchen")
    legal = {int(i) for i in np.flatnonzero(GRAMMAR.allowed(state))}
    assert legal == {kitchen[0], TOKENS.encode_choice("living room")[0], MISSING}
    for token_id in kitchen:
        assert GRAMMAR.forced(state) in (None, token_id)
        state = GRAMMAR.advance(state, token_id)
    assert GRAMMAR.allowed(state)[END] and GRAMMAR.allowed(state)[ARG]
    living = walk(GRAMMAR.start(100), [function_id("interior_design"), *TOKENS.encode_choice("living")])
    room = TOKENS.encode_choice("living room")[len(TOKENS.encode_choice("living"))]
    assert GRAMMAR.allowed(living)[[END, ARG, room]].all(), "a choice that begins another one"


def test_special_tokens_are_never_text() -> None:
    state = walk(GRAMMAR.start(100), [function_id("send_email"), *TOKENS.encode_text(" mom")])
    allowed = GRAMMAR.allowed(state)
    structural = {END, ARG, *(int(i) for i in GRAMMAR.later_ids)}
    assert {i for i in range(len(SPECIAL_TOKENS)) if allowed[i]} == structural
    with pytest.raises(ValueError, match="not allowed"):
        GRAMMAR.advance(state, TOKENS.manifest.special.image)


def test_a_tokenizer_without_all_bytes_is_refused() -> None:
    pieces = Pieces([piece if piece != b"\x80" else None for piece in TOKENS.pieces.bytes])
    _text_rules(pieces)  # one byte less can be spelled around
    with pytest.raises(ModelError, match="bytes"):
        _text_rules(Pieces([piece if piece and piece.isascii() else None for piece in TOKENS.pieces.bytes]))


def test_the_largest_number_can_be_written_and_no_larger_one() -> None:
    largest = Call("amazon_purchase", {"item": "eggs", "quantity": INTEGERS[-1]}, "<nexa_1>", 1.0)
    ids = TOKENS.encode_calls([largest], "", FUNCTIONS)
    state = walk(GRAMMAR.start(100), ids[:-1])
    assert not any(GRAMMAR.allowed(state)[TOKENS.encode_text(digit)[0]] for digit in "0123456789")
    assert walk(state, [END]).done
    assert TOKENS.decode_calls(ids, FUNCTIONS) == [largest]
    larger = replace(largest, arguments={"item": "eggs", "quantity": INTEGERS[-1] + 1})
    with pytest.raises(FunctionError, match=f"1 to {INTEGERS[-1]}"):
        TOKENS.encode_calls([larger], "", FUNCTIONS)
