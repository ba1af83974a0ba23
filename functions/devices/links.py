"""Deep links: where a request leads in a browser or an app.

In: a Deed. Out: a link in which everything the user said is encoded, so that it cannot be anything but a value. Shops
open at the search for the thing: choosing and paying stay with the user.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from octopus.device import Deed

SHOPS = {
    "amazon": "https://www.amazon.com/s?{k}",
    "doordash": "https://www.doordash.com/search/store/{path}/",
    "instacart": "https://www.instacart.com/store/s?{k}",
}


def link_of(deed: Deed) -> str:
    """The link for a search, an order or something for the basket."""
    arguments = {name: str(value) for name, value in deed.arguments.items()}
    if deed.verb == "search":
        return _search(arguments, deed.language == "zh")
    thing = arguments.get("item") or arguments.get("dish") or ""
    shop = arguments.get("shop", "instacart" if deed.verb == "add_to_basket" else "")
    if shop not in SHOPS:
        return google(f"{shop} {thing}".strip())
    return SHOPS[shop].format(k=urlencode({"k": thing}), path=quote(thing, safe=""))


def google(words: str) -> str:
    """A Google search."""
    return "https://www.google.com/search?" + urlencode({"q": words})


def mailto(address: str, subject: str, body: str) -> str:
    """A draft of an e-mail."""
    fields = {name: value for name, value in (("subject", subject), ("body", body)) if value}
    query = urlencode(fields, quote_via=quote)
    return f"mailto:{quote(address, safe='@')}" + (f"?{query}" if query else "")


def _search(arguments: dict[str, str], chinese: bool) -> str:
    topic = arguments.get("topic", "")
    if topic == "google":
        return google(arguments.get("query", ""))
    if topic == "recycling":
        item = arguments.get("item", "")
        return google(
            f"{item} 垃圾分类 怎么扔" if chinese else f"how to recycle {item} {arguments.get('material', '')}"
        )
    words = [value for name, value in arguments.items() if name != "topic" and value]
    return google(" ".join([*words, topic]))
