"""Answers to questions: what is taken from the words themselves, what the model is asked, what is asked again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from octopus.answer import fill_in, read_value
from octopus.core import Call, Effect, Function, Parameter, Plan, Query, Timings
from octopus.errors import TextError, UsageError

ROOM = Parameter("room", "enum", ("living", "living room", "kitchen", "其他"))
COUNT = Parameter("count", "integer")
WHAT = Parameter("what", "string")
FUNCTIONS = {
    "paint": Function("paint", "Paint.", (ROOM, COUNT, WHAT), Effect.READ, body=print, question="Which {name}?"),
    "wash": Function("wash", "Wash.", (ROOM,), Effect.READ, body=print),
}


class Model:
    """Understands every request as the same calls, and remembers what it was asked."""

    def __init__(self, *calls: Call) -> None:
        self.calls = calls
        self.heard: list[str] = []

    def __call__(self, query: Query) -> Plan:
        self.heard.append(query.text)
        return asking(self.calls, query.text)


def call(name: str, *missing: str, **arguments: str | int) -> Call:
    return Call(name, arguments, "<nexa_0>", 1.0, missing)


def asking(calls: Sequence[Call], text: str = "paint it") -> Plan:
    return Plan(tuple(calls), not calls, "Which room?", Timings(), 1.0, Query(text))


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (ROOM, "kitchen", "kitchen"),
        (ROOM, "The KITCHEN, please", "kitchen"),
        (ROOM, "是kitchen吧", "kitchen"),
        (ROOM, "Living-Room", "living room"),
        (ROOM, "living", "living"),
        (ROOM, "是其他的", "其他"),
        (ROOM, "kitchens", None),
        (ROOM, "kitchen or living room", None),
        (ROOM, "厨房", None),
        (COUNT, "12 of them", 12),
        (COUNT, "0", None),
        (COUNT, "10000", None),
        (COUNT, "9" * 5000, None),
        (COUNT, "2 or 3", None),
        (COUNT, "two", None),
        (WHAT, "the kitchen 2", "the kitchen 2"),
    ],
)
def test_what_an_answer_says_outright(parameter: Parameter, text: str, value: str | int | None) -> None:
    assert read_value(text, parameter) == value


def test_one_answer_after_the_other() -> None:
    model = Model(call("paint", room="kitchen", count=2, what="blue"))
    plan = fill_in(asking([call("paint", "room", "count", "what")]), "the kitchen", FUNCTIONS, model)
    assert plan.question == "Which count?" and model.heard == []
    plan = fill_in(plan, "两面", FUNCTIONS, model)
    assert plan.question == "Which what?" and model.heard == ["paint it 两面"]
    plan = fill_in(plan, "墙", FUNCTIONS, model)
    assert plan.question is None
    assert plan.calls == (call("paint", room="kitchen", count=2, what="墙"),)


@pytest.mark.parametrize(
    "understood", [(), (call("wash", room="kitchen"),), (call("paint", "room", what="x", count=1),)]
)
def test_what_the_model_does_not_find_either_is_asked_again(understood: tuple[Call, ...]) -> None:
    with pytest.raises(UsageError, match=r"Which room\?") as caught:
        fill_in(asking([call("paint", "room")]), "厨" * 1000, FUNCTIONS, Model(*understood))
    assert caught.value.hint == "say one of living, living room, kitchen, 其他"
    assert len(caught.value.message) < 100


def test_together_too_long_for_the_model_is_asked_again() -> None:
    def too_long(query: Query) -> Plan:
        raise TextError("the request is too long")

    with pytest.raises(UsageError, match="does not answer") as caught:
        fill_in(asking([call("paint", "count")]), "many", FUNCTIONS, too_long)
    assert caught.value.hint == "say a whole number from 1 to 9999"


def test_a_plan_without_a_question_takes_no_answer() -> None:
    with pytest.raises(UsageError, match="no question"):
        fill_in(asking([call("wash", room="kitchen")]), "x", FUNCTIONS, Model())
