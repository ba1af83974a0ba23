"""A model folder without weights for the eleven functions, and a backend that answers from a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from octopus import Call, Registry, ScriptedBackend
from octopus.tokens import FUNCTION_TOKENS, Tokens, new_manifest, train_tokenizer

TEXTS = [
    "text this photo to mom please, tell her I am on my way, send an email to dad about the kitchen",
    "order two pizzas and buy oat milk on amazon, how do I recycle this plastic bottle",
    "给妈妈发短信说我马上到 买两盒牛奶 这个怎么回收",
]
Script = Mapping[str, Sequence[Call]]


def call(name: str, *missing: str, **arguments: str | int) -> Call:
    """A call as a test writes it down; token and confidence are the model's business."""
    return Call(name, arguments, token="", confidence=1.0, missing=missing)


def write_model(folder: Path, registry: Registry | None = None, name: str = "scripted") -> Path:
    """Write tokenizer and manifest of a model that was trained for these functions."""
    registry = Registry.default() if registry is None else registry
    tokenizer = train_tokenizer(TEXTS * 20, 500)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    functions = dict(zip(FUNCTION_TOKENS, registry.values(), strict=False))
    new_manifest(tokenizer, functions, name=name).save(folder)
    return folder


def scripted_backend(folder: Path, script: Script, registry: Registry | None = None) -> ScriptedBackend:
    """Answers each request of the script with its calls, and every other one with irrelevant_function."""
    registry = Registry.default() if registry is None else registry
    tokens = Tokens.load(folder)
    image_id = tokens.manifest.special.image

    def answer(prompt: Sequence[int]) -> list[int]:
        text = tokens.decode_value(i for i in prompt if i != image_id).removesuffix("Response:").strip()
        return tokens.encode_calls(script.get(text, [call("irrelevant_function")]), text, registry)

    return ScriptedBackend(answer, tokens.vocab_size, image_id=image_id)
