"""The nouns of octopus. A Query goes in; Calls come out; Outcomes say what the phone did; a Result holds it all.

Everything else in the package is a function between two of these. Plain data only: nothing here knows about models,
tokens, files or devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""A photo: RGB, `[H, W, 3]`, 0..255, upright (EXIF applied)."""


Channel = Literal["email", "number"]
"""How a function reaches a person: by e-mail address or by telephone number."""

Language = Literal["en", "zh"]
"""The two languages octopus answers in."""


class Effect(str, Enum):
    """What a function does to the world; consent depends on it."""

    READ = "read"
    WRITE = "write"  # changes something of the user's that is easily changed back (a basket)
    SEND = "send"
    SPEND = "spend"
    PUBLISH = "publish"
    NONE = "none"


def language_of(text: str) -> Language:
    """The language in which octopus answers a request: Chinese if any character of it is."""
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in text) else "en"


@dataclass(frozen=True)
class Parameter:
    """One argument of a phone function, as read from its signature."""

    name: str
    kind: str  # "string" | "integer" | "enum"
    choices: tuple[str, ...] = ()  # enum values, in order
    required: bool = True
    default: Any = None
    description: str = ""
    channel: Channel | None = None  # set when the value names a person: how the function reaches them


@dataclass(frozen=True)
class Function:
    """A registered phone function: what the model may call and what runs then."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    effect: Effect
    body: Callable[..., Any] = field(repr=False, compare=False)
    question: str = ""  # asked when a required argument is missing; "{name}" is filled in
    question_zh: str = ""  # the same for a request in Chinese; empty: ask in English

    def ask(self, missing: str, text: str = "") -> str:
        """The question for the missing argument, in the language of the request `text`."""
        template = (self.question_zh if language_of(text) == "zh" else "") or self.question or "What is the {name}?"
        return template.replace("{name}", missing)

    @property
    def signature(self) -> str:
        """`send_text(to: string, message: string = '')`: what the manifest's signature hash is taken over."""
        parts = []
        for p in self.parameters:
            kind = "|".join(p.choices) if p.kind == "enum" else p.kind
            parts.append(f"{p.name}: {kind}" + ("" if p.required else f" = {p.default!r}"))
        return f"{self.name}({', '.join(parts)})"


@dataclass(frozen=True)
class Query:
    """What the user gives: a sentence and, optionally, a photo."""

    text: str
    photo: Pixels | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Call:
    """One function call the model chose. `missing` names required arguments that neither words nor photo gave."""

    name: str
    arguments: Mapping[str, Any]
    token: str  # "<nexa_3>"
    confidence: float  # calibrated probability of the function, 0..1
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timings:
    """Wall-clock milliseconds of each part of a call."""

    image: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What the model understood, before anything is executed."""

    calls: tuple[Call, ...]
    refused: bool
    question: str | None
    timings: Timings
    confidence: float  # of the decision as a whole: of the first function, or of refusing
    query: Query | None = field(default=None, repr=False, compare=False)  # what was asked; its photo goes along
    answers: tuple[str, ...] = field(default=(), repr=False, compare=False)  # what the user said when asked back

    @property
    def words(self) -> str:
        """Everything the user said, one line each."""
        return "\n".join([*([self.query.text] if self.query else []), *self.answers])


@dataclass(frozen=True)
class Outcome:
    """What one call did. `status`: "done", "dry-run", "declined", "failed", "waiting" (held back) or "undone"."""

    call: Call
    status: str
    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The answer to one Query."""

    calls: tuple[Call, ...]
    refused: bool
    question: str | None
    executed: bool
    results: tuple[Outcome, ...]
    timings: Timings
    model: str

    @property
    def call(self) -> Call | None:
        """The first call, or None."""
        return self.calls[0] if self.calls else None

    def to_dict(self) -> dict[str, Any]:
        """The one JSON object that `octopus run --json` prints."""
        return {
            "calls": [
                {"name": c.name, "arguments": dict(c.arguments), "token": c.token, "confidence": round(c.confidence, 4)}
                for c in self.calls
            ],
            "refused": self.refused,
            "question": self.question,
            "executed": self.executed,
            "results": [
                {"name": o.call.name, "status": o.status, "summary": o.summary, "data": dict(o.data)}
                for o in self.results
            ],
            "timings_ms": {
                name: round(getattr(self.timings, name), 2) for name in ("image", "prefill", "decode", "total")
            },
            "model": self.model,
        }
