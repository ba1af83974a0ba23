"""What training and evaluation look at: fitting photos, the right side of the split, the same example every time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tqdm")

from octopus import Registry
from octopus.core import Call
from octopus.errors import OctopusError
from octopus.training import evaluate
from octopus.training.augment import Vocabulary
from octopus.training.build import DEFAULT_RUN
from octopus.training.data import (
    ANIMALS_ZH,
    AUXILIARY,
    Case,
    Mixture,
    PhotoChoice,
    cases,
    check_apart,
    facts,
    fits,
    load_cases,
    save_cases,
    servable,
    spoken,
)
from octopus.training.photos import Label, Photos, read_labels
from octopus.training.requests import PHOTO, Example, Request, parse, read_requests, split
from tiny_data import FUNCTIONS, LABELS, some_labels, table, write_packed

REGISTRY = Registry.default()
REFUSAL = Example("good morning", (Call("irrelevant_function", {}, "", 1.0),), "en", "clinc150:1")
LINES = [
    "en\tinstacart_shopping\tneeded\tadd this to the cart\titem=<photo>",
    "zh\tpet_care\tneeded\t它不吃东西怎么办\tanimal=<photo>",
    "en\tsmart_recycling\tneeded\twhich bin\titem=<photo>;material=<photo>",
    "zh\tinterior_design\tneeded\t这里怎么布置\troom=<photo>",
    "zh\tgoogle_search+smart_recycling\tneeded\t这个是什么材质，查一下，再告诉我怎么扔\t"
    "1.query=<photo>;2.item=<photo>;2.material=<photo>",
    "zh\tlost_and_found+smart_recycling\tneeded\t门口有人落下的，先招领，没人要的话怎么扔\t"
    "1.item=<photo>;2.item=<photo>;2.material=<photo>",
    "en\tsend_text\tattached\tsend this to [to:mom]\t",
    "en\tsend_text\tneeded\ttext the number on the sign\tto=<photo>",
    "en\tirrelevant_function\tnone\twhat a day\t",
    "zh\tgoogle_search\tnone\t查一下[query:天气]\t",
]


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return [parse(line, f"some:{number}") for number, line in enumerate(LINES, 1)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Two training photos and one held-out photo of every label in the repository."""
    labels = [(row["source"], row["label_key"]) for row in table()]
    return Photos(write_packed(tmp_path_factory.mktemp("packed"), labels, train=2, dev=1), LABELS)


@pytest.fixture(scope="module")
def annotated() -> tuple[list[Request], list[Request]]:
    return split(read_requests(FUNCTIONS / "requests"))


def mixture(requests: Sequence[Request], photos: Photos) -> Mixture:
    return Mixture(requests, Vocabulary(), PhotoChoice(photos, "train"), [REFUSAL])


def shown(photos: Photos, row: int) -> Label:
    return photos.labels[photos.label_N[row]]


def seen_values(request: Request, calls: Sequence[Call]) -> Iterator[tuple[str, str, str]]:
    """Function, slot and value of what the photo had to name."""
    for annotated, call in zip(request.calls, calls, strict=True):
        for slot, value in annotated.values.items():
            if value == PHOTO:
                yield call.name, slot, call.arguments[slot]


def value_of(label: Label, slot: str, lang: str) -> str:
    """What a photo of a label says for a slot."""
    animal = (ANIMALS_ZH.get(label.animal) or label.broader_zh) if lang == "zh" else label.animal
    name = label.name_zh if lang == "zh" else label.name_en
    return {"material": label.material, "room": label.room, "animal": animal}.get(slot, name)


def test_an_example_depends_on_its_number_alone(requests: list[Request], photos: Photos) -> None:
    one, other = mixture(requests, photos), mixture(requests, photos)
    numbers = list(range(60))
    forwards = {number: one.example(number) for number in numbers}
    random.Random(0).shuffle(numbers)
    assert {number: other.example(number) for number in numbers} == forwards
    passes = [[forwards[e * len(one.requests) + i][0].id for i in range(len(one.requests))] for e in range(3)]
    assert len({tuple(ids) for ids in passes}) == 3  # every pass in a new order


def test_the_photo_is_what_the_request_needs(requests: list[Request], photos: Photos) -> None:
    by_id = {request.id: request for request in requests}
    found = mixture(requests, photos)
    checked = set()
    for number in range(400):
        example, row = found.example(number)
        if example is REFUSAL or by_id[example.id].photo != "needed" or example.id == "some:8":
            continue
        assert row is not None and photos.split[row] == "train"
        label = shown(photos, row)
        for function, slot, value in seen_values(by_id[example.id], example.calls):
            assert fits(label, function, slot)
            assert value == value_of(label, slot, example.lang)
            checked.add((example.id, slot))
    assert len(checked) == 10


def test_who_cannot_be_read_off_a_photo_is_asked_for(requests: list[Request], photos: Photos) -> None:
    (read,) = servable([requests[7]], PhotoChoice(photos, "train"))
    assert read.photo == "attached"  # any photo will do, and the recipient is missing
    example, row = Mixture([requests[7]], Vocabulary(), PhotoChoice(photos, "train"), []).example(0)
    assert example.calls[0].missing == ("to",) and row is not None


def test_a_request_without_a_photo_may_get_one_that_means_nothing(requests: list[Request], photos: Photos) -> None:
    found = Mixture(requests[8:9], Vocabulary(), PhotoChoice(photos, "train"), [])
    rows = [found.example(number)[1] for number in range(500)]
    assert 0.05 < sum(row is not None for row in rows) / len(rows) < 0.2


def test_what_no_label_shows_is_left_out(requests: list[Request], tmp_path: Path) -> None:
    choice = PhotoChoice(Photos(write_packed(tmp_path, [("tiny", "n01443537")]), LABELS), "train")
    kept = [request.id for request in servable(requests, choice)]
    assert kept == ["some:2", "some:7", "some:8", "some:9", "some:10"]  # a goldfish is a pet and nothing to throw away


def test_the_broader_word_where_the_tower_is_in_doubt(photos: Photos) -> None:
    row = next(row for row in photos.rows("train") if shown(photos, row).name_en == "frog")
    certain = np.ones(len(photos.label_N), dtype=np.float32)
    assert PhotoChoice(photos, "train", certain).facts(row).name_en == "frog"
    salamander = next(row for row in photos.rows("train") if shown(photos, row).name_en == "fire salamander")
    certain[salamander] = 0.004
    doubtful = PhotoChoice(photos, "train", certain).facts(salamander)
    assert (doubtful.name_en, doubtful.name_zh) == ("amphibian", "两栖动物")
    assert PhotoChoice(photos, "train").facts(salamander).name_en == "fire salamander"


def test_only_fine_names_become_broader(photos: Photos) -> None:
    for label in photos.labels:
        exact, broad = facts(label), facts(label, broad=True)
        assert (exact.material, exact.room, exact.animal_en) == (broad.material, broad.room, broad.animal_en)


def test_every_name_a_photo_may_get_is_listed(photos: Photos) -> None:
    names = spoken(photos.labels)
    for row in range(len(photos.label_N)):
        for choice in (PhotoChoice(photos, "train"), PhotoChoice(photos, "train", np.zeros(len(photos.label_N)))):
            said = [choice.facts(row).names(lang)[slot] for lang in ("en", "zh") for slot in ("item", "animal")]
            assert {name for name in said if name} <= set(names)


def test_cases_show_held_out_photos_only(requests: list[Request], photos: Photos) -> None:
    found = list(cases(requests, PhotoChoice(photos, "dev")))
    assert found == list(cases(requests, PhotoChoice(photos, "dev")))
    assert [case.id for case in found] == [request.id for request in requests]
    for case, request in zip(found, requests, strict=True):
        assert case.text == request.text  # as written
        assert (case.photo is None) == (request.photo == "none")
        assert case.photo is None or photos.split[case.photo] == "dev"
    assert [case.domain for case in found] == [
        "groceries", "pets", "waste material", "rooms", "search", "found objects", None, None, None, None,
    ]  # fmt: skip


def test_a_case_knows_what_its_photo_shows(requests: list[Request], photos: Photos) -> None:
    groceries, pets, waste, rooms = list(cases(requests[:4], PhotoChoice(photos, "dev")))
    for case, slot in ((groceries, "item"), (pets, "animal"), (waste, "material"), (rooms, "room")):
        assert case.photo is not None
        assert case.exact == case.calls[0].arguments[slot] == value_of(shown(photos, case.photo), slot, case.lang)
    assert groceries.photo is not None and groceries.broader == shown(photos, groceries.photo).broader_en
    assert waste.broader == waste.exact


def test_of_two_calls_the_first_that_needs_the_photo_counts(requests: list[Request], photos: Photos) -> None:
    for case, slot in zip(cases(requests[4:6], PhotoChoice(photos, "dev")), ("query", "item"), strict=True):
        assert case.photo is not None
        assert case.exact == case.calls[0].arguments[slot] == shown(photos, case.photo).name_zh
        assert case.broader == shown(photos, case.photo).broader_zh


def test_cases_survive_being_written(requests: list[Request], photos: Photos, tmp_path: Path) -> None:
    found: list[Case] = list(cases(requests, PhotoChoice(photos, "dev")))
    save_cases(found, tmp_path / "dev.jsonl")
    assert load_cases(tmp_path) == found
    assert "妈" not in (tmp_path / "dev.jsonl").read_text(encoding="utf-8")
    assert "招领" in (tmp_path / "dev.jsonl").read_text(encoding="utf-8")  # people can read it
    with pytest.raises(OctopusError, match="octopus data build") as caught:
        load_cases(tmp_path / "none")
    assert "missing" in caught.value.message


def test_the_two_sides_are_proven_apart(requests: list[Request], photos: Photos) -> None:
    counts = check_apart(requests[:6], requests[6:], photos)
    assert counts == {"train": 6, "dev": 4, "train_photos": len(photos.rows("train"))}
    again = parse("en\tsend_text\tattached\tSend this, to [to:Mom]!\t", "other:1")
    with pytest.raises(OctopusError, match="1 requests"):
        check_apart([*requests[:6], again], requests[6:], photos)
    with pytest.raises(OctopusError, match="1 groups"):
        check_apart(requests[:6], [parse("en\tirrelevant_function\tnone\thm\t", requests[0].group)], photos)


def test_a_photo_on_both_sides_is_found(requests: list[Request], tmp_path: Path) -> None:
    photos = Photos(write_packed(tmp_path, some_labels(1)), LABELS)
    check_apart(requests[:6], requests[6:], photos)
    photos._by_label["dev"][0].append(int(photos.rows("train")[0]))
    with pytest.raises(OctopusError, match="1 photos"):
        check_apart(requests[:6], requests[6:], photos)


def test_the_annotated_requests_are_apart(annotated: tuple[list[Request], list[Request]], photos: Photos) -> None:
    train, dev = annotated
    assert check_apart(train, dev, photos)["dev"] == len(dev)
    kept = servable(dev, PhotoChoice(photos, "dev"))
    assert len(kept) >= 2000 and len(kept) > 0.995 * len(dev)


def test_enough_of_the_examples_have_two_calls(annotated: tuple[list[Request], list[Request]], photos: Photos) -> None:
    found = mixture(annotated[0], photos)
    several = sum(len(request.calls) > 1 for request in found.requests) / len(found.requests)
    assert several * (1 - AUXILIARY) >= 0.05
    drawn = [found.example(number)[0] for number in range(2000)]
    assert sum(len(example.calls) > 1 for example in drawn) / len(drawn) >= 0.04
    refused = sum(example is REFUSAL for example in drawn) / len(drawn)
    assert abs(refused - AUXILIARY) < 0.02
    languages = [example.lang for example in drawn]
    assert 0.35 < languages.count("zh") / len(languages) < 0.65


def test_the_label_table_is_complete() -> None:
    rows = table()
    assert len(read_labels(LABELS)) == len(rows)  # no label twice
    choices = {
        (function.name, parameter.name): parameter.choices
        for function in REGISTRY.values()
        for parameter in function.parameters
    }
    for row in rows:
        assert all(row[name].strip() for name in ("name_en", "name_zh", "broader_en", "broader_zh", "group")), row
        assert set(filter(None, row["functions"].split(","))) <= set(REGISTRY), row
        assert row["material"] in ("", *choices["smart_recycling", "material"]), row
        assert row["room"] in ("", *choices["interior_design", "room"]), row
        assert not row["animal"] or "pet_care" in row["functions"], row
        for english, chinese in ((row["name_en"], row["name_zh"]), (row["broader_en"], row["broader_zh"])):
            assert english.isascii() or "é" in english, row
            assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese), row


def test_what_is_seen_has_words_in_both_languages() -> None:
    clip = pytest.importorskip("octopus.training.clip", exc_type=ImportError)
    for label in read_labels(LABELS).values():
        words = {facet: clip.facet_words(label, facet) for facet in clip.FACETS}
        assert words["name"] and words["broader"]
        assert (words["material"] is None) == (not label.material) and (words["room"] is None) == (not label.room)


def test_evaluation_reads_what_building_writes() -> None:
    assert evaluate.DATA == DEFAULT_RUN / "data"
    options = {option.name: option for option in evaluate.evaluate.params}
    assert options["folder"].default == DEFAULT_RUN / "data"
