"""From a request to a plan: the model reads, the grammar says what is legal, the best legal tokens are written.

A `Query`, a backend and the functions come in; a `Plan` comes out: calls that always validate, a refusal, or a question
about a missing argument. The first token is a softmax over functional tokens only and gives function and confidence.
What makes it fast has a switch each in `Speed`, and changes no output. It knows neither how a backend computes nor how
a call is executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from octopus.cache import ImageCache
from octopus.core import Call, Effect, Function, Plan, Query, Timings
from octopus.errors import TextError
from octopus.grammar import Grammar, State
from octopus.image import preprocess
from octopus.runtime import Backend, Floats, Session
from octopus.spans import Spans
from octopus.tokens import Tokens


@dataclass(frozen=True)
class Speed:
    """What is done to be fast. Every switch may be turned off; the calls stay the same."""

    prefix: bool = True
    """The start of the prompt, which is always the same, is read once; its cache is forked for every request."""
    images: bool = True
    """Embeddings of photos that were seen before come from the disk."""
    forced: bool = True
    """Tokens the grammar leaves no choice about ride along in the next pass, instead of having one of their own."""
    draft_tokens: int = 6
    """How many tokens are copied ahead from the request and checked in one pass; 0 turns drafting off."""
    parallel: bool = True
    """The photo is encoded while the start of the prompt is read for the first time."""


FULL_SPEED = Speed()


@dataclass
class Memory:
    """What is kept between requests to one backend. `images`: None keeps none; `key` says which model it is."""

    images: ImageCache | None = None
    key: str = ""
    prefixes: dict[tuple[int, ...], Session] = field(default_factory=dict)

    def prefix(self, backend: Backend, ids: Sequence[int]) -> Session:
        """A session that has read `ids`; never written to, only forked."""
        found = self.prefixes.get(tuple(ids))
        if found is None:
            found = self.prefixes[tuple(ids)] = backend.prefill(ids)
        return found


def plan(
    query: Query,
    backend: Backend,
    tokens: Tokens,
    registry: Mapping[str, Function],
    *,
    photo_embeddings_NH: Floats | None = None,
    draft_tokens: int | None = None,
    speed: Speed = FULL_SPEED,
    memory: Memory | None = None,
) -> Plan:
    """What the model understands of a request; nothing is executed.

    `photo_embeddings_NH` stands in for the photo when it was encoded before. `draft_tokens` overrides that of `speed`.
    Without a `memory` every request begins from nothing.

    Raises:
        TextError: the request is longer than the model can read.
    """
    started = perf_counter()
    memory = memory or Memory()
    has_photo = query.photo is not None or photo_embeddings_NH is not None
    start = tokens.prompt_start(has_photo) if speed.prefix else []
    new = bool(start) and tuple(start) not in memory.prefixes
    if new and speed.parallel and query.photo is not None and photo_embeddings_NH is None:
        with ThreadPoolExecutor(1) as pool:
            encoding = pool.submit(encode_photo, query, backend, tokens, memory if speed.images else None)
            memory.prefix(backend, start)
            embeddings_NH = encoding.result()
    elif photo_embeddings_NH is None:
        embeddings_NH = encode_photo(query, backend, tokens, memory if speed.images else None)
    else:
        embeddings_NH = photo_embeddings_NH
    encoded = perf_counter()
    names = tokens.names if has_photo else None
    spans = Spans(query.text, tokens.pieces, names) if tokens.manifest.copies else None
    grammar = Grammar(tokens, registry, spans=spans)
    prompt = tokens.encode_prompt(query.text, 0 if embeddings_NH is None else len(embeddings_NH))
    room = tokens.manifest.decoder.context - len(prompt)
    if room < grammar.least_room:
        raise TextError(
            f"the request is too long for model '{tokens.manifest.name}': {len(prompt)} tokens of "
            f"{tokens.manifest.decoder.context}",
            "say it in fewer words",
        )
    if start and prompt[: len(start)] == start:
        session = backend.prefill(prompt, embeddings_NH, memory.prefix(backend, start))
    else:
        session = backend.prefill(prompt, embeddings_NH)
    probabilities_F = function_probabilities(session.logits_V, tokens, grammar.function_ids)
    prefilled = perf_counter()
    best = int(probabilities_F.argmax())
    confidence = float(probabilities_F[best])
    none_fits = grammar.functions[int(grammar.function_ids[best])].effect is Effect.NONE
    refused = none_fits or confidence < tokens.manifest.calibration.threshold
    calls: list[Call] = []
    if not refused:
        drafted = speed.draft_tokens if draft_tokens is None else draft_tokens
        writer = _Writer(session, grammar, tokens.encode_query(query.text), drafted, speed.forced)
        ids = writer.write(grammar.start(room), int(grammar.function_ids[best]))
        calls = _distinct(tokens.decode_calls(ids, registry), [confidence, *writer.confidences])
    ended = perf_counter()
    if refused and not none_fits:  # the best function is in doubt: that it is not meant is as sure as the rest
        confidence = 1.0 - confidence
    timings = Timings(
        image=1000 * (encoded - started),
        prefill=1000 * (prefilled - encoded),
        decode=1000 * (ended - prefilled),
        total=1000 * (ended - started),
    )
    asking = next((call for call in calls if call.missing), None)
    question = None if asking is None else registry[asking.name].ask(asking.missing[0], query.text)
    return Plan(tuple(calls), refused, question, timings, confidence)


def encode_photo(query: Query, backend: Backend, tokens: Tokens, memory: Memory | None = None) -> Floats | None:
    """Embeddings `[N, H]` of the photo of a request, or None without one; from the memory if it has seen the photo."""
    if query.photo is None:
        return None
    pixels_CHW = preprocess(query.photo, tokens.manifest.image)
    if memory is None or memory.images is None:
        return backend.encode_image(pixels_CHW)
    return memory.images.encode(pixels_CHW, f"{backend.name} {memory.key}", backend.encode_image)


def function_probabilities(logits_V: Floats, tokens: Tokens, ids: Sequence[int] | NDArray[np.int64]) -> Floats:
    """Calibrated probabilities `[F]` of these ids against each other: softmax at the manifest's temperature."""
    scores_F = logits_V[np.asarray(ids)].astype(np.float64) / tokens.manifest.calibration.temperature
    weights_F = np.exp(scores_F - scores_F.max())
    probabilities_F: Floats = (weights_F / weights_F.sum()).astype(np.float32)
    return probabilities_F


class _Writer:
    """Greedy writing of one answer, several tokens a pass.

    What the grammar forces is never asked of the model; it rides along in the next pass. Inside a string the request
    itself is the draft: what followed the same words there is read ahead and kept as far as the model agrees.
    """

    def __init__(
        self, session: Session, grammar: Grammar, request: list[int], draft_tokens: int, ride_along: bool
    ) -> None:
        self.session = session
        self.grammar = grammar
        self.request = request
        self.draft_tokens = draft_tokens
        self.ride_along = ride_along
        self.confidences: list[float] = []  # of each call after the first

    def write(self, state: State, first: int) -> list[int]:
        """All ids from the first functional token to `<nexa_end>`."""
        ids = [first]
        state = self.grammar.advance(state, first)
        unread = 1  # ids at the end of `ids` that the model has not read yet
        while True:
            while (forced := self.grammar.forced(state)) is not None:
                ids.append(forced)
                state = self.grammar.advance(state, forced)
                unread += 1
            if state.done:
                return ids
            if not self.ride_along:
                for token_id in ids[len(ids) - unread : -1]:
                    self.session.step([token_id])
                unread = 1
            draft = self._draft(state) if self.draft_tokens else []
            logits_KV = self.session.step([*ids[-unread:], *draft])[unread - 1 :]
            agreed = 0
            for logits_V in logits_KV:
                chosen = self._choose(state, logits_V)
                ids.append(chosen)
                state = self.grammar.advance(state, chosen)
                if state.done or agreed == len(draft) or chosen != draft[agreed]:
                    break
                agreed += 1
            if agreed < len(draft):
                self.session.rewind(self.session.length - len(draft) + agreed)
            unread = 1

    def _choose(self, state: State, logits_V: Floats) -> int:
        """The best legal id; its probability is kept where it begins another call."""
        legal = np.flatnonzero(self.grammar.allowed(state))
        chosen = int(legal[logits_V[legal].argmax()])
        text_V = self.grammar.free_text(state)
        if text_V is not None and not text_V[chosen] and logits_V[text_V].max() > logits_V[chosen]:
            # The model is not done with this value: it only cannot spell what it copies.
            going_on = legal[text_V[legal]]
            chosen = int(going_on[logits_V[going_on].argmax()]) if len(going_on) else chosen
        if chosen in self.grammar.functions:
            rivals = [i for i in (*self.grammar.later_ids, self.grammar.special.end) if i in legal]
            self.confidences.append(
                float(function_probabilities(logits_V, self.grammar.tokens, rivals)[rivals.index(chosen)])
            )
        return chosen

    def _draft(self, state: State) -> list[int]:
        """What follows in the request behind the longest end of the value that occurs there, as far as it is legal."""
        value, request = state.value, self.request
        for length in range(min(len(value), 4), 0, -1):
            tail = list(value[-length:])
            for start in range(len(request) - length):
                if request[start : start + length] == tail:
                    return self._legal(state, request[start + length : start + length + self.draft_tokens])
        return []

    def _legal(self, state: State, draft: list[int]) -> list[int]:
        for count, token_id in enumerate(draft):
            if not self.grammar.allowed(state)[token_id]:
                return draft[:count]
            state = self.grammar.advance(state, token_id)
        return draft


def _distinct(calls: Sequence[Call], confidences: Sequence[float]) -> list[Call]:
    """The calls with their confidences; saying the same call again does not make it happen twice."""
    kept: list[Call] = []
    for call, confidence in zip(calls, confidences, strict=True):
        if not any(call.name == k.name and call.arguments == k.arguments and call.missing == k.missing for k in kept):
            kept.append(replace(call, confidence=confidence))
    return kept
