"""Declaring functions, reading their schemas, checking arguments, carrying calls out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core import Call, Effect
from octopus.declaration import declared
from octopus.errors import FunctionError
from octopus.functions.devices.memory import MemoryPhone
from octopus.registry import Registry, function


@function(effect=Effect.SPEND, question="Which {name}?", question_zh="哪个{name}？")
def rent(phone: object, vehicle: Literal["bike", "car"], place: str, copy: int = 1, note: str = "") -> str:
    """Rent a vehicle
    in town.

    More about it.

    Args:
        vehicle: What to rent.
        place: Where to
            pick it up.
        copy (int): How many.
        note: Anything else: or not.

    Returns:
        nothing: much
    """
    return f"{copy} {vehicle} at {place}{note}"


RENT = Registry([rent])


def written(folder: Path, source: str) -> Path:
    path = folder / "mine.py"
    path.write_text("from typing import Literal, Optional\nfrom octopus.functions import Effect, function\n" + source)
    return path


def call(name: str, **arguments: Any) -> Call:
    return Call(name, arguments, "<nexa_0>", 1.0)


def test_a_declared_function_stays_an_ordinary_function() -> None:
    assert rent(None, "car", "Oslo") == "1 car at Oslo"


def test_signature_and_docstring_become_a_function() -> None:
    described = RENT["rent"]
    assert described.signature == "rent(vehicle: bike|car, place: string, copy: integer = 1, note: string = '')"
    assert described.description == "Rent a vehicle in town. More about it."
    assert [p.description for p in described.parameters] == [
        "What to rent.",
        "Where to pick it up.",
        "How many.",
        "Anything else: or not.",
    ]
    assert described.effect is Effect.SPEND
    assert described.body is rent
    assert declared(rent) is described
    assert declared(print) is None


def test_the_question_follows_the_language_of_the_request() -> None:
    assert RENT["rent"].ask("place", "rent me a bike") == "Which place?"
    assert RENT["rent"].ask("place", "租一辆车") == "哪个place？"


def test_schema() -> None:
    assert RENT.schema("rent") == {
        "title": "rent",
        "description": "Rent a vehicle in town. More about it.",
        "type": "object",
        "properties": {
            "vehicle": {"description": "What to rent.", "enum": ["bike", "car"], "type": "string"},
            "place": {"description": "Where to pick it up.", "pattern": "\\S", "type": "string"},
            "copy": {"default": 1, "description": "How many.", "maximum": 9999, "minimum": 1, "type": "integer"},
            "note": {"default": "", "description": "Anything else: or not.", "type": "string"},
        },
        "required": ["vehicle", "place"],
        "additionalProperties": False,
    }


def test_validate_fills_defaults_in_signature_order() -> None:
    checked = RENT.validate("rent", {"place": "巴黎", "vehicle": "car"})
    assert list(checked.items()) == [("vehicle", "car"), ("place", "巴黎"), ("copy", 1), ("note", "")]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vehicle": "boat"}, "vehicle"),
        ({"place": "  "}, "place"),
        ({"place": None}, "place"),
        ({"place": 3}, "place"),
        ({"copy": 0}, "copy"),
        ({"copy": 10_000}, "copy"),
        ({"copy": True}, "copy"),
        ({"copy": 1.5}, "copy"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_validate_refuses_with_the_argument_and_the_signature(change: dict[str, Any], named: str) -> None:
    with pytest.raises(FunctionError) as caught:
        RENT.validate("rent", {"vehicle": "car", "place": "Oslo", **change})
    assert caught.value.message.startswith(f"rent: {named}: ")
    assert "rent(vehicle: bike|car" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_validate_names_a_missing_argument() -> None:
    with pytest.raises(FunctionError, match="place"):
        RENT.validate("rent", {"vehicle": "car"})


@given(st.text().filter(str.strip), st.integers(1, 9999), st.text())
def test_validate_keeps_every_sound_value(place: str, copy: int, note: str) -> None:
    arguments = {"vehicle": "bike", "place": place, "copy": copy, "note": note}
    assert RENT.validate("rent", arguments) == arguments


def test_a_registry_is_a_mapping() -> None:
    registry = Registry.default()
    assert "send_text" in registry
    assert "send_fax" not in registry
    assert registry.get("send_fax") is None
    assert dict(registry.items())["send_text"].name == "send_text"
    with pytest.raises(FunctionError, match="send_fax"):
        registry["send_fax"]


def test_names_are_unique_but_a_union_replaces() -> None:
    with pytest.raises(FunctionError, match="rent"):
        Registry([rent, rent])
    with pytest.raises(FunctionError, match="not declared"):
        Registry([print])
    both = Registry.default() | RENT
    assert list(both) == [*Registry.default(), "rent"]
    assert list(both | Registry.default()) == list(both)


def test_from_file(tmp_path: Path) -> None:
    source = """
from octopus.functions.catalogue import send_text

def not_declared(x): ...

@function(effect=Effect.READ)
def b(phone, x: "str"):
    '''B.

    Args:
        x: X.
    '''
    return x

@function(effect=Effect.READ)
def a(phone):
    '''A.'''
"""
    registry = Registry.from_file(written(tmp_path, source))
    assert list(registry) == ["b", "a"]
    assert registry["b"].body(None, "y") == "y"


BAD = {
    "missing annotation": ("def f(phone, x):\n    'F.\\n\\nArgs:\\n    x: X.'", "has no annotation"),
    "missing docstring": ("def f(phone, x: str): ...", "has no docstring"),
    "undescribed": ("def f(phone, x: str):\n    'F.'", "'x' is not described"),
    "described twice": ("def f(phone):\n    'F.\\n\\nArgs:\\n    y: Y.'", "'y' is described but"),
    "unsupported type": ("def f(phone, x: float):\n    'F.\\n\\nArgs:\\n    x: X.'", "unsupported type float"),
    "optional": ("def f(phone, x: Optional[str]):\n    'F.\\n\\nArgs:\\n    x: X.'", "unsupported type"),
    "unknown type": ("def f(phone, x: Sting):\n    'F.\\n\\nArgs:\\n    x: X.'", "NameError"),
    "unknown type in quotes": ("def f(phone, x: 'Sting'):\n    'F.\\n\\nArgs:\\n    x: X.'", "cannot be read"),
    "bad default": ("def f(phone, x: int = 'a'):\n    'F.\\n\\nArgs:\\n    x: X.'", "has the default 'a'"),
    "default out of range": ("def f(phone, x: int = 0):\n    'F.\\n\\nArgs:\\n    x: X.'", "has the default 0"),
    "bad choice": ("def f(phone, x: Literal['a'] = 'b'):\n    'F.\\n\\nArgs:\\n    x: X.'", "has the default 'b'"),
    "number choices": ("def f(phone, x: Literal[1, 2]):\n    'F.\\n\\nArgs:\\n    x: X.'", "unusable choices"),
    "variadic": ("def f(phone, *x: str):\n    'F.\\n\\nArgs:\\n    x: X.'", "not an ordinary one"),
    "no phone": ("def f(x: str):\n    'F.\\n\\nArgs:\\n    x: X.'", "not the phone"),
    "coroutine": ("async def f(phone):\n    'F.'", "not a plain function"),
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_function_is_refused_with_file_and_line(tmp_path: Path, problem: str) -> None:
    body, message = BAD[problem]
    path = written(tmp_path, f"@function(\n    effect=Effect.READ,\n)\n{body}\n")
    with pytest.raises(FunctionError, match=message) as caught:
        Registry.from_file(path)
    assert f"{path}:6: " in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:", "mine.py:3: SyntaxError"),
        ("\n1 / 0", "mine.py:4: ZeroDivisionError"),
        ("raise SystemExit(3)", "mine.py:3: SystemExit"),
        ("@function\ndef f(phone): ...", "mine.py:3: TypeError"),
        ("x = 1", "no function is declared"),
    ],
)
def test_a_broken_file_is_one_line_not_a_traceback(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(FunctionError, match=message) as caught:
        Registry.from_file(written(tmp_path, source))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_file_that_is_not_python(tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match="no such file"):
        Registry.from_file(tmp_path / "none.py")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FunctionError, match="not a Python file"):
        Registry.from_file(tmp_path / "notes.txt")


def test_execute_reports_what_was_done() -> None:
    with MemoryPhone(":memory:") as phone:
        outcome = RENT.execute(call("rent", vehicle="bike", place="Oslo"), phone)
    assert (outcome.status, outcome.summary) == ("done", "1 bike at Oslo")


def test_execute_accepts_a_mapping_or_nothing_from_a_function(tmp_path: Path) -> None:
    source = """
@function(effect=Effect.READ)
def data(phone):
    'D.'
    return {"n": 1}

@function(effect=Effect.READ)
def nothing(phone):
    'N.'
"""
    registry = Registry.from_file(written(tmp_path, source))
    with MemoryPhone(":memory:") as phone:
        assert registry.execute(call("data"), phone).data == {"n": 1}
        assert registry.execute(call("nothing"), phone).summary == "nothing done"


def test_a_failing_function_is_an_outcome_and_leaves_no_half_deeds(tmp_path: Path) -> None:
    source = """
@function(effect=Effect.SEND)
def f(phone, x: str):
    '''F.

    Args:
        x: X.
    '''
    phone.send_text("mom", x)
    raise OSError("line\\nbroken")
"""
    registry = Registry.from_file(written(tmp_path, source))
    with MemoryPhone(":memory:") as phone:
        outcome = registry.execute(call("f", x="hi"), phone)
        shown = phone.dump()
    assert (outcome.status, outcome.summary) == ("failed", "f failed: line broken")
    assert shown["texts"] == []
    assert [(e["function"], e["arguments"], e["reason"]) for e in shown["unfinished"]] == [
        ("f", {"x": "hi"}, "line broken")
    ]


def test_execute_touches_nothing_when_arguments_do_not_fit() -> None:
    with MemoryPhone(":memory:") as phone:
        with pytest.raises(FunctionError):
            RENT.execute(call("rent", vehicle="boat"), phone)
        assert not any(phone.dump().values())
