"""smtp against a real local server that receives and parses what was sent: TLS, login, photo, names in any script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from octopus import MemoryPhone, Registry, UsageError
from octopus.core import Outcome
from octopus.device import Contact
from octopus.execution import resume, undo
from octopus.functions.devices.smtp import Smtp
from scripted_model import call
from world import NASTY, Mailbox, mail_server

pytest.importorskip("aiosmtpd")
REGISTRY = Registry.default()
SENDER = Contact("Zoë Ünal 王", "zoe@example.com")
PASSWORD = "pässword that nobody sees"


@contextmanager
def phone_of(mailbox: Mailbox, server: dict[str, Any] | None = None, **options: Any) -> Iterator[MemoryPhone]:
    with mail_server(mailbox, **(server or {})) as (host, port):
        outlet = Smtp(options.pop("host", host), SENDER, port=port, **{"security": "none", **options})
        with MemoryPhone(":memory:", {"send_email": outlet}) as phone:
            phone.add_contact(Contact('李梅 (Mei), "M"', "mei@example.org", "", ("小梅",)))
            yield phone


def email(phone: MemoryPhone, to: str = "小梅", subject: str = "Hi", body: str = "there") -> Outcome:
    return REGISTRY.execute(call("send_email", to=to, subject=subject, body=body), phone)


def certificates(folder: Path) -> tuple[Any, str]:
    """A server's TLS, and the file with which a client trusts it."""
    import ssl

    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return context, str(folder / "ca.pem")


def test_the_mail_that_arrives_is_the_one_that_was_meant() -> None:
    mailbox = Mailbox()
    photo = b"\xff\xd8\xff" + bytes(range(256)) * 50
    with phone_of(mailbox) as phone:
        for text in NASTY:
            phone.photo = photo
            outcome = email(phone, subject=text, body=f"{text}\n.\nQUIT")
            assert outcome.status == "done", outcome.summary
        entries = phone.dump()["emails"]
    assert len(mailbox.messages) == len(NASTY)
    for text, entry, message, envelope in zip(NASTY, entries, mailbox.messages, mailbox.envelopes, strict=True):
        assert (envelope.mail_from, envelope.rcpt_tos) == ("zoe@example.com", ["mei@example.org"])
        assert message["From"].addresses[0].display_name == SENDER.name
        assert message["To"].addresses[0].display_name == '李梅 (Mei), "M"'
        assert message["Subject"] == " ".join(text.split())
        assert message["Message-ID"] == entry["message_id"] and not message.defects
        body = message.get_body()
        assert body is not None and body.get_content().replace("\r\n", "\n") == f"{text}\n.\nQUIT\n"
        (attachment,) = message.iter_attachments()
        assert attachment.get_filename() == "photo.jpg" and attachment.get_payload(decode=True) == photo


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd does not see TLS that is there from the first byte
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_encrypted_and_logged_in(security: str, tmp_path: Path) -> None:
    context, ca = certificates(tmp_path)
    logins: list[tuple[bytes, bytes]] = []

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        logins.append((data.login, data.password))
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    server = {"authenticator": check, "auth_required": True}
    server |= {"ssl_context": context} if security == "tls" else {"tls_context": context, "require_starttls": True}
    server |= {"auth_require_tls": security == "starttls"}
    mailbox = Mailbox()
    options = {"security": security, "ca": ca, "host": "localhost", "user": "zoe"}
    with phone_of(mailbox, server, **options, password=lambda: PASSWORD) as phone:
        outcome = email(phone)
        assert outcome.status == "done", outcome.summary
    assert mailbox.encrypted == [True] and logins == [(b"zoe", PASSWORD.encode())]
    with phone_of(mailbox, server, **options, password=lambda: "wrong") as phone:
        outcome = email(phone)
        assert outcome.status == "failed" and "refuses the login of zoe" in outcome.summary
        assert "wrong" not in outcome.summary
    tried = len(logins)
    with phone_of(mailbox, server, **{**options, "ca": ""}, password=lambda: PASSWORD) as phone:
        assert "certificate verify failed" in email(phone).summary
    assert len(mailbox.messages) == 1 and len(logins) == tried  # no password to a server that nobody vouches for


def test_a_server_without_encryption_gets_neither_password_nor_mail(tmp_path: Path) -> None:
    mailbox = Mailbox()
    asked: list[str] = []
    options = {"security": "starttls", "user": "zoe", "password": lambda: asked.append("x") or "x"}
    with phone_of(mailbox, **options) as phone:
        outcome = email(phone)
        assert outcome.status == "failed" and "STARTTLS" in outcome.summary
    assert mailbox.messages == [] and asked == []


def test_a_refusal_is_certain_and_can_be_tried_again() -> None:
    mailbox = Mailbox(refuse="554 5.7.1 looks like spam")
    with phone_of(mailbox) as phone:
        outcome = email(phone)
        assert outcome.status == "failed" and "554 5.7.1 looks like spam" in outcome.summary
        (line,) = phone.dump()["unfinished"]
        assert "may have done it" not in line["reason"]
        mailbox.refuse = ""
        assert [outcome.status for outcome in resume(REGISTRY, phone)] == ["done"]
    assert len(mailbox.messages) == 1


def test_a_connection_that_breaks_at_the_end_leaves_a_doubt_and_nothing_is_sent_twice() -> None:
    mailbox = Mailbox(hook=lambda server: server.transport.abort())
    with phone_of(mailbox) as phone:
        assert email(phone).status == "failed"
        (line,) = phone.dump()["unfinished"]
        assert line["reason"].endswith("smtp may have done it")
        (left,) = resume(REGISTRY, phone)
        assert left.status == "declined" and "resume --again" in left.summary
        mailbox.hook = lambda server: None
        assert len(mailbox.messages) == 1  # the server had it all along
        first = mailbox.messages[0]["Message-ID"]
        assert [outcome.status for outcome in resume(REGISTRY, phone, again=True)] == ["done"]
    assert mailbox.messages[1]["Message-ID"] == first  # so that the mail program can drop the second one


def test_what_was_sent_cannot_be_undone() -> None:
    with phone_of(Mailbox()) as phone:
        email(phone)
        with pytest.raises(Exception, match="cannot be taken back"):
            undo(REGISTRY, phone)


@pytest.mark.parametrize("to", ["95588", "Nobody", "a\r\nBcc: evil@example.com"])
def test_who_has_no_address_gets_no_mail(to: str) -> None:
    mailbox = Mailbox()
    with phone_of(mailbox) as phone:
        assert email(phone, to=to).status == "failed"
    assert mailbox.messages == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": ""}, "host"),
        ({"security": "ssl"}, "security"),
        ({"security": "none"}, "encryption"),
        ({"sender": Contact("Me", "nobody")}, "from"),
        ({"sender": Contact("Me", "")}, "from"),
    ],
)
def test_settings_that_cannot_work(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Smtp(**{"host": "mail.example.org", "sender": SENDER, **change})
