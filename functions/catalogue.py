"""The eleven functions of octopus: ten from the Octopus v3 report, and refusal.

In: the phone and the arguments the model chose. Out: a Receipt in the language of the request. The schema, the question
for a missing argument and the need for consent are read from each declaration; what the deed means in the world is the
device's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlencode

from octopus.core import Effect
from octopus.declaration import function
from octopus.device import Device, Receipt
from octopus.functions import advice

Material = Literal[
    "plastic", "paper", "cardboard", "glass", "metal", "organic", "textile", "wood", "electronic", "other"
]
Room = Literal["bedroom", "kitchen", "bathroom", "living room", "dining room", "office", "exterior", "other"]


@function(
    effect=Effect.SEND,
    question="Who should get the e-mail?",
    question_zh="这封邮件发给谁？",
    reaches={"to": "email"},
)
def send_email(phone: Device, to: str, subject: str = "", body: str = "") -> Receipt:
    """Send an e-mail to a person, with the photo attached if there is one.

    Args:
        to: The person or e-mail address, as the user said it.
        subject: The subject line, if the user gave one.
        body: What the e-mail should say, in the user's words.
    """
    entry = phone.send_email(to, subject, body)
    return Receipt(_sent(phone, ("E-mail", "邮件"), entry, subject or body), entry)


@function(
    effect=Effect.SEND,
    question="Who should get the message?",
    question_zh="这条短信发给谁？",
    reaches={"to": "number"},
)
def send_text(phone: Device, to: str, message: str = "") -> Receipt:
    """Send a text message to a person, with the photo if there is one.

    Args:
        to: The person or telephone number, as the user said it.
        message: What the message should say, in the user's words.
    """
    entry = phone.send_text(to, message)
    return Receipt(_sent(phone, ("Text", "短信"), entry, message), entry)


@function(effect=Effect.READ, question="What should I search for?", question_zh="要搜索什么？")
def google_search(phone: Device, query: str) -> Receipt:
    """Search the web with Google.

    Args:
        query: What to search for.
    """
    entry = phone.search("google", {"query": query})
    address = "https://www.google.com/search?" + urlencode({"q": query})
    said = _either(phone, f"Searched Google for {query}: {address}", f"已用 Google 搜索 {query}：{address}")
    return Receipt(said, {**entry, "url": address})


@function(effect=Effect.SPEND, question="What should I buy?", question_zh="要买什么？")
def amazon_purchase(phone: Device, item: str, quantity: int = 1) -> Receipt:
    """Buy a product on Amazon.

    Args:
        item: The product, with its colour and kind.
        quantity: How many.
    """
    entry = phone.order("amazon", {"item": item, "quantity": quantity})
    english, chinese = f"Ordered {quantity} × {item} on Amazon", f"已在 Amazon 下单：{item} × {quantity}"
    return Receipt(_to_finish(phone, entry) or _either(phone, english, chinese), entry)


@function(
    effect=Effect.READ,
    question="Which {name} is it? A photo helps.",
    question_zh="是什么东西、什么材质的？拍张照片也行。",
)
def smart_recycling(phone: Device, item: str, material: Material) -> Receipt:
    """Say how to recycle or throw away a thing.

    Args:
        item: The thing to get rid of.
        material: What it is mostly made of.
    """
    entry = phone.search("recycling", {"item": item, "material": material})
    return _advised(phone, item, advice.recycling(material, phone.language), entry)


@function(effect=Effect.PUBLISH, question="What was lost or found?", question_zh="丢了或捡到了什么？")
def lost_and_found(phone: Device, item: str, location: str = "") -> Receipt:
    """Post a lost or found thing on the lost-and-found board, with the photo if there is one.

    Args:
        item: The thing that was lost or found.
        location: Where it was lost or found.
    """
    entry = phone.publish(item, location)
    said = _either(phone, f"Posted on the lost-and-found board: {item}", f"已发布到失物招领板：{item}")
    return Receipt(said + (_either(phone, ", ", "，") + location if location else ""), entry)


@function(effect=Effect.READ, question="Which room is it?", question_zh="是哪个房间？")
def interior_design(phone: Device, room: Room, style: str = "") -> Receipt:
    """Give ideas for designing or redecorating a room.

    Args:
        room: The kind of room.
        style: The style the user wants.
    """
    entry = phone.search("interior design", {"room": room, "style": style})
    subject = f"{style} {advice.room_name(room, phone.language)}".strip()
    return _advised(phone, subject, advice.interior(room, style, phone.language), entry)


@function(effect=Effect.WRITE, question="What should go into the basket?", question_zh="要往购物车里加什么？")
def instacart_shopping(phone: Device, item: str, quantity: int = 1) -> Receipt:
    """Put groceries into the Instacart basket.

    Args:
        item: The grocery item, with its kind.
        quantity: How many.
    """
    entry = phone.add_to_basket(item, quantity)
    english, chinese = (
        f"Put {quantity} × {item} into the Instacart basket",
        f"已放入 Instacart 购物车：{item} × {quantity}",
    )
    return Receipt(_to_finish(phone, entry) or _either(phone, english, chinese), entry)


@function(effect=Effect.SPEND, question="Which dish should I order?", question_zh="要点什么菜？")
def doordash_order(phone: Device, dish: str, quantity: int = 1) -> Receipt:
    """Order a prepared dish for delivery with DoorDash.

    Args:
        dish: The dish to be delivered.
        quantity: How many portions.
    """
    entry = phone.order("doordash", {"dish": dish, "quantity": quantity})
    english, chinese = f"Ordered {quantity} × {dish} on DoorDash", f"已在 DoorDash 下单：{dish} × {quantity}"
    return Receipt(_to_finish(phone, entry) or _either(phone, english, chinese), entry)


@function(effect=Effect.READ, question="Which animal is it?", question_zh="是什么动物？")
def pet_care(phone: Device, animal: str, concern: str = "") -> Receipt:
    """Give advice on caring for a pet.

    Args:
        animal: The kind of animal.
        concern: What worries the user, or what they want to know.
    """
    entry = phone.search("pet care", {"animal": animal, "concern": concern})
    subject = animal + (_either(phone, ", ", "，") + concern if concern else "")
    return _advised(phone, subject, advice.pet(concern, phone.language), entry)


@function(effect=Effect.NONE)
def irrelevant_function(phone: Device) -> Receipt:
    """Nothing: no other function fits the request."""
    return Receipt(_either(phone, "No function fits; nothing was done", "没有合适的功能，什么也没有做"))


def _sent(phone: Device, kind: tuple[str, str], entry: Mapping[str, Any], words: str) -> str:
    contact, address = entry.get("contact"), entry.get("address")
    if contact and address:
        whom = _either(phone, f"{contact['name']} ({address})", f"{contact['name']}（{address}）")
    elif contact:
        whom = contact["name"] + _either(phone, ", who has no address for this", "（没有可用的地址）")
    else:
        whom = address or entry["to"] + _either(phone, ", who is not in the contacts", "（不在通讯录里）")
    if entry.get("draft"):
        said = _either(
            phone, f"{kind[0]} to {whom} is a draft; send it yourself", f"给{whom}的{kind[1]}已存为草稿，请自行发送"
        )
    else:
        said = _either(phone, f"{kind[0]} to {whom}", f"{kind[1]}发给{whom}")
    if entry.get("photo"):
        said += _either(phone, ", with the photo", "，附照片")
    return said + (_either(phone, ": ", "：") + words if words else "")


def _advised(phone: Device, subject: str, text: str, entry: Mapping[str, Any]) -> Receipt:
    if entry.get("link"):
        text += f" {entry['link']}"
    return Receipt(subject + _either(phone, ": ", "：") + text, {**entry, "advice": text})


def _to_finish(phone: Device, entry: Mapping[str, Any]) -> str:
    """For a device that only leads to the shop: what is left to do; nothing where the shop has got it."""
    if not entry.get("draft"):
        return ""
    if entry.get("opened"):
        return _either(phone, "Opened; choose and pay there: ", "已打开，请在那里选择并付款：") + str(entry.get("link"))
    return _either(phone, "Nothing is bought yet. Go on at: ", "还没有购买，请打开：") + str(entry.get("link"))


def _either(phone: Device, english: str, chinese: str) -> str:
    """The one of two texts that is in the language of the request."""
    return chinese if phone.language == "zh" else english
