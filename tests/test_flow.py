"""The whole flow on fakes: a sentence and a photo become something that happened on a phone, or did not."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octopus import Agent, Effect, MemoryPhone, ModelError, Registry, TextError, UsageError, function
from scripted_model import Script, call, scripted_backend, write_model

TEXT_MOM = "text this to mom"
ORDER_BOTH = "order two pizzas and text mom that dinner is coming"
RECYCLE = "这个瓶子怎么回收"
SCRIPT: Script = {
    TEXT_MOM: [call("send_text", to="mom")],
    ORDER_BOTH: [
        call("doordash_order", dish="pizzas", quantity=2),
        call("send_text", to="mom", message="dinner is coming"),
    ],
    RECYCLE: [call("smart_recycling", item="瓶子", material="plastic")],
    "email this": [call("send_email", "to")],
    "怎么布置": [call("interior_design", "room")],
    "怎么布置 厨房": [call("interior_design", room="kitchen")],
    "邮件发这张照片给妈妈": [call("send_email", to="妈妈")],
    "buy <nexa_3> <nexa_end>": [call("google_search", query="<nexa_3> <nexa_end>")],
    "find a cat 🐈": [call("google_search", query="a cat 🐈")],
}
PHOTO = np.full((40, 60, 3), (200, 120, 40), np.uint8)


@pytest.fixture
def phone() -> MemoryPhone:
    return MemoryPhone(":memory:")


@pytest.fixture
def agent(scripted_folder: Path, phone: MemoryPhone) -> Agent:
    return Agent(scripted_folder, phone=phone, backend=scripted_backend(scripted_folder, SCRIPT))


def happened(phone: MemoryPhone) -> list[str]:
    """Names of the lists that something was written to."""
    return [name for name, rows in phone.dump().items() if rows]


def test_a_photo_and_a_sentence_become_a_sent_message(agent: Agent, phone: MemoryPhone) -> None:
    result = agent.call(TEXT_MOM, PHOTO, yes=True)

    assert result.call is not None
    assert (result.call.name, dict(result.call.arguments)) == ("send_text", {"to": "mom", "message": ""})
    assert result.call.token == "<nexa_1>"
    assert result.call.confidence > 0.99
    assert result.executed and not result.refused and result.question is None
    assert [outcome.status for outcome in result.results] == ["done"]
    assert result.model == "scripted"
    assert 0 < result.timings.total < 60_000

    (text,) = phone.dump()["texts"]
    assert text["to"] == "mom"
    assert text["contact"]["name"] == "Mom"
    assert text["photo"] is True
    jpeg = phone.photo_of(text["id"])
    assert jpeg is not None
    assert Image.open(io.BytesIO(jpeg)).size == (60, 40)


def test_the_photo_of_one_request_does_not_go_with_the_next(agent: Agent, phone: MemoryPhone) -> None:
    agent.call(TEXT_MOM, PHOTO, yes=True)
    agent.call(TEXT_MOM, yes=True)
    assert [text["photo"] for text in phone.dump()["texts"]] == [True, False]


def test_reading_needs_no_consent(agent: Agent, phone: MemoryPhone) -> None:
    result = agent.call(RECYCLE)
    assert result.executed
    assert dict(result.calls[0].arguments) == {"item": "瓶子", "material": "plastic"}
    assert happened(phone) == ["searches"]


def test_without_anybody_to_ask_nothing_is_sent(agent: Agent, phone: MemoryPhone) -> None:
    result = agent.call(TEXT_MOM)
    assert not result.executed
    assert [outcome.status for outcome in result.results] == ["declined"]
    assert happened(phone) == []


def test_the_question_shows_who_gets_what(agent: Agent, phone: MemoryPhone) -> None:
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    assert agent.call("邮件发这张照片给妈妈", PHOTO, confirm=agree).executed
    (question,) = asked
    assert "妈妈" in question and "mom@example.com" in question and "with the photo" in question
    (message,) = phone.emails()
    assert message["To"].addresses[0].addr_spec == "mom@example.com"
    assert [part.get_content_type() for part in message.iter_attachments()] == ["image/jpeg"]


def test_declining_one_call_executes_none(agent: Agent, phone: MemoryPhone) -> None:
    answers = iter([True, False])
    result = agent.call(ORDER_BOTH, confirm=lambda question: next(answers))
    assert [outcome.status for outcome in result.results] == ["declined", "declined"]
    assert not result.executed
    assert happened(phone) == []


def test_two_calls_of_one_request_are_both_done(agent: Agent, phone: MemoryPhone) -> None:
    result = agent.call(ORDER_BOTH, yes=True)
    assert [c.name for c in result.calls] == ["doordash_order", "send_text"]
    assert happened(phone) == ["texts", "orders"]


def test_a_dry_run_tells_and_does_nothing(agent: Agent, phone: MemoryPhone) -> None:
    def never(question: str) -> bool:
        raise AssertionError("a dry run asks nobody")

    result = agent.call(ORDER_BOTH, PHOTO, dry_run=True, confirm=never, yes=True)
    assert [outcome.status for outcome in result.results] == ["dry-run", "dry-run"]
    assert "dinner is coming" in result.results[1].summary
    assert not result.executed
    assert happened(phone) == []


def test_what_no_function_fits_is_refused(agent: Agent, phone: MemoryPhone) -> None:
    result = agent.call("what a lovely day", yes=True)
    assert result.refused
    assert result.calls == () and result.call is None and result.results == ()
    assert happened(phone) == []


def test_what_is_missing_is_asked_for_and_the_answer_completes_the_call(agent: Agent, phone: MemoryPhone) -> None:
    plan = agent.plan("email this", PHOTO)
    assert plan.question == "Who should get the e-mail?"
    asked = agent.run(plan, yes=True)
    assert asked.question == plan.question and not asked.executed
    assert happened(phone) == []

    answered = agent.answer(plan, " Mom \n")
    assert answered.question is None
    assert agent.run(answered, yes=True).executed
    (email,) = phone.dump()["emails"]
    assert (email["to"], email["photo"]) == ("Mom", True)


@pytest.mark.parametrize("said", ["厨房", "Kitchen", "the kitchen"])
def test_a_choice_is_answered_in_ordinary_words(agent: Agent, phone: MemoryPhone, said: str) -> None:
    answered = agent.answer(agent.plan("怎么布置", PHOTO), said)
    assert (answered.question, dict(answered.calls[0].arguments)["room"]) == (None, "kitchen")
    result = agent.run(answered)
    assert result.executed
    assert result.results[0].summary.startswith("厨房：台面加灯")  # the request was in Chinese, its arguments are not
    assert phone.language == "en"


def test_an_answer_that_says_nothing_names_the_choices(agent: Agent) -> None:
    plan = agent.plan("怎么布置")
    with pytest.raises(UsageError, match="是哪个房间？") as caught:
        agent.answer(plan, "月亮")
    assert "bedroom, kitchen, bathroom" in caught.value.hint


def test_the_parts_of_the_time_are_the_whole(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(source: object) -> object:
        time.sleep(0.05)
        return PHOTO

    monkeypatch.setattr("octopus.agent.load_photo", slowly)
    taken = agent.plan(TEXT_MOM, PHOTO).timings
    assert taken.image >= 50
    assert taken.image + taken.prefill + taken.decode == pytest.approx(taken.total, abs=1)


def test_planning_touches_nothing(agent: Agent, phone: MemoryPhone) -> None:
    plan = agent.plan(ORDER_BOTH, PHOTO)
    assert len(plan.calls) == 2
    assert happened(phone) == []


def test_a_photo_may_come_in_any_form(agent: Agent, phone: MemoryPhone, tmp_path: Path) -> None:
    picture = Image.fromarray(PHOTO)
    path = tmp_path / "photo.png"
    picture.save(path)
    for image in (path, str(path), path.read_bytes(), picture, PHOTO):
        assert agent.call(TEXT_MOM, image, yes=True).executed
    assert [text["photo"] for text in phone.dump()["texts"]] == [True] * 5


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("buy <nexa_3> <nexa_end>", "<nexa_3> <nexa_end>"),  # typed by the user, so it is only text
        ("find\ta cat\n🐈\x1b\x00\u202e", "a cat 🐈"),
    ],
)
def test_strange_text_is_only_text(agent: Agent, typed: str, understood: str) -> None:
    (only,) = agent.plan(typed).calls
    assert (only.name, only.arguments["query"]) == ("google_search", understood)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x00\x1b", "\u202e\u200b", "a" * 4001, " " * 50_000])
def test_text_that_says_nothing_or_too_much(agent: Agent, text: str) -> None:
    with pytest.raises(TextError):
        agent.call(text, yes=True)


@pytest.mark.parametrize("text", ["🙂", "اتصل بأمي من فضلك", "?", "\ud800 hello"])
def test_unusual_text_is_answered(agent: Agent, text: str) -> None:
    assert agent.call(text).refused


def test_a_function_that_fails_is_reported_and_remembered(scripted_folder: Path, phone: MemoryPhone) -> None:
    @function(effect=Effect.READ)
    def google_search(phone: MemoryPhone, query: str) -> None:
        """Search the web with Google.

        Args:
            query: What to search for.
        """
        raise OSError("no connection")

    agent = Agent(
        scripted_folder,
        registry=Registry.default() | Registry([google_search]),
        phone=phone,
        backend=scripted_backend(scripted_folder, SCRIPT),
    )
    result = agent.call("find a cat 🐈")
    assert [outcome.status for outcome in result.results] == ["failed"]
    assert "no connection" in result.results[0].summary
    assert not result.executed
    assert happened(phone) == ["unfinished"]


def test_a_model_for_other_functions_is_refused(tmp_path: Path, phone: MemoryPhone) -> None:
    few = Registry([f for f in Registry.default().values() if f.name != "pet_care"])
    other = write_model(tmp_path / "few", few)
    with pytest.raises(ModelError, match="pet_care"):
        Agent(other, phone=phone, backend=scripted_backend(other, {}, few))


def test_the_model_is_loaded_once(scripted_folder: Path, phone: MemoryPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []

    def open_backend(folder: Path, threads: int | None) -> object:
        loads.append(folder)
        return scripted_backend(folder, SCRIPT)

    monkeypatch.setattr("octopus.agent.open_backend", open_backend)
    agent = Agent(scripted_folder, phone=phone)
    for _ in range(3):
        agent.call(RECYCLE)
    assert loads == [scripted_folder]
