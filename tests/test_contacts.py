"""Contacts: who is meant, in both languages; vCards in and out; several matches ask, none asks."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import Command, refused_in_one_line
from octopus import Agent, MemoryPhone, UsageError
from octopus.device import Contact
from octopus.functions.devices.contacts import SAMPLES, resolve
from octopus.functions.devices.vcard import read_vcards, write_vcards
from scripted_model import call, scripted_backend

MEI = Contact("李梅", "mei@example.org", "+86 138 0013 8000", ("小梅",), "mother")
PEOPLE = (
    MEI,
    Contact("Alex Kim", "alex.kim@example.org", "+1 202 555 0148"),
    Contact("Alex Wu", "alex.wu@example.org", "", ("Lexi",)),
    Contact("王经理", "wang@example.org", "+1 202 555 0151"),
    Contact("外婆", "", "+1 202 555 0160"),
    Contact("Nai Nai", "", "+1 202 555 0161", (), "father's mother"),
    Contact("小明妈妈", "", "+1 202 555 0162"),
    Contact("Jake's mom", "", "+1 202 555 0163"),
    Contact("老公", "", "+1 202 555 0164", (), "", ("work@example.org", "+1 202 555 0165")),
)


@pytest.mark.parametrize("said", ["mom", "Mum", "my mother", "妈", "妈妈", "老妈", "我妈", "我的妈妈", "the mommy"])
def test_a_relation_in_any_word_of_both_languages(said: str) -> None:
    assert resolve(said, "email", PEOPLE).contact == MEI


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("小梅", "李梅"),
        ("Lexi", "Alex Wu"),
        ("alex kim", "Alex Kim"),
        ("Kim", "Alex Kim"),
        ("经理", "王经理"),
        ("奶奶", "Nai Nai"),
        ("姥姥", "外婆"),
        ("my husband", "老公"),
        ("小明妈妈", "小明妈妈"),
        ("work@example.org", "老公"),
        ("(202) 555-0165", None),
        ("+1 (202) 555-0165", "老公"),
        ("grandpa", None),
        ("Alexander", None),
        ("理", None),
    ],
)
def test_names_nicknames_parts_and_addresses(said: str, name: str | None) -> None:
    recipient = resolve(said, "number", PEOPLE)
    assert (recipient.contact.name if recipient.contact else None) == name
    assert recipient.candidates == ()


def test_the_address_that_was_said_is_the_one_that_is_used() -> None:
    assert resolve("work@example.org", "email", PEOPLE).address == "work@example.org"
    assert resolve("+12025550165", "number", PEOPLE).address == "+1 202 555 0165"
    assert resolve("老公", "number", PEOPLE).address == "+1 202 555 0164"


@pytest.mark.parametrize(("said", "names"), [("Alex", ["Alex Kim", "Alex Wu"]), ("grandma", ["外婆", "Nai Nai"])])
def test_several_who_fit_equally_well_are_all_named(said: str, names: list[str]) -> None:
    recipient = resolve(said, "number", PEOPLE)
    assert (recipient.contact, recipient.address) == (None, None)
    assert [contact.name for contact in recipient.candidates] == names


def test_an_exact_name_beats_a_nickname() -> None:
    people = (Contact("Sam Lee", also=("Sam",)), Contact("Sam", "sam@example.org"))
    assert resolve("sam", "email", people).contact == people[1]


@pytest.mark.parametrize(
    "text", ["bob@", "@example.org", "a@b", "bob@@example.org", "12", "1" * 16, "bob..b@example.org"]
)
def test_what_is_no_address_is_not_taken_for_one(text: str) -> None:
    assert resolve(text, "email", PEOPLE).address is None


def asking_agent(folder: Path, phone: MemoryPhone) -> Agent:
    script = {
        "text alex": [call("send_text", to="alex")],
        "text zoe": [call("send_text", to="zoe")],
        "给小红发短信": [call("send_text", to="小红")],
        "email nan": [call("send_email", to="外婆")],
    }
    return Agent(folder, phone=phone, backend=scripted_backend(folder, script))


def test_several_and_none_become_questions_and_the_answer_is_used(scripted_folder: Path) -> None:
    with MemoryPhone(":memory:") as phone:
        phone.address_book.merge(PEOPLE)
        agent = asking_agent(scripted_folder, phone)
        for text, question, answer, address in (
            ("text alex", "Which alex: Alex Kim or Alex Wu?", "Alex Kim", "+1 202 555 0148"),
            ("text zoe", "zoe is not in the contacts. What is the number?", "+1 202 555 0199", "+1 202 555 0199"),
            ("给小红发短信", "通讯录里没有“小红”，号码是什么？", "13800138001", "13800138001"),
        ):
            plan = agent.ask_who(agent.plan(text))
            assert plan.question == question
            assert agent.run(plan, yes=True).question == question
            assert agent.call(text, yes=True).question == question
            assert agent.run(agent.answer(plan, answer), yes=True).executed
            assert phone.dump()["texts"][-1]["address"] == address
        assert len(phone.dump()["texts"]) == 3


def test_who_has_no_such_address_is_asked_for_it(scripted_folder: Path) -> None:
    with MemoryPhone(":memory:") as phone:
        phone.add_contact(Contact("Nan Smith", "", "+1 202 555 0160", ("外婆",)))
        plan = asking_agent(scripted_folder, phone).call("email nan", yes=True)
    # the sample phone's Grandma is 外婆 too
    assert plan.question == "Which 外婆: Grandma or Nan Smith?"


def test_of_two_with_one_name_the_address_decides(scripted_folder: Path) -> None:
    with MemoryPhone(":memory:") as phone:
        for number in ("+1 202 555 0171", "+1 202 555 0172"):
            phone.add_contact(Contact("Zoe", "", number))
        agent = asking_agent(scripted_folder, phone)
        plan = agent.ask_who(agent.plan("text zoe"))
        assert plan.question == "Which zoe: Zoe (+1 202 555 0171) or Zoe (+1 202 555 0172)?"
        assert agent.run(agent.answer(plan, "+1 202 555 0172"), yes=True).executed
        assert phone.dump()["texts"][0]["address"] == "+1 202 555 0172"


def test_what_another_process_adds_is_known_at_once(tmp_path: Path) -> None:
    path = tmp_path / "phone.sqlite"
    with MemoryPhone(path) as one, MemoryPhone(path) as two:
        assert one.resolve("Zoe", "number").contact is None
        two.add_contact(Contact("Zoe", "", "+1 202 555 0171"))
        assert one.resolve("Zoe", "number").address == "+1 202 555 0171"
        one.address_book.merge([Contact("Zoe", "zoe@example.org")])
        assert one.resolve("Zoe", "email").address == two.resolve("Zoe", "email").address == "zoe@example.org"


IPHONE = b"""BEGIN:VCARD\r
VERSION:3.0\r
PRODID:-//Apple Inc.//iPhone OS 17.0//EN\r
N:Kim;Alex;;Dr.;\r
FN:Dr. Alex Kim\r
NICKNAME:Lex,Lexi\r
EMAIL;type=INTERNET;type=HOME:alex@home.example\r
item1.EMAIL;type=INTERNET;type=pref:alex@work.example\r
TEL;type=HOME;type=VOICE:+1 (202) 555-0101\r
TEL;type=CELL;type=VOICE;type=pref:+1 (202) 555-0102\r
NOTE:a long note that is folded over\r
  two lines\\, with a comma\r
END:VCARD\r
"""
OLD_ANDROID = (
    "BEGIN:VCARD\nVERSION:2.1\n"
    "N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=E9=99=88;=E6=80=9D=\n=E8=BF=9C;;;\n"
    "FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=E9=99=88=E6=80=9D=E8=BF=9C\n"
    "TEL;CELL;PREF:138-0013-8000\nEMAIL;HOME:\nEND:VCARD\n"
)
VERSION_4 = (
    'BEGIN:VCARD\nVERSION:4.0\nFN;PREF=1:Zoë Ünal\nTEL;VALUE=uri;TYPE="cell,voice":tel:+4915112345678;ext=1\n'
    'EMAIL;PREF=2:b@example.org\nEMAIL;PREF=1;LABEL="a:b;c":a@example.org\nEND:VCARD'
)


def test_cards_as_phones_write_them() -> None:
    (alex,) = read_vcards(IPHONE)
    assert alex == Contact(
        "Dr. Alex Kim",
        "alex@work.example",
        "+1 (202) 555-0102",
        ("Lex", "Lexi", "Alex Kim"),
        "",
        ("alex@home.example", "+1 (202) 555-0101"),
    )
    (chen,) = read_vcards(OLD_ANDROID.encode())
    assert chen == Contact("陈思远", "", "138-0013-8000")
    (zoe,) = read_vcards(VERSION_4.encode("utf-16"))
    assert (zoe.name, zoe.number, {zoe.email, *zoe.further}) == (
        "Zoë Ünal",
        "+4915112345678",
        {"a@example.org", "b@example.org"},
    )


def test_another_library_reads_what_is_written_and_the_other_way_round() -> None:
    vobject = pytest.importorskip("vobject")
    cards = list(vobject.readComponents(write_vcards(PEOPLE)))
    assert [card.fn.value for card in cards] == [contact.name for contact in PEOPLE]
    assert cards[0].email.value == "mei@example.org" and cards[-1].tel_list[1].value == "+1 202 555 0165"
    card = vobject.vCard()
    card.add("n").value = vobject.vcard.Name(family="O'Neil, Jr.", given="Zoë; 🙂")
    card.add("fn").value = "Zoë; 🙂 O'Neil, Jr." + " long" * 30
    card.add("email").value = "zoe@example.org"
    card.add("tel").value = "+1 202 555 0170"
    (read,) = read_vcards(card.serialize().encode())
    assert read.name == card.fn.value and read.also == ("Zoë; 🙂 O'Neil, Jr.",)
    assert (read.email, read.number) == ("zoe@example.org", "+1 202 555 0170")


TEXT = st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1).filter(lambda text: not text.isspace())


@given(TEXT, st.lists(TEXT, unique_by=str.casefold, max_size=4))
def test_what_is_written_is_read_back(name: str, also: list[str]) -> None:
    contact = Contact(
        name, "a@example.org", "+1 202 555 0170", tuple(n for n in also if n.casefold() != name.casefold())
    )
    (read,) = read_vcards(write_vcards([contact]).encode())
    assert (read.name, read.email, read.number) == (contact.name, contact.email, contact.number)
    assert set(read.also) >= {n for n in contact.also if n.casefold() not in name.casefold()}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xd8\xff\xe0 a picture",
        b"BEGIN:VCARD\nFN:Zoe\n",
        b"BEGIN:VCARD\nFN:Zoe\nBEGIN:VCARD\nEND:VCARD",
        b"BEGIN:VCARD\nnothing\nEND:VCARD",
        b"BEGIN:VCARD\nVERSION:3.0\nEND:VCARD",
    ],
)
def test_files_that_are_not_usable(content: bytes) -> None:
    with pytest.raises(UsageError):
        read_vcards(content)


def test_the_commands(octopus: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "alex.vcf"
    card.write_bytes(IPHONE)
    assert octopus("contacts", "import", card).out == "1 read: 1 new, 0 with something new\n"
    assert json.loads(octopus("contacts", "import", "--json", card).out) == {"read": 1, "new": 0, "changed": 0}
    listed = octopus("contacts").out
    assert "Dr. Alex Kim  +1 (202) 555-0102  alex@work.example" in listed and "Lexi" in listed
    people = json.loads(octopus("contacts", "--json").out)["contacts"]
    assert len(people) == len(SAMPLES) + 1
    assert octopus("contacts", "export", tmp_path / "all.vcf").code == 0
    written = (tmp_path / "all.vcf").read_bytes()
    assert len(read_vcards(written)) == len(people)
    assert octopus("contacts", "import", "-", stdin=written).out.endswith(": 0 new, 0 with something new\n")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    assert octopus("contacts", "export").code == 0
    assert raw.getvalue() == written


def test_bad_files_are_refused_in_one_line(octopus: Command, tmp_path: Path) -> None:
    bad = tmp_path / "bad.vcf"
    bad.write_bytes(b"\xff\xff\xff")
    refused_in_one_line(octopus("contacts", "import", bad), 2, "UTF-8")
    refused_in_one_line(octopus("contacts", "import", tmp_path / "none.vcf"), 2, "none.vcf")
    refused_in_one_line(octopus("contacts", "import", tmp_path), 2)
    refused_in_one_line(octopus("contacts", "export", bad), 2, "already")
    refused_in_one_line(octopus("contacts", "export", tmp_path / "no" / "folder.vcf"), 1, "folder.vcf")
    assert len(json.loads(octopus("contacts", "--json").out)["contacts"]) == len(SAMPLES)
