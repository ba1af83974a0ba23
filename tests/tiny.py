"""A tiny tokenizer and four functions that cover every kind of parameter, shared by the tests of decoding."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby

from octopus.core import Call, Effect, Function, Parameter
from octopus.tokens import FUNCTION_TOKENS, Tokens, new_manifest, train_tokenizer

TEXTS = [
    "send this photo to mom please, the kitchen and the living room",
    "buy 2 cartons of oat milk and 12 eggs, plastic or paper?",
    "给妈妈发短信说我马上到 买两盒牛奶 这个怎么回收",
]


def _function(name: str, *parameters: Parameter) -> Function:
    return Function(name, name, parameters, Effect.READ, body=lambda: None)


FUNCTIONS = {
    f.name: f
    for f in (
        _function(
            "send_email",
            Parameter("to", "string"),
            Parameter("subject", "string", required=False, default=""),
            Parameter("body", "string", required=False, default=""),
        ),
        _function(
            "amazon_purchase",
            Parameter("item", "string"),
            Parameter("quantity", "integer", required=False, default=1),
        ),
        _function(
            "interior_design",
            Parameter("room", "enum", choices=("living", "living room", "kitchen")),
            Parameter("style", "string", required=False, default=""),
        ),
        _function("irrelevant_function"),
    )
}
TOKENIZER = train_tokenizer(TEXTS * 20, 600)
TOKENS = Tokens(TOKENIZER, new_manifest(TOKENIZER, dict(zip(FUNCTION_TOKENS, FUNCTIONS.values(), strict=False))))


def show(ids: list[int]) -> str:
    """Ids as text, special tokens included."""
    text = ""
    for is_text, group in groupby(ids, key=lambda i: TOKENS.pieces.bytes[i] is not None):
        run = list(group)
        text += TOKENIZER.decode(run) if is_text else "".join(TOKENIZER.id_to_token(i) for i in run)
    return text


def check(calls: Sequence[Call], functions: Mapping[str, Function]) -> None:
    """Every argument has its type, every string is clean, every required argument is there or known to be missing."""
    for call in calls:
        function = functions[call.name]
        assert set(call.arguments) | set(call.missing) == {p.name for p in function.parameters}
        for parameter in function.parameters:
            if parameter.name in call.missing:
                assert parameter.required
                continue
            value = call.arguments[parameter.name]
            if parameter.kind == "integer":
                assert isinstance(value, int) and 1 <= value <= 9999
            elif parameter.kind == "enum":
                assert value in parameter.choices
            else:
                assert isinstance(value, str) and value == value.strip() and "\ufffd" not in value
                assert not any(unicodedata.category(letter) == "Cc" for letter in value)
                assert value or not parameter.required
