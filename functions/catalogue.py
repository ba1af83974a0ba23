"""The eleven functions of octopus: ten from the Octopus v3 report, and refusal.

In: the phone and the arguments the model chose. Out: a Receipt. The schema, the question for a missing argument and
the need for consent are read from each declaration; what the deed means in the world is the device's business.
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
    return Receipt(_sent("E-mail", entry, subject or body), entry)


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
    return Receipt(_sent("Text", entry, message), entry)


@function(effect=Effect.READ, question="What should I search for?", question_zh="要搜索什么？")
def google_search(phone: Device, query: str) -> Receipt:
    """Search the web with Google.

    Args:
        query: What to search for.
    """
    entry = phone.search("google", {"query": query})
    address = "https://www.google.com/search?" + urlencode({"q": query})
    return Receipt(f"Searched Google for {query}: {address}", {**entry, "url": address})


@function(effect=Effect.SPEND, question="What should I buy?", question_zh="要买什么？")
def amazon_purchase(phone: Device, item: str, quantity: int = 1) -> Receipt:
    """Buy a product on Amazon.

    Args:
        item: The product, with its colour and kind.
        quantity: How many.
    """
    entry = phone.order("amazon", {"item": item, "quantity": quantity})
    return Receipt(f"Ordered {quantity} × {item} on Amazon", entry)


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
    return _advised(item, advice.recycling(item, material), entry)


@function(effect=Effect.PUBLISH, question="What was lost or found?", question_zh="丢了或捡到了什么？")
def lost_and_found(phone: Device, item: str, location: str = "") -> Receipt:
    """Post a lost or found thing on the lost-and-found board, with the photo if there is one.

    Args:
        item: The thing that was lost or found.
        location: Where it was lost or found.
    """
    entry = phone.publish(item, location)
    return Receipt(f"Posted on the lost-and-found board: {item}" + (f", {location}" if location else ""), entry)


@function(effect=Effect.READ, question="Which room is it?", question_zh="是哪个房间？")
def interior_design(phone: Device, room: Room, style: str = "") -> Receipt:
    """Give ideas for designing or redecorating a room.

    Args:
        room: The kind of room.
        style: The style the user wants.
    """
    entry = phone.search("interior design", {"room": room, "style": style})
    return _advised(f"{style} {room}".strip(), advice.interior(room, style), entry)


@function(effect=Effect.WRITE, question="What should go into the basket?", question_zh="要往购物车里加什么？")
def instacart_shopping(phone: Device, item: str, quantity: int = 1) -> Receipt:
    """Put groceries into the Instacart basket.

    Args:
        item: The grocery item, with its kind.
        quantity: How many.
    """
    entry = phone.add_to_basket(item, quantity)
    return Receipt(f"Put {quantity} × {item} into the Instacart basket", entry)


@function(effect=Effect.SPEND, question="Which dish should I order?", question_zh="要点什么菜？")
def doordash_order(phone: Device, dish: str, quantity: int = 1) -> Receipt:
    """Order a prepared dish for delivery with DoorDash.

    Args:
        dish: The dish to be delivered.
        quantity: How many portions.
    """
    entry = phone.order("doordash", {"dish": dish, "quantity": quantity})
    return Receipt(f"Ordered {quantity} × {dish} on DoorDash", entry)


@function(effect=Effect.READ, question="Which animal is it?", question_zh="是什么动物？")
def pet_care(phone: Device, animal: str, concern: str = "") -> Receipt:
    """Give advice on caring for a pet.

    Args:
        animal: The kind of animal.
        concern: What worries the user, or what they want to know.
    """
    entry = phone.search("pet care", {"animal": animal, "concern": concern})
    return _advised(animal + (f", {concern}" if concern else ""), advice.pet(animal, concern), entry)


@function(effect=Effect.NONE)
def irrelevant_function(phone: Device) -> Receipt:
    """Nothing: no other function fits the request."""
    return Receipt("No function fits; nothing was done")


def _sent(kind: str, entry: Mapping[str, Any], words: str) -> str:
    contact, address = entry.get("contact"), entry.get("address")
    if contact:
        whom = f"{contact['name']} ({address})" if address else f"{contact['name']}, who has no address for this"
    else:
        whom = address or f"{entry['to']}, who is not in the contacts"
    photo = ", with the photo" if entry.get("photo") else ""
    return f"{kind} to {whom}{photo}" + (f": {words}" if words else "")


def _advised(subject: str, text: str, entry: Mapping[str, Any]) -> Receipt:
    return Receipt(f"{subject}: {text}", {**entry, "advice": text})
