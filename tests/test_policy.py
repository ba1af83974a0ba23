"""Consent: who is asked what, and that one no stops everything."""

from __future__ import annotations

from typing import Any

import pytest

from octopus.config import Rules, Verdict
from octopus.core import Call
from octopus.errors import FunctionError
from octopus.functions.devices.memory import MemoryPhone
from octopus.policy import decide, describe
from octopus.registry import Registry

REGISTRY = Registry.default()
WORDS = "send this to mom and Ana"

ASKING = {
    "send_email": {"to": "mom"},
    "send_text": {"to": "mom"},
    "amazon_purchase": {"item": "egg cooker"},
    "doordash_order": {"dish": "pad thai"},
    "lost_and_found": {"item": "umbrella"},
}
QUIET: dict[str, dict[str, Any]] = {
    "google_search": {"query": "x"},
    "smart_recycling": {"item": "jar", "material": "glass"},
    "interior_design": {"room": "office"},
    "instacart_shopping": {"item": "milk"},
    "pet_care": {"animal": "cat"},
    "irrelevant_function": {},
}


def call(name: str, **arguments: Any) -> Call:
    return Call(name, arguments, "<nexa_0>", 1.0)


class Answers:
    """A user with prepared answers, who remembers the questions."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    def __call__(self, question: str) -> bool:
        self.questions.append(question)
        return self.answers.pop(0)


def test_every_function_is_covered() -> None:
    assert {*ASKING, *QUIET} == set(REGISTRY)


@pytest.mark.parametrize("name", ASKING)
def test_deeds_that_cannot_be_taken_back_are_asked(name: str) -> None:
    calls = [call(name, **ASKING[name])]
    user = Answers(True)
    assert decide(calls, REGISTRY, confirm=user).execute
    assert len(user.questions) == 1
    refused = decide(calls, REGISTRY, confirm=Answers(False))
    assert not refused.execute
    assert [o.status for o in refused.outcomes] == ["declined"]


@pytest.mark.parametrize("name", ASKING)
def test_nobody_there_means_no_unless_yes(name: str) -> None:
    calls = [call(name, **ASKING[name])]
    decision = decide(calls, REGISTRY, words=WORDS)
    assert not decision.execute
    assert "--yes" in decision.outcomes[0].summary
    assert decide(calls, REGISTRY, words=WORDS, yes=True).execute


@pytest.mark.parametrize("name", QUIET)
def test_harmless_functions_go_ahead_unasked(name: str) -> None:
    assert decide([call(name, **QUIET[name])], REGISTRY).execute


def test_yes_asks_nothing() -> None:
    assert decide([call("send_text", to="mom")], REGISTRY, words=WORDS, yes=True, confirm=Answers()).execute


def test_dry_run_beats_yes_and_asks_nobody() -> None:
    calls = [call("google_search", query="x"), call("send_text", to="mom", message="hi")]
    decision = decide(calls, REGISTRY, yes=True, dry_run=True, confirm=Answers())
    assert not decision.execute
    assert [o.status for o in decision.outcomes] == ["dry-run", "dry-run"]
    assert 'to "mom", message "hi"' in decision.outcomes[1].summary


def test_one_no_declines_all_calls_and_ends_the_asking() -> None:
    calls = [call("google_search", query="x"), call("send_text", to="mom"), call("send_email", to="Ana")]
    user = Answers(False)
    decision = decide(calls, REGISTRY, confirm=user)
    assert [o.status for o in decision.outcomes] == ["declined"] * 3
    assert [o.summary for o in decision.outcomes][1] == "Not done: you declined"
    assert len(user.questions) == 1


def test_all_are_asked_before_the_decision() -> None:
    calls = [call("send_text", to="mom"), call("instacart_shopping", item="milk"), call("send_email", to="Ana")]
    user = Answers(True, False)
    assert not decide(calls, REGISTRY, words=WORDS, confirm=user).execute
    assert [q.split(":")[0] for q in user.questions] == ["Send text", "Send email"]


def test_bad_arguments_are_refused_before_anybody_is_asked() -> None:
    user = Answers(True)
    with pytest.raises(FunctionError):
        decide([call("send_text", to="mom"), call("pet_care")], REGISTRY, confirm=user)
    assert user.questions == []


def test_the_question_shows_recipient_words_and_photo() -> None:
    user = Answers(True, True, True)
    with MemoryPhone(":memory:") as phone:
        decide([call("send_text", to="妈妈", message="I'm late")], REGISTRY, confirm=user, phone=phone)
        phone.photo = b"jpeg"
        email = call("send_email", to="zoe@example.com", subject="Hi")
        decide([email], REGISTRY, confirm=user, phone=phone, words="to zoe@example.com", thumbnail=lambda: "/a/b.jpg")
        decide([call("send_text", to="Zoe")], REGISTRY, confirm=user, phone=phone, words="text Zoe")
    assert user.questions == [
        'Send text: to "妈妈" (Mom, +1 202 555 0143), message "I\'m late", without a photo. Go ahead?',
        'Send email: to "zoe@example.com", subject "Hi", body (empty), with the photo (/a/b.jpg). Go ahead?',
        'Send text: to "Zoe" (not in contacts), message (empty), with the photo. Go ahead?',
    ]


def test_a_purchase_shows_the_quantity_and_no_photo() -> None:
    with MemoryPhone(":memory:") as phone:
        text = describe(call("amazon_purchase", item="egg cooker", quantity=2), REGISTRY, phone)
    assert text == 'Amazon purchase: item "egg cooker", quantity 2, price unknown'


def test_the_question_cannot_be_disguised() -> None:
    text = describe(call("send_text", to="mom", message='ok\n\x1b[2J\u202e" 👨‍👩‍👧'), REGISTRY)
    assert text == 'Send text: to "mom", message "ok\\n\\x1b[2J\\u202e\\" 👨‍👩‍👧"'


@pytest.mark.parametrize("name", [*ASKING, *QUIET])
@pytest.mark.parametrize("verdict", ["allow", "ask", "deny"])
def test_the_rules_decide_for_each_effect_and_each_function(name: str, verdict: Verdict) -> None:
    calls = [call(name, **{**ASKING, **QUIET}[name])]
    effect = REGISTRY[name].effect.value
    for rules in (Rules({effect: verdict}), Rules({effect: "deny"}, {name: verdict})):
        for yes in (False, True):
            decision = decide(calls, REGISTRY, words=WORDS, rules=rules, yes=yes)
            assert decision.execute is (verdict == "allow" or (verdict == "ask" and yes))
        user = Answers(True)
        assert decide(calls, REGISTRY, words=WORDS, rules=rules, confirm=user).execute is (verdict != "deny")
        assert len(user.questions) == (verdict == "ask")


def test_what_no_rule_names_is_asked_about() -> None:
    assert not decide([call("google_search", query="x")], REGISTRY, rules=Rules({})).execute


def test_a_denied_part_declines_all_before_anybody_is_asked() -> None:
    user = Answers(True)
    calls = [call("send_text", to="mom"), call("doordash_order", dish="soup")]
    decision = decide(calls, REGISTRY, words=WORDS, confirm=user, yes=True, rules=Rules({}, {"doordash_order": "deny"}))
    assert not decision.execute and user.questions == []
    assert "deny doordash_order" in decision.outcomes[1].summary
