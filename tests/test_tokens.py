"""Tokens: what goes in comes out, in both forms, and user text never becomes a special token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from octopus.core import Call
from octopus.errors import FunctionError, ModelError
from octopus.text import clean_value
from octopus.tokens import SPECIAL_TOKENS, Tokens
from tiny import FUNCTIONS, TOKENIZER, TOKENS, show

words = st.text(st.characters(codec="utf-8"), max_size=30).map(clean_value)
some_words = words.filter(bool)


@st.composite
def some_calls(draw: st.DrawFn) -> list[Call]:
    calls = []
    for name in draw(st.lists(st.sampled_from(list(FUNCTIONS)), min_size=1, max_size=4)):
        arguments: dict[str, str | int] = {}
        missing: list[str] = []
        for parameter in FUNCTIONS[name].parameters:
            if parameter.required and draw(st.integers(0, 5)) == 0:
                missing.append(parameter.name)
            elif parameter.kind == "integer":
                arguments[parameter.name] = draw(st.integers(1, 9999))
            elif parameter.kind == "enum":
                arguments[parameter.name] = draw(st.sampled_from(parameter.choices))
            else:
                arguments[parameter.name] = draw(some_words if parameter.required else words)
        token = TOKENS.manifest.by_name(name).token
        calls.append(Call(name, arguments, token, confidence=1.0, missing=tuple(missing)))
    return calls


@given(some_calls(), st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_ids_round_trip(calls: list[Call], query: str) -> None:
    assert TOKENS.decode_calls(TOKENS.encode_calls(calls, query, FUNCTIONS), FUNCTIONS) == calls


@given(some_calls())
@settings(max_examples=300, deadline=None)
def test_text_round_trip(calls: list[Call]) -> None:
    assert TOKENS.parse_calls(TOKENS.format_calls(calls, FUNCTIONS), FUNCTIONS) == calls


@given(some_words, st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_value_round_trip(value: str, before: str, after: str) -> None:
    assert TOKENS.decode_value(TOKENS.encode_value(value, before + value + after)) == value


@given(st.lists(st.one_of(st.sampled_from(SPECIAL_TOKENS), st.text(max_size=8)), max_size=8).map("".join))
@settings(max_examples=300, deadline=None)
def test_user_text_never_becomes_a_special_token(text: str) -> None:
    ids = TOKENS.encode_text(text)
    assert all(TOKENS.pieces.bytes[i] is not None for i in ids)
    assert b"".join(TOKENS.pieces.bytes[i] or b"" for i in ids).decode() == text.encode("utf-8", "replace").decode()


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_parse_accepts_or_names_the_trouble(text: str) -> None:
    with pytest.raises((ModelError, FunctionError)):
        TOKENS.parse_calls("<nexa_0>(" + text, FUNCTIONS)


@given(st.lists(st.integers(0, TOKENS.vocab_size - 1), max_size=12))
@settings(max_examples=300, deadline=None)
def test_decode_accepts_or_names_the_trouble(ids: list[int]) -> None:
    end, first = TOKENS.manifest.special.end, TOKENS.manifest.functions[0].id
    try:
        calls = TOKENS.decode_calls([first, *ids, end], FUNCTIONS)
    except (ModelError, FunctionError):
        return
    assert TOKENS.parse_calls(TOKENS.format_calls(calls, FUNCTIONS), FUNCTIONS) == calls


def test_the_forms_look_as_documented() -> None:
    call = Call("send_email", {"to": "妈妈", "subject": "", "body": "it's me"}, "<nexa_0>", 1.0)
    ids = TOKENS.encode_calls([call], "tell 妈妈 it's me", FUNCTIONS)
    assert show(ids) == "<nexa_0> 妈妈<nexa_arg><nexa_arg> it's me<nexa_end>"
    assert TOKENS.format_calls([call], FUNCTIONS) == "<nexa_0>('妈妈', '', \"it's me\")<nexa_end>"
    two = [
        Call("amazon_purchase", {"item": item, "quantity": n}, "<nexa_1>", 1.0)
        for item, n in (("eggs", 12), ("milk", 1))
    ]
    assert show(TOKENS.encode_calls(two, "", FUNCTIONS)) == "<nexa_1> eggs<nexa_arg>12<nexa_1> milk<nexa_end>"
    asked = Call("interior_design", {"style": "boho"}, "<nexa_2>", 1.0, missing=("room",))
    assert TOKENS.format_calls([asked], FUNCTIONS) == "<nexa_2>(<nexa_missing>, 'boho')<nexa_end>"
    assert show(TOKENS.encode_calls([asked], "", FUNCTIONS)) == "<nexa_2><nexa_missing><nexa_arg> boho<nexa_end>"


@pytest.mark.parametrize(
    ("value", "query", "written"),
    [
        ("mom", "text mom now", " mom"),
        ("mom", "mom is late", " mom"),
        ("妈妈", "给妈妈发短信", "妈妈"),
        ("妈妈", "妈妈在哪", " 妈妈"),
        ("cat", "this one", " cat"),
        ("猫", "这个", "猫"),
        ("milk", "买milk", "milk"),
        (12, "a dozen", "12"),
    ],
)
def test_values_are_copied_as_they_stand_in_the_request(value: str | int, query: str, written: str) -> None:
    assert show(TOKENS.encode_value(value, query)) == written


def test_prompt_follows_the_template() -> None:
    image = TOKENS.manifest.special.image
    ids = TOKENS.encode_prompt("  buy <image> milk ", 9)
    assert ids[:9] == [image] * 9 and image not in ids[9:]
    assert show(ids[9:]) == " buy <image> milk\nResponse:"
    assert show(TOKENS.encode_prompt("buy milk", 0)) == " buy milk\nResponse:"
    other = replace(TOKENS.manifest, template="<s>Below.\n\n<image>\nQuery: {query} \n\nResponse:")
    tokens = Tokens(TOKENIZER, other)
    assert show(tokens.encode_prompt("buy", 1)) == "<s>Below.\n\n<image>\nQuery: buy \n\nResponse:"
    assert show(tokens.encode_prompt("buy", 0)) == "<s>Below.\n\nQuery: buy \n\nResponse:"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<nexa_0>('mom')",
        "<nexa_0>()<nexa_end>",
        "<nexa_9>('mom')<nexa_end>",
        "<nexa_1>('milk', 0)<nexa_end>",
        "<nexa_1>('milk', 10000)<nexa_end>",
        "<nexa_2>('garage')<nexa_end>",
        "<nexa_0>('a', 'b', 'c', 'd')<nexa_end>",
        "<nexa_0>('\\xzz')<nexa_end>",
        "<nexa_3>()<nexa_end> and more",
        "<nexa_1>('milk', <nexa_missing>)<nexa_end>",
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises((ModelError, FunctionError)):
        TOKENS.parse_calls(text, FUNCTIONS)


def test_a_value_that_does_not_fit_cannot_be_written() -> None:
    for arguments in ({"item": ""}, {}, {"item": "milk", "quantity": 0}, {"item": "milk", "quantity": "two"}):
        with pytest.raises(FunctionError):
            TOKENS.encode_calls([Call("amazon_purchase", arguments, "<nexa_1>", 1.0)], "", FUNCTIONS)


def test_special_tokens_come_first() -> None:
    assert [TOKENIZER.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


def test_loading_a_folder(tmp_path: Path) -> None:
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    TOKENS.manifest.save(tmp_path)
    assert Tokens.load(tmp_path).encode_prompt("buy 2 eggs", 9) == TOKENS.encode_prompt("buy 2 eggs", 9)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Tokens.load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    special = replace(TOKENS.manifest.special, arg=5)
    with pytest.raises(ModelError, match="disagree"):
        Tokens(TOKENIZER, replace(TOKENS.manifest, special=special))
    with pytest.raises(ModelError, match="byte-level"):
        Tokens(Tokenizer(models.BPE({"▁the": 0}, [])), TOKENS.manifest)
