"""The webhook against a real server that fails, hangs, drips, drops and answers twice: signed, repeated, done once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from octopus import DeviceError, MemoryPhone, Registry, UncertainError, UsageError
from octopus.core import Outcome
from octopus.execution import resume, undo
from octopus.functions.devices import webhook
from octopus.functions.devices.webhook import Webhook, signature
from scripted_model import call
from world import NASTY, Receiver, serving

REGISTRY = Registry.default()
SECRET = "a secret that nobody sees"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook.time, "sleep", lambda seconds: None)


@contextmanager
def phone_of(receiver: Receiver, timeout: float = 60, attempts: int = 4) -> Iterator[MemoryPhone]:
    with serving(receiver) as url:
        outlet = Webhook(url, lambda: SECRET, timeout=timeout, attempts=attempts)
        with MemoryPhone(":memory:", {"*": outlet}) as phone:
            yield phone


def text_mom(phone: MemoryPhone, message: str = "hi") -> Outcome:
    return REGISTRY.execute(call("send_text", to="妈妈", message=message), phone)


def test_what_is_posted_is_complete_and_signed() -> None:
    receiver = Receiver()
    with phone_of(receiver) as phone:
        phone.photo = b"\xff\xd8jpeg"
        for text in NASTY:
            assert text_mom(phone, text).status == "done"
    assert len(receiver.requests) == len(NASTY)
    for text, (headers, body) in zip(NASTY, receiver.requests, strict=True):
        posted = json.loads(body)
        assert posted["deed"] == "send_text" and posted["key"] == headers["Idempotency-Key"]
        assert posted["arguments"] == {"to": "妈妈", "message": text}
        assert posted["recipient"] == {"name": "Mom", "address": "+1 202 555 0143"}
        assert base64.b64decode(posted["photo"]) == b"\xff\xd8jpeg"
        expected = "sha256=" + signature(SECRET, headers["X-Octopus-Timestamp"], body)
        assert headers["X-Octopus-Signature"] == expected
        assert SECRET not in str(headers) + body.decode()
        tampered = body.replace(b"Mom", b"Eve")
        assert signature(SECRET, headers["X-Octopus-Timestamp"], tampered) not in expected


@pytest.mark.parametrize("first", [500, 503, 429, 408, "drop", "hang", "drip"])
def test_a_failure_that_may_pass_is_tried_again_with_the_same_key(first: int | str) -> None:
    receiver = Receiver(first, 502)
    with phone_of(receiver, timeout=0.5 if first in ("hang", "drip") else 60, attempts=6) as phone:
        assert text_mom(phone).status == "done"
        assert len(phone.dump()["texts"]) == 1
    keys = {headers["Idempotency-Key"] for headers, _ in receiver.requests}
    assert len(receiver.requests) >= 3 and len(keys) == len(receiver.done) == 1


def test_an_answer_given_twice_counts_once() -> None:
    receiver = Receiver("twice", "twice")
    with phone_of(receiver) as phone:
        assert [text_mom(phone).status for _ in range(2)] == ["done", "done"]
        assert len(phone.dump()["texts"]) == 2
    assert len(receiver.requests) == len(receiver.done) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301, 307])
def test_a_refusal_is_final_and_no_redirect_is_followed(status: int) -> None:
    receiver = Receiver(status)
    with phone_of(receiver) as phone:
        outcome = text_mom(phone)
        assert outcome.status == "failed" and f"status {status}" in outcome.summary
        assert "secret-path" not in outcome.summary and SECRET not in outcome.summary
        assert phone.dump()["texts"] == []
    assert len(receiver.requests) == 1


def test_after_the_last_attempt_it_stays_unfinished_and_resume_repeats_the_key() -> None:
    receiver = Receiver(*["drop"] * 3)
    with phone_of(receiver, attempts=3) as phone:
        assert text_mom(phone).status == "failed"
        assert len(phone.dump()["unfinished"]) == 1
        assert [outcome.status for outcome in resume(REGISTRY, phone)] == ["done"]
        assert len(phone.dump()["texts"]) == 1
    assert len(receiver.requests) == 4 and len(receiver.done) == 1  # done at the first attempt, and never again


def test_undo_is_posted_too() -> None:
    receiver = Receiver()
    with phone_of(receiver) as phone:
        REGISTRY.execute(call("instacart_shopping", item="milk"), phone)
        assert undo(REGISTRY, phone).status == "undone"
        assert phone.dump()["basket"] == []
    first, second = (json.loads(body) for _, body in receiver.requests)
    assert (second["deed"], second["undo"], second["key"]) == ("undo", first["key"], first["key"] + "-undo")


def test_errors_tell_what_may_have_happened() -> None:
    with serving(Receiver("drop")) as url, MemoryPhone(":memory:") as phone:
        action = phone.journal.begin("f", {}, None, "en")
        deed = webhook.Deed("search", {}, action.key)
        with pytest.raises(UncertainError):
            Webhook(url, lambda: SECRET, attempts=1).do(deed)
        with pytest.raises(DeviceError, match="OCTOPUS_WEBHOOK_SECRET"):
            Webhook(url, lambda: "").do(deed)
        for attempt in range(2):
            with pytest.raises(DeviceError) as caught:
                Webhook("http://127.0.0.1:9/", lambda: SECRET, attempts=1 + attempt).do(deed)
            assert not isinstance(caught.value, UncertainError)


@pytest.mark.parametrize(
    "url", ["", "ftp://a/b", "http://", "http://user:word@host/", "http://a:port/", "file:///etc/passwd", "http://a\n/"]
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(UsageError, match=r"webhook\.url"):
        Webhook(url, lambda: SECRET)


def test_the_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(webhook.time, "sleep", pauses.append)
    with phone_of(Receiver(500, 500, 500, 500), attempts=4) as phone:
        assert text_mom(phone).status == "failed"
    assert len(pauses) == 3 and pauses[0] < pauses[1] < pauses[2] < 2
