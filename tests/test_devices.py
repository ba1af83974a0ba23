"""One contract for all devices; and exactly which programs with which arguments adb, termux and browser run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from octopus import MemoryPhone, Registry
from octopus.core import Outcome
from octopus.device import Contact, Deed, Outlet, Recipient, Verb
from octopus.execution import resume, undo
from octopus.functions.devices.adb import Adb
from octopus.functions.devices.browser import Browser
from octopus.functions.devices.links import link_of
from octopus.functions.devices.memory import ANY
from octopus.functions.devices.smtp import Smtp
from octopus.functions.devices.termux import Termux
from octopus.functions.devices.webhook import Webhook
from scripted_model import call
from world import NASTY, Mailbox, Programs, Receiver, mail_server, serving

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = Registry.default()
VERBS: dict[Verb, tuple[str, dict[str, Any], str, str]] = {
    "send_text": ("send_text", {"to": "mom"}, "message", "texts"),
    "send_email": ("send_email", {"to": "mom"}, "body", "emails"),
    "add_to_basket": ("instacart_shopping", {"quantity": 2}, "item", "basket"),
    "order": ("doordash_order", {"quantity": 1}, "dish", "orders"),
    "publish": ("lost_and_found", {"location": "bus"}, "item", "board"),
    "search": ("google_search", {}, "query", "searches"),
}
SAYS_NO = "#!/bin/sh\necho 'no permission' >&2\nexit 3\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """adb, which runs what it is told on the phone in a shell as the real one does, and Termux:API."""
    made = Programs(tmp_path / "programs")
    made.add("adb", '[ "$1" = -s ] && shift 2\nif [ "$1" = shell ]; then shift; exec sh -c "$*"; fi')
    made.add("am")
    made.add("rm")
    for name in ("termux-sms-send", "termux-open-url", "termux-share"):
        made.add(name)
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture(params=["memory", "smtp", "browser", "termux", "adb", "webhook"])
def outlet(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Outlet | None]:
    """Each device, with a world in which it works; None for the one that only records."""
    with ExitStack() as running:
        yield make(request.param, running)


def make(name: str, running: ExitStack) -> Outlet | None:
    sender = Contact("Me", "me@example.com")
    if name == "smtp":
        pytest.importorskip("aiosmtpd")
        host, port = running.enter_context(mail_server(Mailbox()))
        return Smtp(host, sender, port=port, security="none")
    if name == "webhook":
        return Webhook(running.enter_context(serving(Receiver())), lambda: "secret", timeout=60)
    return {"memory": lambda: None, "browser": Browser, "termux": Termux, "adb": Adb}[name]()


def phone_with(outlet: Outlet | None) -> MemoryPhone:
    return MemoryPhone(":memory:", {} if outlet is None else {name: outlet for name, *_ in VERBS.values()})


def do(phone: MemoryPhone, verb: Verb, text: str) -> Outcome:
    name, arguments, where, _ = VERBS[verb]
    return REGISTRY.execute(call(name, **{**arguments, where: text}), phone)


def can(outlet: Outlet | None) -> list[Verb]:
    return [verb for verb in VERBS if outlet is None or verb in outlet.verbs]


@pytest.mark.parametrize("text", NASTY)
def test_contract_every_deed_is_done_and_recorded_once_and_unchanged(outlet: Outlet | None, text: str) -> None:
    with phone_with(outlet) as phone:
        for verb in can(outlet):
            _, arguments, where, place = VERBS[verb]
            outcome = do(phone, verb, text)
            assert outcome.status == "done", outcome.summary
            (entry,) = phone.dump()[place]
            assert {**arguments, where: text}.items() <= entry.items()
            assert entry.get("device") == (outlet and outlet.name)
            assert json.loads(json.dumps(outcome.data)) == outcome.data
        assert phone.dump()["unfinished"] == []


def test_contract_the_photo_goes_along(outlet: Outlet | None) -> None:
    with phone_with(outlet) as phone:
        for verb in {"send_text", "send_email", "publish"} & {*can(outlet)}:
            phone.photo = b"\xff\xd8jpeg"
            assert do(phone, verb, "look").status == "done"
            (entry,) = phone.dump()[VERBS[verb][3]]
            assert entry["photo"] is True and phone.photo_of(entry["id"]) == b"\xff\xd8jpeg"


def test_contract_what_it_cannot_do_it_says_and_leaves_undone(outlet: Outlet | None) -> None:
    with phone_with(outlet) as phone:
        for verb in VERBS.keys() - {*can(outlet)}:
            outcome = do(phone, verb, "x")
            assert outcome.status == "failed" and "cannot do" in outcome.summary
        state = phone.dump()
        assert not any(rows for name, rows in state.items() if name != "unfinished")
        assert not any("may have done it" in line["reason"] for line in state["unfinished"])


def test_contract_as_the_default_it_serves_what_it_can_and_the_rest_is_recorded(outlet: Outlet | None) -> None:
    with MemoryPhone(":memory:", {} if outlet is None else {ANY: outlet}) as phone:
        for verb in VERBS:
            assert do(phone, verb, "x").status == "done"
            (entry,) = phone.dump()[VERBS[verb][3]]
            assert entry.get("device") == (outlet.name if outlet is not None and verb in outlet.verbs else None)


def test_contract_basket_board_and_drafts_can_be_undone_and_nothing_else(outlet: Outlet | None) -> None:
    with phone_with(outlet) as phone:
        for verb in can(outlet):
            do(phone, verb, "x")
        for action in phone.journal.settled():
            place = next(place for name, _, _, place in VERBS.values() if name == action.function)
            (entry,) = phone.dump()[place]
            if place in ("basket", "board", "searches") or entry.get("draft"):
                assert undo(REGISTRY, phone, action.id).status == "undone"
                assert phone.dump()[place] == []
            else:
                with pytest.raises(Exception, match="cannot be taken back"):
                    undo(REGISTRY, phone, action.id)
                assert phone.dump()[place] == [entry]


@pytest.mark.parametrize("name", ["smtp", "termux", "adb", "webhook"])
def test_contract_a_world_that_is_not_there_is_a_clear_error_and_can_be_tried_again(
    name: str, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere: dict[str, Callable[[], Outlet]] = {
        "smtp": lambda: Smtp("127.0.0.1", Contact("Me", "me@example.com"), port=9, security="none"),
        "webhook": lambda: Webhook("http://127.0.0.1:9/", lambda: "secret", attempts=1),
        "termux": Termux,
        "adb": Adb,
    }
    outlet = nowhere[name]()
    if name in ("termux", "adb"):
        monkeypatch.setenv("PATH", "/nowhere")
    with phone_with(outlet) as phone:
        for verb in can(outlet):
            outcome = do(phone, verb, "x")
            assert outcome.status == "failed"
            assert "127.0.0.1" in outcome.summary or "is not installed" in outcome.summary
        state = phone.dump()
        assert len(state["unfinished"]) == len(can(outlet))
        assert not any("may have done it" in line["reason"] for line in state["unfinished"])
        assert {outcome.status for outcome in resume(REGISTRY, phone)} == {"failed"}


@pytest.mark.parametrize("name", ["termux", "adb"])
def test_a_program_that_fails_is_quoted(name: str, programs: Programs) -> None:
    for path in programs.folder.iterdir():
        path.write_text(SAYS_NO)
    outlet: Outlet = Termux() if name == "termux" else Adb()
    with phone_with(outlet) as phone:
        assert "failed: no permission" in do(phone, "send_text", "hi").summary


def test_adb_says_what_android_refuses(programs: Programs) -> None:
    programs.add("am", "echo 'Starting: Intent { }'; echo 'Error: Activity not started, unable to resolve Intent'")
    with phone_with(Adb()) as phone:
        outcome = do(phone, "send_text", "hi")
    assert outcome.status == "failed" and "Activity not started" in outcome.summary


@pytest.mark.parametrize("text", NASTY)
def test_adb_arguments_arrive_on_the_phone_exactly(programs: Programs, text: str) -> None:
    with phone_with(Adb("emulator-5554")) as phone:
        assert "draft" in do(phone, "send_text", text).summary
        do(phone, "send_email", text)
        do(phone, "search", text)
        phone.photo = b"jpeg"
        do(phone, "send_text", text)
        (first, second) = phone.dump()["texts"]
    assert first["draft"] and second["draft"]
    runs = programs.runs()
    assert all(run[1:3] == ["-s", "emulator-5554"] for run in runs if run[0] == "adb")
    text_run, email_run, search_run, send_run = (run for run in runs if run[0] == "am")
    sendto = ["am", "start", "-a", "android.intent.action.SENDTO", "-d"]
    assert text_run == [*sendto, "smsto:+12025550143", "--es", "sms_body", text]
    assert email_run[:5] == sendto and len(email_run) == 6
    mail = urlsplit(email_run[5])
    assert (mail.scheme, mail.path) == ("mailto", "mom@example.com")
    assert unquote(mail.query.removeprefix("body=")) == text and "+" not in mail.query
    assert search_run[:5] == ["am", "start", "-a", "android.intent.action.VIEW", "-d"] and len(search_run) == 6
    assert parse_qs(urlsplit(search_run[5]).query) == {"q": [text]}
    extra = "android.intent.extra."
    send = "am start -a android.intent.action.SEND -t image/jpeg --es address".split()
    stream = ["--eu", extra + "STREAM", f"file://{second['file']}", "--grant-read-uri-permission"]
    assert send_run == [*send, "+1 202 555 0143", "--es", extra + "TEXT", text, *stream]
    (push,) = (run for run in runs if "push" in run)
    assert push[3] == "push" and push[5] == second["file"] and not Path(push[4]).exists()


def test_undoing_a_draft_removes_the_photo_from_the_phone(programs: Programs) -> None:
    with phone_with(Adb()) as phone:
        phone.photo = b"jpeg"
        do(phone, "send_email", "hi")
        place = phone.dump()["emails"][0]["file"]
        assert undo(REGISTRY, phone).status == "undone"
    assert programs.runs()[-1] == ["rm", "-f", place]


@pytest.mark.parametrize("text", NASTY)
def test_termux_arguments_are_exact(programs: Programs, text: str) -> None:
    with phone_with(Termux()) as phone:
        assert do(phone, "send_text", text).data.get("draft") is None
        assert do(phone, "send_email", text).data["draft"]
        do(phone, "order", text)
        phone.photo = b"jpeg"
        shared = do(phone, "send_text", text).data["file"]
        assert Path(shared).read_bytes() == b"jpeg"
        assert undo(REGISTRY, phone).status == "undone" and not Path(shared).exists()
    sms, email, order, share = programs.runs()
    assert sms == ["termux-sms-send", "-n", "+12025550143", "--", text]
    assert email[0] == "termux-open-url" and unquote(urlsplit(email[1]).query) == f"body={text}"
    assert order[0] == "termux-open-url" and text.strip("\n") in unquote(order[1])
    assert share[:6] == ["termux-share", "-a", "send", "-c", "image/jpeg", "-t"] and share[7:] == [shared]


def test_who_has_no_address_of_the_kind_gets_nothing(programs: Programs) -> None:
    for outlet in (Adb(), Termux()):
        with phone_with(outlet) as phone:
            for name, to in (("send_text", "zoe@example.com"), ("send_email", "95588"), ("send_text", "Nobody")):
                assert REGISTRY.execute(call(name, to=to), phone).status == "failed"
    assert programs.runs() == []


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("verb", ["search", "order", "add_to_basket"])
def test_links_hold_every_word_and_nothing_but_a_link(verb: Verb, text: str) -> None:
    name = {"search": "query", "order": "dish", "add_to_basket": "item"}[verb]
    arguments = {name: text, **({"topic": "google"} if verb == "search" else {})}
    for shop in ("amazon", "doordash", "elsewhere") if verb == "order" else ("",):
        link = link_of(Deed(verb, {**arguments, **({"shop": shop} if shop else {})}, "key"))
        parts = urlsplit(link)
        assert parts.scheme == "https" and parts.netloc.startswith("www.") and parts.fragment == ""
        assert link.isascii() and link.isprintable() and " " not in link and "'" not in link
        assert text.strip() in unquote(link.replace("+", " "))


def test_looking_up_is_in_the_language_of_the_request() -> None:
    deed = Deed("search", {"topic": "recycling", "item": "电池", "material": "other"}, "key", language="zh")
    assert "垃圾分类" in unquote(link_of(deed))
    assert "recycle" in link_of(Deed("search", {"topic": "recycling", "item": "jar", "material": "glass"}, "key"))


def test_without_a_display_the_link_is_told(programs: Programs) -> None:
    with phone_with(Browser()) as phone:
        outcome = do(phone, "order", "pad thai")
        phone.language = "zh"
        chinese = do(phone, "add_to_basket", "牛奶")
    assert outcome.data["opened"] is False
    assert outcome.summary == "Nothing is bought yet. Go on at: https://www.doordash.com/search/store/pad%20thai/"
    assert chinese.summary.startswith("还没有购买，请打开：https://www.instacart.com/store/s?k=%E7%89%9B")


def test_with_a_display_the_browser_gets_exactly_the_link(programs: Programs) -> None:
    programs.add("firefox-of-the-test")
    code = (
        "from octopus.functions.devices.browser import Browser; from octopus.device import Deed; "
        "print(Browser().do(Deed('search', {'topic': 'google', 'query': 'a; b & c'}, 'k'))['opened'])"
    )
    environment = {**os.environ, "DISPLAY": ":0", "BROWSER": "firefox-of-the-test", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "True\n"
    assert programs.runs() == [["firefox-of-the-test", "https://www.google.com/search?q=a%3B+b+%26+c"]]


def test_recipients_with_a_name_that_is_only_a_name_reach_nobody() -> None:
    deed = Deed("send_email", {"to": "Zoe"}, "key", Recipient("Zoe"))
    with pytest.raises(Exception, match="Zoe"):
        Smtp("localhost", Contact("Me", "me@example.com"), security="none").do(deed)
