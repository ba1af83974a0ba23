"""From what was agreed to what was done: resume, undo, holding back, keys, and what is not done again unasked."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from command import Command, phone, write_functions
from octopus import DeviceError, MemoryPhone, Plan, Query, Registry, Timings, UncertainError, UsageError
from octopus.core import Call, Effect
from octopus.device import Contact, Deed, Entry
from octopus.execution import Consent, carry_out_with_its_photo, perform, resume, undo
from octopus.functions import function
from scripted_model import call

REGISTRY = Registry.default()
YES = Consent(yes=True)
FUNCTION_ARGUMENTS = "    Args:\n        item: The grocery item.\n        quantity: How many.\n"


class Post:
    """An outlet that a test can make fail, and that remembers what it was given."""

    name = "post"
    verbs = frozenset({"send_text", "send_email", "add_to_basket"})

    def __init__(self, repeatable: bool = False, error: Exception | None = None) -> None:
        self.repeatable = repeatable
        self.error = error
        self.deeds: list[Deed] = []
        self.undone: list[str] = []

    def do(self, deed: Deed) -> Entry:
        self.deeds.append(deed)
        if self.error is not None:
            raise self.error
        return {"draft": deed.verb == "send_email"}

    def undo(self, deed: Deed, entry: Entry) -> None:
        if self.error is not None:
            raise self.error
        self.undone.append(deed.key)


def plan(*calls: Call, text: str = "mom Ana") -> Plan:
    return Plan(calls, False, None, Timings(), 1.0, Query(text))


TEXT = call("send_text", to="mom", message="hi")
MILK = call("instacart_shopping", item="milk", quantity=2)
SEARCH = call("google_search", query="milk")


def statuses(outcomes: Sequence[Any]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def test_a_failed_call_is_named_and_resumed_with_the_same_key() -> None:
    post = Post(error=DeviceError("no network"))
    with MemoryPhone(":memory:", {"send_text": post}) as phone:
        phone.photo = b"jpeg"
        (failed,) = perform(plan(TEXT), REGISTRY, phone, YES)
        phone.photo = None
        assert failed.status == "failed" and "no network" in failed.summary
        assert [line["reason"] for line in phone.dump()["unfinished"]] == ["no network"]
        post.error = None
        assert statuses(list(resume(REGISTRY, phone))) == ["done"]
        (text,) = phone.dump()["texts"]
        assert text["photo"] is True and phone.photo_of(text["id"]) == b"jpeg"
        assert phone.dump()["unfinished"] == []
        assert list(resume(REGISTRY, phone)) == []
    assert len({deed.key for deed in post.deeds}) == 1 and len(post.deeds) == 2


def test_what_may_have_been_sent_is_not_sent_again_unasked() -> None:
    post = Post(error=UncertainError("the answer never came"))
    with MemoryPhone(":memory:", {"send_text": post}) as phone:
        perform(plan(TEXT), REGISTRY, phone, YES)
        (line,) = phone.dump()["unfinished"]
        assert line["reason"] == "the answer never came; post may have done it"
        post.error = None
        asked: list[str] = []
        for ask in (None, lambda question: bool(asked.append(question))):
            (left,) = resume(REGISTRY, phone, ask=ask)
            assert left.status == "declined" and "may have done it already" in left.summary
        assert "may have been done already by post" in asked[0] and "Mom" in asked[0]
        assert len(post.deeds) == 1
        assert statuses(list(resume(REGISTRY, phone, [line["id"]], again=True))) == ["done"]
        assert len(post.deeds) == 2


def test_a_repeatable_device_is_tried_again() -> None:
    post = Post(repeatable=True, error=UncertainError("the answer never came"))
    with MemoryPhone(":memory:", {"send_text": post}) as phone:
        perform(plan(TEXT), REGISTRY, phone, YES)
        post.error = None
        assert statuses(list(resume(REGISTRY, phone))) == ["done"]


def test_of_many_who_resume_at_once_one_does_it(tmp_path: Path) -> None:
    path, post = tmp_path / "phone.sqlite", Post(error=DeviceError("no network"))
    with MemoryPhone(path, {"send_text": post}) as phone:
        perform(plan(TEXT), REGISTRY, phone, YES)
    post.error = None
    together = threading.Barrier(6)
    told: list[str] = []

    def carry_on() -> None:
        with MemoryPhone(path, {"send_text": post}) as phone:
            together.wait()
            told.extend(statuses(list(resume(REGISTRY, phone))))

    threads = [threading.Thread(target=carry_on) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(post.deeds) == 2 and told.count("done") == 1  # the one that failed, and one more


def test_after_a_failure_in_the_middle_only_the_rest_is_done() -> None:
    @function(effect=Effect.WRITE)
    def instacart_shopping(phone: MemoryPhone, item: str, quantity: int = 1) -> None:
        """Put groceries into the basket, one by one.

        Args:
            item: The grocery item.
            quantity: How many.
        """
        for _ in range(quantity):
            phone.add_to_basket(item, 1)
            if post.deeds and not mended:
                raise OSError("shop closed")

    mended: list[bool] = []
    post = Post()
    registry = REGISTRY | Registry([instacart_shopping])
    with MemoryPhone(":memory:", {"instacart_shopping": post}) as phone:
        assert statuses(perform(plan(MILK), registry, phone, YES)) == ["failed"]
        mended.append(True)
        assert statuses(list(resume(registry, phone))) == ["declined"]  # other code may have done anything
        assert statuses(list(resume(registry, phone, again=True))) == ["done"]
        assert len(phone.dump()["basket"]) == 2
    assert len(post.deeds) == 2 and len({deed.key for deed in post.deeds}) == 2


def test_another_function_of_the_same_name_is_not_resumed(octopus: Command, tmp_path: Path) -> None:
    path = write_functions(tmp_path, "phone, item: str, quantity: int = 1", FUNCTION_ARGUMENTS, "raise OSError('no')")
    assert octopus("run", "--functions", path, "买两盒牛奶").code == 5
    ended = octopus("resume")
    assert ended.code == 5 and f"give --functions {path}" in ended.out
    assert phone()["basket"] == [] and len(phone()["unfinished"]) == 1
    write_functions(tmp_path, "phone, item: str, quantity: int = 1", FUNCTION_ARGUMENTS, "return 'mended'")
    ended = octopus("resume", "--functions", path)
    assert ended.code == 0 and "mended" in ended.out and phone()["unfinished"] == []


def test_undo_takes_back_basket_board_and_drafts_but_not_what_was_sent() -> None:
    post = Post()
    with MemoryPhone(":memory:", {"send_email": post}) as phone:
        perform(plan(MILK, call("lost_and_found", item="key"), SEARCH), REGISTRY, phone, YES)
        perform(plan(call("send_email", to="mom")), REGISTRY, phone, YES)
        perform(plan(SEARCH), REGISTRY, phone, YES)
        for place in ("emails", "board", "basket"):
            assert phone.dump()[place]
            outcome = undo(REGISTRY, phone)
            assert outcome.status == "undone" and not phone.dump()[place]
        assert post.undone == [deed.key for deed in post.deeds]
        with pytest.raises(UsageError, match="nothing to undo"):
            undo(REGISTRY, phone)
        perform(plan(TEXT), REGISTRY, phone, YES)
        with pytest.raises(DeviceError, match="cannot be taken back"):
            undo(REGISTRY, phone)
        assert len(phone.dump()["texts"]) == 1


def test_an_outlet_that_cannot_take_it_back_leaves_everything_as_it_was() -> None:
    post = Post()
    with MemoryPhone(":memory:", {"instacart_shopping": post}) as phone:
        perform(plan(MILK), REGISTRY, phone, YES)
        post.error = DeviceError("too late")
        with pytest.raises(DeviceError, match="too late"):
            undo(REGISTRY, phone)
        assert len(phone.dump()["basket"]) == 1
        post.error = None
        assert undo(REGISTRY, phone).status == "undone"
        with pytest.raises(UsageError, match="undone"):
            undo(REGISTRY, phone, 1)


def test_what_is_held_back_can_be_undone_until_it_is_due() -> None:
    with MemoryPhone(":memory:") as phone:
        phone.photo = b"jpeg"
        outcomes = perform(plan(TEXT, MILK), REGISTRY, phone, YES, send_after=60)
        phone.photo = None
        assert statuses(outcomes) == ["waiting", "done"]  # a basket can be emptied again anyway
        assert phone.dump()["texts"] == []
        (line,) = phone.dump()["unfinished"]
        assert line["reason"] == "waiting"
        assert statuses(list(resume(REGISTRY, phone))) == ["waiting"]  # it is not resume's to send
        assert phone.journal.due() == []
        (held,) = phone.journal.due(time.time() + 61)
        assert undo(REGISTRY, phone, line["id"]).status == "undone"
        assert carry_out_with_its_photo(held, REGISTRY, phone).status == "declined"
        assert phone.dump()["texts"] == [] and phone.dump()["unfinished"] == []

        perform(plan(TEXT), REGISTRY, phone, YES, send_after=60)
        (held,) = phone.journal.due(time.time() + 61)
        assert carry_out_with_its_photo(held, REGISTRY, phone).status == "done"
        assert carry_out_with_its_photo(held, REGISTRY, phone).status == "declined"  # once
        assert len(phone.dump()["texts"]) == 1


def test_what_was_agreed_to_is_what_is_sent(tmp_path: Path) -> None:
    """The address book changed between the yes and the sending: then the yes was for somebody else."""
    with MemoryPhone(":memory:") as phone:
        perform(plan(call("send_text", to="李梅")), REGISTRY, phone, Consent(confirm=lambda q: True), send_after=60)
        phone.add_contact(Contact("李梅", "", "+1 900 555 0199"))
        (held,) = phone.journal.due(time.time() + 61)
        outcome = carry_out_with_its_photo(held, REGISTRY, phone)
        assert outcome.status == "failed" and "something else now" in outcome.summary
        assert phone.dump()["texts"] == [] and len(phone.dump()["unfinished"]) == 1


def test_one_key_is_one_request() -> None:
    with MemoryPhone(":memory:") as phone:
        for key in ("a.b", "a", "a", "a.b"):
            assert statuses(perform(plan(TEXT, MILK), REGISTRY, phone, YES, key=key)) == ["done", "done"]
        assert len(phone.dump()["texts"]) == len(phone.dump()["basket"]) == 2
        with pytest.raises(UsageError, match="another request"):
            perform(plan(MILK), REGISTRY, phone, YES, key="a")
        # A no is not remembered: nothing has happened, so it may be asked again.
        assert statuses(perform(plan(TEXT), REGISTRY, phone, Consent(), key="c")) == ["declined"]
        assert statuses(perform(plan(TEXT), REGISTRY, phone, YES, key="c")) == ["done"]


def test_a_no_leaves_nothing_behind() -> None:
    with MemoryPhone(":memory:") as phone:
        assert statuses(perform(plan(TEXT), REGISTRY, phone, Consent(confirm=lambda q: False))) == ["declined"]
        assert statuses(perform(plan(TEXT), REGISTRY, phone, Consent(yes=True, dry_run=True))) == ["dry-run"]
        assert not any(phone.dump().values())
        with pytest.raises(UsageError):
            phone.journal.action(1)


def test_being_interrupted_while_asked_is_a_no(tmp_path: Path) -> None:
    def interrupted(question: str) -> bool:
        raise KeyboardInterrupt

    with MemoryPhone(tmp_path / "phone.sqlite") as phone:
        with pytest.raises(KeyboardInterrupt):
            perform(plan(TEXT), REGISTRY, phone, Consent(confirm=interrupted))
        assert not any(phone.dump().values())


def test_a_phone_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript("""
        CREATE TABLE contacts (id INTEGER PRIMARY KEY, contact TEXT NOT NULL);
        CREATE TABLE entries (
            id INTEGER PRIMARY KEY, list TEXT NOT NULL, entry TEXT NOT NULL, photo BLOB, message BLOB
        );
        CREATE TABLE unfinished (
            id INTEGER PRIMARY KEY, function TEXT NOT NULL, arguments TEXT NOT NULL, time TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT 'interrupted'
        );
        INSERT INTO contacts (contact) VALUES ('{"name": "Zoe", "email": "", "number": "123456", "also": ["z"]}');
        INSERT INTO entries (list, entry) VALUES ('basket', '{"item": "tea", "quantity": 1, "time": "t"}');
        INSERT INTO unfinished (function, arguments, time) VALUES ('send_text', '{"to": "Zoe"}', 't');
        PRAGMA user_version = 1;
    """)
    connection.close()
    with MemoryPhone(path) as opened:
        assert opened.contacts() == (Contact("Zoe", "", "123456", ("z",)),)
        state = opened.dump()
        assert state["basket"][0]["item"] == "tea"
        assert [(line["function"], line["reason"]) for line in state["unfinished"]] == [("send_text", "interrupted")]
        assert statuses(list(resume(REGISTRY, opened))) == ["done"]
