"""Reading annotated requests and splitting them: what a person who adds lines would notice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from octopus.errors import OctopusError
from octopus.training.requests import (
    MISSING,
    PHOTO,
    Request,
    arguments,
    frame,
    normalised,
    parse,
    read_requests,
    split,
)

FOLDER = Path(__file__).parent.parent / "functions" / "requests"


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return read_requests(FOLDER)


@pytest.fixture(scope="module")
def sides(requests: list[Request]) -> tuple[list[Request], list[Request]]:
    return split(requests)


def test_a_line_is_read() -> None:
    line = "en\tinstacart_shopping+send_text\tnone\tadd [1.quantity:two] [1.item:eggs], tell [2.to:mom]\t1.quantity=2"
    request = parse(line, "x:1")
    assert request.text == "add two eggs, tell mom"
    assert [call.function for call in request.calls] == ["instacart_shopping", "send_text"]
    start, end = request.calls[0].spans["item"]
    assert request.text[start:end] == "eggs"
    assert request.calls[0].values == {"quantity": 2}
    assert [(start, end) for start, end, _, _ in request.spans] == [(4, 7), (8, 12), (19, 22)]


def test_arguments_are_complete_and_in_order() -> None:
    calls = arguments(parse("zh\tinstacart_shopping\tnone\t买[item:牛奶]\t", "x:1"))
    assert calls[0].arguments == {"item": "牛奶", "quantity": 1}
    calls = arguments(parse("en\tsend_email\tnone\temail saying [body:hi]\tto=<missing>", "x:1"))
    assert calls[0].missing == ("to",)
    assert calls[0].arguments == {"subject": "", "body": "hi"}


def test_the_photo_names_what_words_do_not() -> None:
    request = parse("en\tsmart_recycling\tneeded\twhich bin\titem=<photo>;material=<photo>", "x:1")
    assert request.photo_slots == {"item", "material"}
    assert request.calls[0].values == {"item": PHOTO, "material": PHOTO}
    call = arguments(request, {"item": "jar", "material": "glass"})[0]
    assert call.arguments == {"item": "jar", "material": "glass"}
    with pytest.raises(ValueError, match="must name"):
        arguments(request, {"item": "jar"})


def test_an_address_on_a_photo_is_asked_for() -> None:
    request = parse("en\tsend_text\tneeded\ttext this number\tto=<photo>", "x:1")
    assert arguments(request, {})[0].missing == ("to",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("en\tsend_text\tnone\thi [to:mom]", "4 columns"),
        ("fr\tsend_text\tnone\thi [to:mom]\t", "fr"),
        ("en\tsend_fax\tnone\thi [to:mom]\t", "send_fax"),
        ("en\tsend_text\tnone\thi mom\t", "lacks to"),
        ("en\tsend_text\tnone\thi [item:mom]\t", "no slot 'item'"),
        ("en\tsend_text\tnone\thi [to: mom]\t", "space"),
        ("en\tsend_text\tnone\thi [to:mom] [sic\t", "bracket"),
        ("en\tinstacart_shopping\tnone\t[quantity:two] [item:eggs]\t", "quantity needs a value"),
        ("en\tinstacart_shopping\tnone\t[quantity:two] [item:eggs]\tquantity=many", "number"),
        ("en\tsmart_recycling\tnone\t[item:jar]\tmaterial=stone", "stone"),
        ("en\tsend_text\tnone\ttext it\tto=mom", "marked"),
        ("en\tinstacart_shopping\tnone\tmore of this\titem=<photo>", "photo"),
        ("en\tsend_text\tneeded\ttell [to:mom]\t", "photo"),
        ("en\tsend_text\tnone\ttell [to:mom]\tmessage=<missing>", "default"),
        ("en\tsend_text+send_text\tnone\ttell [to:mom] and [2.to:dad]\t", "which call"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "en_bad.tsv").write_text("en\tirrelevant_function\tnone\thello\t\n" + line + "\n", encoding="utf-8")
    with pytest.raises(OctopusError, match=r"en_bad\.tsv:2") as caught:
        read_requests(tmp_path)
    assert message in caught.value.message


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctopusError, match="no request files"):
        read_requests(tmp_path)


def test_every_line_of_the_repository_is_sound(requests: list[Request]) -> None:
    names = {"item": "x", "dish": "x", "animal": "x", "query": "x", "material": "glass", "room": "kitchen"}
    assert len(requests) > 25_000
    for request in requests:
        for call, annotated in zip(arguments(request, names), request.calls, strict=True):
            assert call.name == annotated.function
            assert set(call.missing) == {
                s for s, v in annotated.values.items() if v == MISSING or (s, v) == ("to", PHOTO)
            }


def test_the_split_holds_out_its_share(requests: list[Request], sides: tuple[list[Request], list[Request]]) -> None:
    train, dev = sides
    assert 0.1 < len(dev) / len(requests) < 0.14
    assert len(train) + len(dev) > 0.995 * len(requests)


def test_nothing_held_out_is_trained_on(sides: tuple[list[Request], list[Request]]) -> None:
    train, dev = sides
    assert not {r.group for r in train} & {r.group for r in dev}
    assert not {normalised(r.text) for r in train} & {normalised(r.text) for r in dev}
    grams: dict[str, list[set[str]]] = defaultdict(list)
    for request in train:
        own = _grams(frame(request))
        for gram in own:
            grams[gram].append(own)
    for request in dev[::25]:
        own = _grams(frame(request))
        near = (other for gram in own for other in grams[gram])
        assert all(len(own & other) / len(own | other) < 0.8 for other in near), request.text


def test_contrast_groups_stay_together() -> None:
    lines = {r.id: r.group for r in read_requests(FOLDER) if r.id.startswith("en_contrast3:")}
    assert lines["en_contrast3:1"] == lines["en_contrast3:2"]  # "text mom ..." and "did mom text ..."
    assert 150 < len(set(lines.values())) < 600


def test_new_lines_move_no_old_ones(requests: list[Request], sides: tuple[list[Request], list[Request]]) -> None:
    old = requests[: len(requests) // 2]
    train, dev = split(old)
    old_ids = {r.id for r in old}
    assert [r.id for r in train] == [r.id for r in sides[0] if r.id in old_ids]
    assert [r.id for r in dev] == [r.id for r in sides[1] if r.id in old_ids]


def _grams(text: str) -> set[str]:
    return {text[i : i + 4] for i in range(max(1, len(text) - 3))}
