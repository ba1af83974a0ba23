"""The word table: its rows are sound, land in pools that requests use, and teach what things are made of."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from octopus.errors import OctopusError
from octopus.registry import Registry
from octopus.training.augment import Vocabulary, realise
from octopus.training.build import WORDS
from octopus.training.requests import Request, parse, read_requests
from octopus.training.words import SHARES, pools

HEAD = "kind\tname_en\tname_zh\tmaterial\n"


def test_the_table_is_sound() -> None:
    rows = [line.split("\t") for line in WORDS.read_text(encoding="utf-8").splitlines()][1:]
    materials = Registry.default()["smart_recycling"].parameters[1].choices
    assert {row[0] for row in rows} == set(SHARES)
    assert all(row[3] in materials if row[0] == "waste" else not row[3] for row in rows)
    assert all(name == name.strip() and name for row in rows for name in row[1:3])
    assert max(Counter((row[0], row[1]) for row in rows).values()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "waste\tjar\t罐子",
        "waste\tjar\t罐子\tglass\tx",
        "jar\tjar\t罐子\tglass",
        "waste\tjar\t罐子\t",
        "dish\tpie\t派\tglass",
        "dish\t\t派\t",
    ],
)
def test_a_row_that_does_not_fit_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text(HEAD + line + "\n", encoding="utf-8")
    with pytest.raises(OctopusError, match=r"words.tsv:2"):
        list(pools(tmp_path / "words.tsv"))


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return read_requests(WORDS.parent / "requests" / "en_home.tsv")


def test_every_row_has_a_place_in_both_languages() -> None:
    rows = [line.split("\t") for line in WORDS.read_text(encoding="utf-8").splitlines()][1:]
    placed = {(key[0], word) for key, words, _ in pools(WORDS) for word, _ in words}
    assert {("en", row[1]) for row in rows} | {("zh", row[2]) for row in rows} == placed


def test_words_take_the_place_of_others(requests: list[Request]) -> None:
    without, vocabulary = Vocabulary.from_requests(requests), Vocabulary.from_requests(requests, None, WORDS)
    key = ("en", "smart_recycling", "item", "the")
    new = {word for form, words, _ in pools(WORDS) if form == key for word in words} - set(without.pools[key])
    assert len(new) > 1000 and new <= set(vocabulary.pools[key])
    request = parse("en\tsmart_recycling\tnone\twhere does my [item:zoetrope] go\tmaterial=other", "x:1")

    def drawn(words: Vocabulary) -> int:
        calls = [realise(request, random.Random(seed), words).calls[0] for seed in range(400)]
        return sum((str(call.arguments["item"]).lower(), call.arguments["material"]) in new for call in calls)

    assert drawn(without) == 0 and 60 < drawn(vocabulary) < 200  # a third
