"""The simulated phone: who is meant, what is kept, and that it survives bad files, crashes and company."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from octopus.core import Channel
from octopus.device import Contact, Device
from octopus.errors import DeviceError
from octopus.functions.devices.memory import MemoryPhone


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "phone.sqlite"


def test_it_is_a_device() -> None:
    with MemoryPhone(":memory:") as phone:
        device: Device = phone
        assert device.photo is None


@pytest.mark.parametrize(
    ("given", "channel", "name", "address"),
    [
        ("mom", "number", "Mom", "+1 202 555 0143"),
        ("MUM ", "email", "Mom", "mom@example.com"),
        ("my mother", "email", "Mom", "mom@example.com"),
        ("妈妈", "number", "Mom", "+1 202 555 0143"),
        ("老我妈", "number", None, None),
        ("我妈", "number", "Mom", "+1 202 555 0143"),
        ("我的老板", "email", "Boss", "boss@work.example"),
        ("陈思远", "email", "陈思远", "chen.siyuan@example.org"),
        ("chen  siyuan", "email", "陈思远", "chen.siyuan@example.org"),
        ("Ana@Example.org", "email", "Ana", "ana@example.org"),
        ("+1 (202) 555-0147", "number", "Ana", "+1 202 555 0147"),
        ("zoe@example.com", "email", None, "zoe@example.com"),
        ("13800138000", "number", None, "13800138000"),
        ("９５５８８", "number", None, "95588"),
        ("Unit 4", "number", None, None),
        ("4S店", "number", None, None),
        ("Zoe", "email", None, None),
        ("bo\u017fs@wor\u212a.example", "email", "Boss", "boss@work.example"),
        ("me", "email", "Me", "me@example.com"),
        ("Myself", "number", "Me", "+1 202 555 0100"),
        ("我", "number", "Me", "+1 202 555 0100"),
        ("我自己", "email", "Me", "me@example.com"),
        ("ME@example.com", "email", "Me", "me@example.com"),
    ],
)
def test_resolve(given: str, channel: str, name: str | None, address: str | None) -> None:
    with MemoryPhone(":memory:") as phone:
        recipient = phone.resolve(given, cast("Channel", channel))
    assert recipient.given == given
    assert (recipient.contact.name if recipient.contact else None) == name
    assert recipient.address == address


def test_contacts_can_be_added(path: Path) -> None:
    with MemoryPhone(path) as phone:
        phone.add_contact(Contact("Zoë", number="+1 202 555 0160", also=("Zoe",)))
    with MemoryPhone(path) as phone:
        assert str(phone.resolve("zoe", "number")) == "Zoë (+1 202 555 0160)"
        assert str(phone.resolve("zoe", "email")) == "Zoë (no address)"


def test_an_unknown_recipient_is_recorded_as_given() -> None:
    with MemoryPhone(":memory:") as phone:
        phone.send_text("Zoe", "hi")
        entry = phone.dump()["texts"][0]
    assert (entry["to"], entry["contact"], entry["address"]) == ("Zoe", None, None)


def test_dump_keeps_order_and_is_json() -> None:
    with MemoryPhone(":memory:") as phone:
        phone.send_text("妈妈", "一")
        phone.send_text("mom", "two")
        shown = json.loads(json.dumps(phone.dump()))
    assert list(shown) == ["texts", "emails", "basket", "orders", "board", "searches", "unfinished"]
    assert [e["message"] for e in shown["texts"]] == ["一", "two"]
    assert shown["texts"][0]["contact"] == {"name": "Mom", "email": "mom@example.com", "number": "+1 202 555 0143"}
    assert datetime.fromisoformat(shown["texts"][0]["time"]).tzinfo is not None


def test_an_email_is_a_real_message_with_the_photo() -> None:
    photo = b"\xff\xd8\xff" + bytes(range(256))
    with MemoryPhone(":memory:") as phone:
        phone.photo = photo
        phone.send_email("妈妈", "假期 photos\r\nBcc: x@example.com", "看！\nLook.")
        message = phone.emails()[0]
        entry = phone.dump()["emails"][0]
    assert message["To"] == "Mom <mom@example.com>"
    assert message["Subject"] == "假期 photos Bcc: x@example.com"
    assert message["Bcc"] is None
    assert message["Message-ID"] == entry["message_id"]
    assert message["Date"]
    assert not message.defects
    body = message.get_body()
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == "看！\nLook.\n"
    (attachment,) = message.iter_attachments()
    assert (attachment.get_content_type(), attachment.get_filename()) == ("image/jpeg", "photo.jpg")
    assert attachment.get_payload(decode=True) == photo


@pytest.mark.parametrize(
    ("to", "header"),
    [
        ("zoe@example.com", "zoe@example.com"),
        ("Zoe", "Zoe:;"),
        ("王阿姨", "王阿姨:;"),
        ("a\nBcc: b@example.com", '"a Bcc: b@example.com":;'),
        (".a..b@example.com", '".a..b@example.com":;'),
        ("用户@例子.com", '"用户@例子.com":;'),
        ("a[b@example.com", None),
        ("🙂", "🙂:;"),
    ],
)
def test_any_recipient_makes_a_valid_email(to: str, header: str | None) -> None:
    with MemoryPhone(":memory:") as phone:
        phone.send_email(to, "", "")
        message = phone.emails()[0]
    assert set(message.keys()) >= {"From", "To", "Subject", "Date", "Message-ID"}
    assert not message.defects
    assert "Bcc" not in message
    if header is not None:
        assert str(message["To"]) == header


def test_it_keeps_everything_in_one_file(path: Path) -> None:
    with MemoryPhone(path) as phone:
        phone.add_to_basket("milk", 2)
    with MemoryPhone(path) as phone:
        assert phone.dump()["basket"][0]["item"] == "milk"
    assert [p.name for p in path.parent.iterdir()] == ["phone.sqlite"]
    assert path.stat().st_mode & 0o077 == 0  # messages and photos are nobody else's to read


def test_the_environment_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTOPUS_PHONE", str(path))
    with MemoryPhone() as phone:
        assert phone.path == str(path)
    assert path.exists()


def test_a_call_cut_off_stays_unfinished_without_half_deeds(path: Path) -> None:
    phone = MemoryPhone(path)

    def cut_off() -> None:
        with phone.underway("send_text", {"to": "mom"}):
            phone.send_text("mom", "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    phone.close()
    with MemoryPhone(path) as again:
        shown = again.dump()
    assert shown["texts"] == []
    assert [(e["function"], e["arguments"], e["reason"]) for e in shown["unfinished"]] == [
        ("send_text", {"to": "mom"}, "interrupted")
    ]


def test_a_finished_call_leaves_nothing_unfinished() -> None:
    with MemoryPhone(":memory:") as phone:
        with phone.underway("f", {}):
            phone.send_text("mom", "a")
            phone.publish("umbrella", "")
            assert len(phone.dump()["unfinished"]) == 1
        shown = phone.dump()
    assert (len(shown["texts"]), len(shown["board"]), shown["unfinished"]) == (1, 1, [])


def test_threads_share_a_phone_but_not_the_photo() -> None:
    with MemoryPhone(":memory:") as phone:

        def send(n: int) -> None:
            phone.photo = str(n).encode()
            for _ in range(5):
                with phone.underway("send_text", {}):
                    phone.send_text("mom", str(n))

        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        texts = phone.dump()["texts"]
        assert phone.photo is None
        assert len(texts) == 40
        assert all(phone.photo_of(e["id"]) == e["message"].encode() for e in texts)


def test_two_phones_on_one_file(path: Path) -> None:
    with MemoryPhone(path) as one, MemoryPhone(path) as two:
        with one.underway("f", {}):
            one.send_text("mom", "1")
            two.send_text("mom", "2")
        assert sorted(e["message"] for e in two.dump()["texts"]) == ["1", "2"]


def test_files_that_are_not_phones_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database " * 100)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    for bad in (text, other, tmp_path):
        with pytest.raises(DeviceError) as caught:
            MemoryPhone(bad)
        assert "OCTOPUS_PHONE" in caught.value.hint
    assert other.read_bytes() == before
    assert text.read_text().startswith("not a database")
