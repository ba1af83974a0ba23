"""The eleven functions of the catalogue: their exact signatures, and what each does to the phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from octopus.core import Call, Effect, Outcome, language_of
from octopus.functions.devices.memory import LISTS, MemoryPhone
from octopus.registry import Registry

REGISTRY = Registry.default()

SIGNATURES = [
    "send_email(to: string, subject: string = '', body: string = '')",
    "send_text(to: string, message: string = '')",
    "google_search(query: string)",
    "amazon_purchase(item: string, quantity: integer = 1)",
    "smart_recycling(item: string, "
    "material: plastic|paper|cardboard|glass|metal|organic|textile|wood|electronic|other)",
    "lost_and_found(item: string, location: string = '')",
    "interior_design(room: bedroom|kitchen|bathroom|living room|dining room|office|exterior|other, style: string = '')",
    "instacart_shopping(item: string, quantity: integer = 1)",
    "doordash_order(dish: string, quantity: integer = 1)",
    "pet_care(animal: string, concern: string = '')",
    "irrelevant_function()",
]

DEEDS: list[tuple[str, dict[str, Any], str | None]] = [
    ("send_email", {"to": "Ana", "subject": "Hi", "body": "there"}, "emails"),
    ("send_text", {"to": "mom", "message": "I'm late"}, "texts"),
    ("google_search", {"query": "折耳根 & co"}, "searches"),
    ("amazon_purchase", {"item": "egg cooker", "quantity": 2}, "orders"),
    ("smart_recycling", {"item": "jar", "material": "glass"}, "searches"),
    ("lost_and_found", {"item": "black umbrella", "location": "bus 12"}, "board"),
    ("interior_design", {"room": "living room", "style": "mid-century"}, "searches"),
    ("instacart_shopping", {"item": "oat milk", "quantity": 3}, "basket"),
    ("doordash_order", {"dish": "pad thai", "quantity": 1}, "orders"),
    ("pet_care", {"animal": "cat", "concern": "limping"}, "searches"),
    ("irrelevant_function", {}, None),
]


@pytest.fixture
def phone() -> Iterator[MemoryPhone]:
    with MemoryPhone(":memory:") as phone:
        yield phone


def execute(phone: MemoryPhone, name: str, **arguments: Any) -> Outcome:
    return REGISTRY.execute(Call(name, arguments, "<nexa_0>", 1.0), phone)


def test_the_catalogue_is_exactly_the_designed_one() -> None:
    assert [f.signature for f in REGISTRY.values()] == SIGNATURES


def test_effects() -> None:
    assert {name: f.effect for name, f in REGISTRY.items()} == {
        "send_email": Effect.SEND,
        "send_text": Effect.SEND,
        "google_search": Effect.READ,
        "amazon_purchase": Effect.SPEND,
        "smart_recycling": Effect.READ,
        "lost_and_found": Effect.PUBLISH,
        "interior_design": Effect.READ,
        "instacart_shopping": Effect.WRITE,
        "doordash_order": Effect.SPEND,
        "pet_care": Effect.READ,
        "irrelevant_function": Effect.NONE,
    }


def test_every_required_argument_has_a_question_in_both_languages() -> None:
    for f in REGISTRY.values():
        for p in f.parameters:
            if p.required:
                assert f.ask(p.name, "please").endswith(("?", ".")), f.name
                assert f.ask(p.name, "请").endswith(("？", "。")), f.name


@pytest.mark.parametrize(("name", "arguments", "place"), DEEDS)
def test_each_function_records_its_arguments_in_one_place(
    phone: MemoryPhone, name: str, arguments: dict[str, Any], place: str | None
) -> None:
    outcome = execute(phone, name, **arguments)
    shown = phone.dump()
    assert outcome.status == "done"
    assert "\n" not in outcome.summary
    assert {key: len(entries) for key, entries in shown.items()} == {
        key: int(key == place) for key in (*LISTS, "unfinished")
    }
    if place:
        assert arguments.items() <= shown[place][0].items()
        assert arguments.items() <= outcome.data.items()
        assert shown[place][0]["time"]


def test_shops_and_topics_are_told_apart(phone: MemoryPhone) -> None:
    for name, arguments, _ in DEEDS:
        execute(phone, name, **arguments)
    shown = phone.dump()
    assert [e["shop"] for e in shown["orders"]] == ["amazon", "doordash"]
    assert [e["topic"] for e in shown["searches"]] == ["google", "recycling", "interior design", "pet care"]


@pytest.mark.parametrize("name", ["send_email", "send_text", "lost_and_found"])
def test_the_photo_goes_along(phone: MemoryPhone, name: str) -> None:
    arguments = {"item": "umbrella"} if name == "lost_and_found" else {"to": "mom"}
    phone.photo = b"\xff\xd8jpeg"
    assert execute(phone, name, **arguments).data["photo"] is True
    phone.photo = None
    assert execute(phone, name, **arguments).data["photo"] is False
    place = {"send_email": "emails", "send_text": "texts", "lost_and_found": "board"}[name]
    first, second = phone.dump()[place]
    assert phone.photo_of(first["id"]) == b"\xff\xd8jpeg"
    assert phone.photo_of(second["id"]) is None


def test_summaries_say_who_is_reached(phone: MemoryPhone) -> None:
    assert execute(phone, "send_text", to="妈妈", message=" 到了\n").summary == "Text to Mom (+1 202 555 0143): 到了"
    assert execute(phone, "send_text", to="95588").summary == "Text to 95588"
    assert execute(phone, "send_text", to="Zoe").summary == "Text to Zoe, who is not in the contacts"
    assert execute(phone, "send_email", to="boss", body="hi").summary == "E-mail to Boss (boss@work.example): hi"


def test_google_search_gives_an_address(phone: MemoryPhone) -> None:
    outcome = execute(phone, "google_search", query="a&b c")
    assert outcome.data["url"] == "https://www.google.com/search?q=a%26b+c"


def test_every_material_and_room_has_advice_in_the_language_of_the_request(phone: MemoryPhone) -> None:
    material, room = REGISTRY["smart_recycling"].parameters[1], REGISTRY["interior_design"].parameters[0]
    english = [execute(phone, "smart_recycling", item="东西", material=m).data["advice"] for m in material.choices]
    phone.language = "zh"
    chinese = [execute(phone, "smart_recycling", item="thing", material=m).data["advice"] for m in material.choices]
    rooms = [execute(phone, "interior_design", room=r, style="北欧{风}").data["advice"] for r in room.choices]
    assert len(set(english)) == len(set(chinese)) == len(material.choices)
    assert all(text.isascii() for text in english)
    assert not any(text.isascii() for text in chinese)
    assert all(text.startswith("先从北欧{风}的单品看起；") for text in rooms)
    assert "兽医" in execute(phone, "pet_care", animal="猫").data["advice"]
    assert execute(phone, "interior_design", room="kitchen").summary.startswith("厨房：")


@pytest.mark.parametrize(("name", "arguments", "place"), DEEDS)
def test_a_chinese_request_is_reported_back_in_chinese(
    phone: MemoryPhone, name: str, arguments: dict[str, Any], place: str | None
) -> None:
    arguments = {key: value for key, value in arguments.items() if key != "query"}  # no argument holds Chinese
    arguments |= {"query": "x"} if name == "google_search" else {}
    assert language_of(execute(phone, name, **arguments).summary) == "en"
    phone.language = "zh"
    assert language_of(execute(phone, name, **arguments).summary) == "zh"


def test_summaries_in_chinese_say_who_is_reached(phone: MemoryPhone) -> None:
    phone.language = "zh"
    assert execute(phone, "send_text", to="妈妈", message="到了").summary == "短信发给Mom（+1 202 555 0143）：到了"
    assert execute(phone, "send_text", to="Zoe").summary == "短信发给Zoe（不在通讯录里）"
    phone.photo = b"jpeg"
    assert execute(phone, "send_email", to="95588").summary == "邮件发给95588，附照片"
