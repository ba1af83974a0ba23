"""The word table `functions/words.tsv`: things, animals, places and people in both languages, and what each is for.

A small language model cannot know what a thing is made of or whether it is a dish or a grocery; the table tells it, by
taking the place of other values of its form. Columns: kind, name_en, name_zh, material (of waste only).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from octopus.errors import OctopusError
from octopus.training.forms import Form, form, is_plural, is_question

SHARES = {
    "waste": 0.5,
    "product": 0.4,
    "found": 0.4,
    "grocery": 0.4,
    "dish": 0.4,
    "animal": 0.3,
    "concern": 0.3,
    "style": 0.3,
    "place": 0.3,
    "recipient": 0.25,
}
"""For each kind of word, how much of its pools it makes up."""
THINGS = {
    "waste": ("smart_recycling", "item"),
    "product": ("amazon_purchase", "item"),
    "found": ("lost_and_found", "item"),
    "grocery": ("instacart_shopping", "item"),
    "dish": ("doordash_order", "dish"),
    "animal": ("pet_care", "animal"),
}
MEASURES_ZH = {"grocery": ("", "pack"), "dish": ("", "portion")}
"""With which measure words a thing of unknown shape is counted; see `forms.py`."""

Word = tuple[str, str | None]


def pools(path: Path) -> Iterator[tuple[Form, list[Word], float]]:
    """The words of the table by form, with the material of waste, and the share each list is drawn.

    Raises:
        OctopusError: A row does not fit the first line or has an unknown kind; the message names it.
    """
    found: dict[tuple[str, Form], list[Word]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in table:
            whole = None not in row and None not in row.values() and all(row[k] for k in ("name_en", "name_zh"))
            if not whole or row["kind"] not in SHARES or bool(row["material"]) != (row["kind"] == "waste"):
                raise OctopusError(
                    f"{path}:{table.line_num}: not kind, name_en, name_zh, material",
                    f"kinds are {', '.join(SHARES)}; the material of other things than waste is empty",
                )
            kind, material = row["kind"], row["material"] or None
            for key in _english(kind, row["name_en"]):
                found[kind, key].append((row["name_en"], material))
            for key in _chinese(kind, row["name_zh"]):
                found[kind, key].append((row["name_zh"], material))
    for (kind, key), words in found.items():
        yield key, words, SHARES[kind]


def _english(kind: str, name: str) -> list[Form]:
    if kind in THINGS:
        kinds = ["plural"] if is_plural(name) else ["bare", "the"] if kind == "grocery" else ["a", "the", "bare"]
        return [("en", *THINGS[kind], sort) for sort in kinds]
    if kind == "recipient":
        return [("en", "to", "name" if name[0].isupper() else "role")]
    if kind == "concern":
        key = form("en", "pet_care", "concern", name, "the dog ", "")
        told = key is None or key[-1].startswith("after") or name.startswith("has ")  # something the animal does
        return [("en", "concern", "finite") if told or key is None else key]
    return [("en", "location", "phrase")] if kind == "place" else [("en", "style", "")]


def _chinese(kind: str, name: str) -> list[Form]:
    if kind in THINGS:
        return [("zh", *THINGS[kind], measure) for measure in MEASURES_ZH.get(kind, ("",))]
    if kind == "recipient":
        return [("zh", "to", "name"), ("zh", "to", "kin")]
    if kind == "concern":
        return [("zh", "concern", "question" if is_question(name) else "phrase")]
    return [("zh", "location", "")] if kind == "place" else [("zh", "style", "plain")]
