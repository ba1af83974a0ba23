"""Spans: strings copied from a request stand in it, word for word, and what training copies is always legal."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.core import Call, Query
from octopus.decode import plan
from octopus.grammar import Grammar
from octopus.runtime.scripted import ScriptedBackend
from octopus.spans import Names, Spans
from octopus.text import clean_value
from octopus.tokens import Tokens
from test_grammar import function_id, random_walk, walk
from tiny import FUNCTIONS, TOKENIZER, TOKENS, check

REQUEST = "email Björk's mum 👍 about “wet paint”, 然后告诉小姨 我到了 3 times"
COPYING = Tokens(TOKENIZER, replace(TOKENS.manifest, copies=True))


NAMES = Names(["lamp", "lampshade", "oat milk", "台灯"], TOKENS.pieces)


def copying(request: str, names: Names | None = None) -> Grammar:
    return Grammar(TOKENS, FUNCTIONS, spans=Spans(request, TOKENS.pieces, names))


def strings(calls: list[Call]) -> list[str]:
    return [v for c in calls for k, v in c.arguments.items() if isinstance(v, str) and v and k != "room"]


@pytest.mark.parametrize("text", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("names", [(), ("lamp", "lampshade", "oat\tmilk", "a\ufffdb", "", "台灯")])
@pytest.mark.parametrize("room", [0, 25, 40, 200, 2000])
@pytest.mark.parametrize("request_", [REQUEST, "?", "👩‍👩‍👧", "日本語 ไทย", "a  b\u200b c\ufffd\x00d e\u0301"])
def test_random_walks_end_validate_and_copy(request_: str, room: int, text: float, names: tuple[str, ...]) -> None:
    grammar, random = copying(request_, Names(names, TOKENS.pieces)), np.random.default_rng(room)
    known = {clean_value(name) for name in names}
    for _ in range(20):
        ids = random_walk(grammar, room or grammar.least_room, random, text)
        assert len(ids) <= (room or grammar.least_room)
        calls = TOKENS.decode_calls(ids, FUNCTIONS)
        check(calls, FUNCTIONS)
        assert all(value in clean_value(request_) or value in known for value in strings(calls))


def test_words_stay_whole() -> None:
    request = "email Björk's mum 👍 about “wet-paint” cafe\u0301, 3 times"
    grammar, random, values = copying(request), np.random.default_rng(0), set()
    for _ in range(300):
        values |= set(strings(TOKENS.decode_calls(random_walk(grammar, 2000, random, 0.8), FUNCTIONS)))
    assert len(values) > 40
    for value in values:
        before, behind = (r"(?<!\w)" if value[0].isalnum() else ""), (r"(?![\w\u0301])" if value[-1].isalnum() else "")
        assert re.search(before + re.escape(value) + behind, request), value


WORDS = st.sampled_from(["mom", "naïve", "O'Neil", "a.b@c.de", "12", "👍", "妈妈", "“", ",", "x-ray", "ＯＫ", "ไทย"])


@given(st.lists(st.tuples(WORDS, st.sampled_from([" ", " ", ", "])), min_size=1, max_size=8), st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_training_copies_is_legal(pieces: list[tuple[str, str]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(pieces) - 1))
    stop = data.draw(st.integers(start + 1, len(pieces)))
    request = "".join(word + gap for word, gap in pieces).strip()
    value = "".join(word + gap for word, gap in pieces[start:stop]).strip()
    calls = [Call("send_email", {"to": value, "subject": value, "body": ""}, "<nexa_0>", 1.0)]
    grammar = copying(request)
    assert walk(grammar.start(1000), TOKENS.encode_calls(calls, request, FUNCTIONS), grammar).done


@pytest.mark.parametrize("value", ["lamp", "lampshade", "oat milk", "台灯", "these"])
@pytest.mark.parametrize("request_", ["buy one of these", "clamps, theses and goat milk 的台灯泡, then these"])
def test_with_a_photo_names_are_legal_beside_the_request(request_: str, value: str) -> None:
    ids = [function_id("amazon_purchase"), *TOKENS.encode_value(value, request_), TOKENS.manifest.special.end]
    grammar = copying(request_, NAMES)
    assert walk(grammar.start(100), ids, grammar).done
    if value not in request_:
        grammar = copying(request_)
        with pytest.raises(ValueError, match="not allowed"):
            walk(grammar.start(100), ids, grammar)


def test_names_are_written_whole_and_nothing_else() -> None:
    grammar, random, values = copying("?", NAMES), np.random.default_rng(0), set()
    for _ in range(300):
        values |= set(strings(TOKENS.decode_calls(random_walk(grammar, 2000, random, 0.8), FUNCTIONS)))
    assert values == {"?", "lamp", "lampshade", "oat milk", "台灯"}


@pytest.mark.parametrize(("said", "heard"), [("lamp post", "lamp"), ("台灯罩", "台灯"), ("Zlatin", "Zlatan")])
def test_a_finished_name_is_not_drawn_out(said: str, heard: str) -> None:
    request, model = "text Zlatan", replace(TOKENS.manifest, copies=True, names=("lamp", "lampshade", "台灯"))
    ids = TOKENS.encode_calls(
        [Call("send_email", {"to": said, "subject": "", "body": ""}, "<nexa_0>", 1.0)], request, FUNCTIONS
    )
    backend = ScriptedBackend(lambda prompt: ids, TOKENS.vocab_size)
    photo = np.zeros((8, 8, 3), np.uint8)
    found = plan(Query(request, photo), backend, Tokens(TOKENIZER, model), FUNCTIONS)
    assert found.calls[0].arguments["to"] == heard
    blind = plan(Query(request), backend, Tokens(TOKENIZER, model), FUNCTIONS)
    assert blind.calls[0].arguments["to"] in ("text Zlatan", "text", "Zlatan")


def test_a_model_that_misspells_what_it_copies_is_put_right() -> None:
    request = "text Zlatan pass"
    wrong = [Call("send_email", {"to": "Zlatin", "subject": "", "body": "pass"}, "<nexa_0>", 1.0)]
    ids = TOKENS.encode_calls(wrong, request, FUNCTIONS)
    found = plan(Query(request), ScriptedBackend(lambda prompt: ids, TOKENS.vocab_size), COPYING, FUNCTIONS)
    assert found.calls[0].arguments["to"].startswith("Zlatan")
