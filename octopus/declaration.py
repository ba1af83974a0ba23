"""From a typed Python function to a core.Function: the decorator with which a phone function is declared.

In: a function with annotations and a Google docstring. Out: the same function, still plain Python, which carries its
description. Whatever cannot become a schema is refused here with file and line. Knows nothing of tokens or devices.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal, NoReturn, TypeVar

from octopus.core import Channel, Effect, Function, Parameter
from octopus.errors import FunctionError

Body = TypeVar("Body", bound=Callable[..., Any])

MAX_DIGITS = 4
"""How many digits the model may write for an integer."""

INTEGERS = range(1, 10**MAX_DIGITS)
"""The whole numbers an integer argument may have."""

_MARK = "__octopus_function__"
_TYPES_HINT = "arguments are str, int or Literal['one', 'another']"
_SECTION = re.compile(r"(Args|Arguments|Returns?|Raises|Yields?|Examples?|Notes?):\s*")
_ENTRY = re.compile(r"(?P<indent>\s+)\*{0,2}(?P<name>\w+)(\s*\([^)]*\))?:\s*(?P<text>.*)")


def function(
    *, effect: Effect, question: str = "", question_zh: str = "", reaches: Mapping[str, Channel] | None = None
) -> Callable[[Body], Body]:
    """Declare a phone function; its schema is read from the signature and the Google docstring.

    Args:
        effect: What it does to the world; octopus asks before SEND, SPEND and PUBLISH.
        question: Asked when a required argument is missing; "{name}" stands for the argument.
        question_zh: The same for requests in Chinese.
        reaches: Arguments that name a person, and how they are reached: `{"to": "number"}`.

    Raises:
        FunctionError: Something in the signature or docstring cannot become a schema; names file and line.
    """

    def declare(body: Body) -> Body:
        described = _describe(body, effect, question, question_zh, reaches or {})
        setattr(body, _MARK, described)
        return body

    return declare


def declared(body: object) -> Function | None:
    """The Function that `function` made of this Python function; None for anything else."""
    described = getattr(body, _MARK, None)
    return described if isinstance(described, Function) else None


def _describe(
    body: Callable[..., Any], effect: Effect, question: str, question_zh: str, reaches: Mapping[str, Channel]
) -> Function:
    if not inspect.isfunction(body) or inspect.iscoroutinefunction(body):
        _refuse(body, "is not a plain function", "use def")
    if not isinstance(effect, Effect):
        _refuse(body, f"effect {effect!r} is none of Effect's", "for example effect=Effect.READ")
    declared_parameters = list(inspect.signature(body).parameters.values())
    if not declared_parameters or declared_parameters[0].name != "phone":
        _refuse(body, "its first parameter is not the phone", f"write def {body.__name__}(phone, ...)")
    description, texts = _read_docstring(body)
    annotations = _annotations(body)
    parameters = tuple(_parameter(body, p, annotations, texts, reaches) for p in declared_parameters[1:])
    known = {p.name for p in parameters}
    for name in (*texts, *reaches):
        if name not in known:
            _refuse(body, f"{name!r} is described but is not a parameter", "rename or remove it")
    return Function(body.__name__, description, parameters, effect, body, question, question_zh)


def _parameter(
    body: Callable[..., Any],
    declared_parameter: inspect.Parameter,
    annotations: Mapping[str, Any],
    texts: Mapping[str, str],
    reaches: Mapping[str, Channel],
) -> Parameter:
    name, default = declared_parameter.name, declared_parameter.default
    if declared_parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        _refuse(body, f"parameter {name!r} is not an ordinary one", "no *args, **kwargs, / or bare *")
    if name not in annotations:
        _refuse(body, f"parameter {name!r} has no annotation", _TYPES_HINT)
    if not texts.get(name):
        _refuse(body, f"parameter {name!r} is not described", "add it under Args: in the docstring")
    kind, choices = _kind(body, name, annotations[name])
    required = default is inspect.Parameter.empty
    fits = {
        "string": isinstance(default, str),
        "integer": type(default) is int and default in INTEGERS,
        "enum": default in choices,
    }
    if not required and not fits[kind]:
        allowed = "one of " + ", ".join(choices) if kind == "enum" else f"a {kind}"
        if kind == "integer":
            allowed = f"a whole number from {INTEGERS[0]} to {INTEGERS[-1]}"
        _refuse(body, f"parameter {name!r} has the default {default!r}", f"it must be {allowed}")
    return Parameter(name, kind, choices, required, None if required else default, texts[name], reaches.get(name))


def _kind(body: Callable[..., Any], name: str, annotation: Any) -> tuple[str, tuple[str, ...]]:
    if annotation is str:
        return "string", ()
    if annotation is int:
        return "integer", ()
    choices = typing.get_args(annotation)
    if typing.get_origin(annotation) is not Literal:
        shown = annotation.__name__ if isinstance(annotation, type) else annotation
        _refuse(body, f"parameter {name!r} has the unsupported type {shown}", _TYPES_HINT)
    if not all(isinstance(choice, str) and choice and choice == choice.strip() for choice in choices) or len(
        set(choices)
    ) < len(choices):
        _refuse(
            body,
            f"parameter {name!r} has unusable choices",
            "a Literal holds different, non-empty strings without spaces around them",
        )
    return "enum", choices


def _annotations(body: Callable[..., Any]) -> dict[str, Any]:
    # The phone's own annotation is left out: function files may import Device for type checkers only.
    wanted = {name: hint for name, hint in body.__annotations__.items() if name not in ("phone", "return")}
    try:
        return typing.get_type_hints(SimpleNamespace(__annotations__=wanted), globalns=body.__globals__)
    except Exception as error:  # evaluating an annotation runs the author's code
        _refuse(body, f"an annotation cannot be read: {error}", _TYPES_HINT)


def _read_docstring(body: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The description (all text before the first section) and the text of each argument."""
    lines = (inspect.getdoc(body) or "").splitlines()
    sections = [row for row, line in enumerate(lines) if _SECTION.fullmatch(line)]
    description = " ".join(" ".join(lines[: sections[0] if sections else None]).split())
    if not description:
        _refuse(body, "has no docstring", "say in one sentence what it does; the model learns from it")
    texts: dict[str, str] = {}
    for row in sections:
        if lines[row].startswith("Arg"):
            texts.update(_read_arguments(lines[row + 1 :]))
    return description, texts


def _read_arguments(lines: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    indent, name = None, ""
    for line in lines:
        if line and not line[0].isspace():
            break  # the next section
        match = _ENTRY.fullmatch(line)
        if match and indent in (None, match["indent"]):
            indent, name = match["indent"], match["name"]
            texts[name] = match["text"].strip()
        elif name and line.strip():
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def _refuse(body: Callable[..., Any], problem: str, hint: str) -> NoReturn:
    name = getattr(body, "__name__", repr(body))
    raise FunctionError(f"{_place(body)}{name}: {problem}", hint)


def _place(body: Callable[..., Any]) -> str:
    """`my.py:12: `, the line of the `def`, not of the decorator above it."""
    code = getattr(body, "__code__", None)
    if code is None:
        return ""
    line = code.co_firstlineno
    try:
        source, line = inspect.getsourcelines(code)
    except OSError:
        source = []
    decorators = next((row for row, text in enumerate(source) if text.lstrip().startswith(("def ", "async "))), 0)
    return f"{code.co_filename}:{line + decorators}: "
