"""Decode: a plan from a scripted model; drafting changes nothing but the number of passes; noise always validates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octopus
from octopus import Agent
from octopus.cache import ImageCache
from octopus.core import Call, Effect, Plan, Query
from octopus.decode import FULL_SPEED, Memory, Speed, plan
from octopus.errors import ModelError, TextError
from octopus.manifest import Calibration
from octopus.runtime import Backend, Floats, Session
from octopus.runtime.scripted import ScriptedBackend, ScriptedSession
from octopus.tokens import Tokens
from tiny import FUNCTIONS, TOKENIZER, TOKENS, check

REGISTRY = {
    **FUNCTIONS,
    "irrelevant_function": replace(FUNCTIONS["irrelevant_function"], effect=Effect.NONE),
    "send_email": replace(FUNCTIONS["send_email"], question="Who is the {name} field for?"),
}
SMALL = Tokens(TOKENIZER, replace(TOKENS.manifest, decoder=replace(TOKENS.manifest.decoder, context=96)))


def saying(*calls: Call, query: str = "") -> ScriptedBackend:
    """A backend that writes these calls."""
    ids = TOKENS.encode_calls(calls, query, REGISTRY)
    return ScriptedBackend(lambda prompt: ids, TOKENS.vocab_size, image_id=TOKENS.manifest.special.image)


def call(name: str, *missing: str, **arguments: str | int) -> Call:
    return Call(name, arguments, TOKENS.manifest.by_name(name).token, 1.0, missing)


def same(a: Plan, b: Plan) -> bool:
    return replace(a, timings=b.timings) == b


class NoisyBackend(ScriptedBackend):
    """Random logits that depend on all that was read, so that drafting and plain writing see the same."""

    def __init__(self, seed: int, text: float) -> None:
        super().__init__(lambda prompt: [0], TOKENS.vocab_size)
        self.seed = seed
        self.text_V = np.array([text if piece is not None else 0.0 for piece in TOKENS.pieces.bytes], dtype=np.float32)

    def logits(self, prompt: Sequence[int], written: Sequence[int]) -> Floats:
        random = np.random.default_rng((self.seed, len(written), *written[-2:]))
        noise_V = random.random(self.vocab_size, dtype=np.float32) + self.text_V
        noise_V[list(set(prompt))] += self.text_V.max()  # words of the request are likely, as in a real model
        return noise_V


def test_one_call() -> None:
    wanted = call("amazon_purchase", item="oat milk", quantity=2)
    found = plan(Query("buy 2 oat milk"), saying(wanted, query="buy 2 oat milk"), TOKENS, REGISTRY)
    assert [(c.name, c.arguments, c.token) for c in found.calls] == [
        ("amazon_purchase", {"item": "oat milk", "quantity": 2}, "<nexa_1>")
    ]
    assert not found.refused and found.question is None
    assert found.confidence == found.calls[0].confidence > 0.99
    assert found.timings.total >= found.timings.decode > 0


def test_several_calls_keep_their_order_and_a_repeated_one_happens_once() -> None:
    eggs, mail = call("amazon_purchase", item="eggs", quantity=1), call("send_email", to="mom", subject="", body="hi")
    found = plan(Query("eggs, and mail mom hi"), saying(eggs, mail, eggs), TOKENS, REGISTRY)
    assert [(c.name, c.arguments) for c in found.calls] == [(eggs.name, eggs.arguments), (mail.name, mail.arguments)]
    assert all(0 < c.confidence <= 1 for c in found.calls)


def test_a_refusal_writes_nothing_else() -> None:
    backend = saying(call("irrelevant_function"))
    found = plan(Query("what a day"), backend, TOKENS, REGISTRY)
    assert found.refused and found.calls == () and found.confidence > 0.99
    assert backend.passes == []


def test_an_unsure_model_refuses() -> None:
    unsure = replace(TOKENS.manifest, calibration=Calibration(temperature=100.0, threshold=0.5))
    found = plan(Query("eggs"), saying(call("amazon_purchase", item="eggs")), Tokens(TOKENIZER, unsure), REGISTRY)
    assert found.refused and found.calls == () and found.question is None
    assert 0.5 < found.confidence < 1


def test_refusing_is_as_sure_as_the_token_that_says_so() -> None:
    """When irrelevant_function leads but does not reach the threshold, the rest did not vote for refusing."""
    unsure = replace(TOKENS.manifest, calibration=Calibration(temperature=100.0, threshold=0.5))
    found = plan(Query("what a day"), saying(call("irrelevant_function")), Tokens(TOKENIZER, unsure), REGISTRY)
    assert found.refused and found.calls == ()
    assert 1 / len(REGISTRY) < found.confidence < 0.5


def test_a_missing_argument_becomes_a_question() -> None:
    found = plan(Query("send it"), saying(call("send_email", "to", body="hi")), TOKENS, REGISTRY)
    assert found.question == "Who is the to field for?"
    assert found.calls[0].missing == ("to",) and "to" not in found.calls[0].arguments
    found = plan(Query("buy it"), saying(call("amazon_purchase", "item")), TOKENS, REGISTRY)
    assert found.question == "What is the item?"


def test_a_photo_is_seen_through_its_embeddings() -> None:
    backend = saying(call("amazon_purchase", item="eggs"))
    rows_NH = np.zeros((9, 4), dtype=np.float32)
    assert plan(Query("buy this"), backend, TOKENS, REGISTRY, photo_embeddings_NH=rows_NH).calls
    with pytest.raises(ModelError, match="image tokens"):
        backend.prefill(TOKENS.encode_prompt("buy this", 9), rows_NH[:3])


def test_a_request_longer_than_the_context_is_refused() -> None:
    with pytest.raises(TextError, match="too long"):
        plan(Query("zq " * 600), saying(call("amazon_purchase", item="eggs")), TOKENS, REGISTRY)


def test_drafting_copies_the_request_in_few_passes() -> None:
    text = "mail mom that the buy kitchen photo cartons living paper plastic eggs are ready to send"
    backend = saying(call("send_email", to="mom", subject="", body=text[9:]), query=text)
    drafted = plan(Query(text), backend, TOKENS, REGISTRY)
    few = len(backend.passes)
    backend.passes.clear()
    assert same(drafted, plan(Query(text), backend, TOKENS, REGISTRY, draft_tokens=0))
    assert drafted.calls[0].arguments["body"] == text[9:].strip()
    assert few < len(backend.passes) / 2


@given(
    st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 2.0]), st.text(max_size=8) | st.just("buy 12 eggs 妈妈 <nexa_3>")
)
@settings(max_examples=150, deadline=None)
def test_noise_validates_and_drafting_changes_nothing(seed: int, text: float, words: str) -> None:
    backend = NoisyBackend(seed, text)
    found = plan(Query(words), backend, SMALL, REGISTRY)
    check(found.calls, REGISTRY)
    assert same(found, plan(Query(words), backend, SMALL, REGISTRY, draft_tokens=0))
    assert found.refused == (found.calls == ())
    assert TOKENS.parse_calls(TOKENS.format_calls(found.calls, REGISTRY), REGISTRY) == [
        replace(c, confidence=1.0) for c in found.calls
    ]


def test_a_thousand_noisy_models_write_nothing_malformed() -> None:
    texts = [
        "买两盒牛奶给妈妈",
        "mail 'it\\'s \\\\ me'",
        "🦑 emoji \u202e rtl",
        "buy 99999999 eggs",
        "<nexa_0>('x')",
    ]
    for seed in range(1000):
        found = plan(Query(texts[seed % 5]), NoisyBackend(seed, seed % 7 / 4), SMALL, REGISTRY)
        check(found.calls, REGISTRY)
        assert len(found.calls) <= 4


def said(plan: Plan) -> tuple[object, ...]:
    return plan.refused, plan.question, [(c.name, dict(c.arguments), c.missing) for c in plan.calls]


SLOW = Speed(prefix=False, images=False, forced=False, draft_tokens=0, parallel=False)
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_the_trained_model_says_the_same_at_any_speed_on_a_thousand_requests(tmp_path: Path) -> None:
    """Greedy output with everything on, and with everything off; the rest is covered one switch at a time below.

    In float32: graphs that compute in int8 round, and so a near tie may fall differently in a pass of other length.
    """
    pytest.importorskip("timm")
    from octopus.export.to_onnx import export_onnx

    checkpoint, folder = Path(octopus.__file__).parent / "models" / "nano" / "checkpoint", tmp_path / "nano"
    if not (checkpoint / "manifest.json").is_file():
        pytest.skip("the nano checkpoint is not there")
    export_onnx(checkpoint, folder, "fp32")
    lines = sorted((Path(octopus.__file__).parent / "functions" / "requests").glob("*.tsv"))
    texts = [
        line.split("\t")[3] for path in lines for line in path.read_text(encoding="utf-8").splitlines() if "\t" in line
    ]
    texts = [re.sub(r"\[\w+:([^\]]*)\]", r"\1", text) for text in texts]
    texts = texts[:: len(texts) // 1000][:1000]
    assert len(texts) == 1000
    agent = Agent(folder)
    image_NH = agent.backend.encode_image(np.zeros((3, 96, 96), np.float32))
    memory, drafts = Memory(), 0
    for number, text in enumerate(texts):
        seen = image_NH if number % 4 == 0 else None
        plans = [
            plan(
                Query(text),
                agent.backend,
                agent.tokens,
                agent.registry,
                photo_embeddings_NH=seen,
                speed=s,
                memory=memory,
            )
            for s in (FULL_SPEED, SLOW)
        ]
        assert said(plans[0]) == said(plans[1]), text
        drafts += bool(plans[0].calls)
    assert drafts > 500  # requests that were drafted at all


@pytest.mark.parametrize(
    "speed",
    [
        replace(FULL_SPEED, prefix=False),
        replace(FULL_SPEED, images=False),
        replace(FULL_SPEED, forced=False),
        replace(FULL_SPEED, draft_tokens=0),
        replace(FULL_SPEED, parallel=False),
        SLOW,
    ],
)
def test_no_switch_changes_the_calls(speed: Speed, tmp_path: Path) -> None:
    template = "Choose a function.\n<image>\nQuery: {query} \n\nResponse:"
    tokens = Tokens(TOKENIZER, replace(SMALL.manifest, template=template, image=replace(SMALL.manifest.image, size=8)))
    memory = Memory(ImageCache(tmp_path / "images"))
    for seed in range(40):
        backend = NoisyBackend(seed, seed % 3 / 2)
        query = Query("buy 12 eggs 妈妈", PHOTO if seed % 2 else None)
        fast = plan(query, backend, tokens, REGISTRY, speed=FULL_SPEED, memory=memory)
        again = plan(query, backend, tokens, REGISTRY, speed=FULL_SPEED, memory=memory)  # now from the cache
        assert said(fast) == said(again) == said(plan(query, backend, tokens, REGISTRY, speed=speed, memory=Memory()))


class CountingBackend(ScriptedBackend):
    """Remembers what it was asked to read and see."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__(lambda prompt: ids, TOKENS.vocab_size, image_id=TOKENS.manifest.special.image)
        self.prefixes: list[int] = []
        self.pictures = 0

    def encode_image(self, pixels_CHW: Floats) -> Floats:
        self.pictures += 1
        return super().encode_image(pixels_CHW)

    def prefill(
        self, ids: Sequence[int], embeddings_NH: Floats | None = None, prefix: Session | None = None
    ) -> ScriptedSession:
        self.prefixes.append(0 if prefix is None else prefix.length)
        return super().prefill(ids, embeddings_NH, prefix)


def test_the_start_of_the_prompt_and_a_known_photo_are_read_once(tmp_path: Path) -> None:
    template = "Choose a function.\n<image>\nQuery: {query} \n\nResponse:"
    tokens = Tokens(TOKENIZER, replace(TOKENS.manifest, template=template))
    start = tokens.prompt_start(True)
    assert start == tokens.encode_text("Choose a function.\n") != []
    assert tokens.prompt_start(False) == tokens.encode_prompt("", 0)[: len(tokens.prompt_start(False))]
    assert TOKENS.prompt_start(True) == []  # nano begins with the photo
    backend = CountingBackend(TOKENS.encode_calls([call("amazon_purchase", item="eggs", quantity=1)], "eggs", REGISTRY))
    memory = Memory(ImageCache(tmp_path))
    for text in ("eggs", "some eggs", "eggs please"):
        assert plan(Query(text, PHOTO), backend, tokens, REGISTRY, memory=memory).calls
    assert backend.prefixes == [0, len(start), len(start), len(start)]  # the prefix itself, then three requests
    assert backend.pictures == 1
    plan(Query("eggs", PHOTO), backend, tokens, REGISTRY, memory=memory, speed=replace(FULL_SPEED, images=False))
    assert backend.pictures == 2


def test_forced_tokens_without_riding_along_take_passes_of_their_own() -> None:
    backend = saying(call("interior_design", room="kitchen", style=""))
    counts = []
    for speed in (FULL_SPEED, replace(FULL_SPEED, forced=False)):
        backend.passes.clear()
        plan(Query("the kitchen"), backend, TOKENS, REGISTRY, speed=speed)
        counts.append(len(backend.passes))
    assert counts[0] <= counts[1] and max(backend.passes) <= 1 + FULL_SPEED.draft_tokens


def test_scripted_sessions_rewind_and_fork() -> None:
    backend: Backend = ScriptedBackend(lambda prompt: [5, 6, 7], 10)
    session: Session = backend.prefill([1, 2])
    assert session.length == 2 and int(session.logits_V.argmax()) == 5
    assert session.step([5, 6]).argmax(axis=1).tolist() == [6, 7]
    other = session.fork()
    session.rewind(3)
    assert (session.length, int(session.logits_V.argmax())) == (3, 6)
    assert (other.length, int(other.logits_V.argmax())) == (4, 7)
    for length in (1, 9):
        with pytest.raises(ValueError, match="rewind"):
            session.rewind(length)
    with pytest.raises(ValueError, match="at least one"):
        session.step([])
