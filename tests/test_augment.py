"""Exchanged spans and noise: arguments stay what the text says, in every line of the repository."""

from __future__ import annotations

import json
import lzma
import random
import re
import time
from pathlib import Path

import pytest

from octopus.registry import Registry
from octopus.training.augment import PhotoFacts, Vocabulary, auxiliary, realise, variants
from octopus.training.forms import chinese_number, number_of, with_article
from octopus.training.requests import MISSING, PHOTO, Request, arguments, parse, read_requests, split

FOLDER = Path(__file__).parent.parent / "functions" / "requests"
FACTS = PhotoFacts("oat milk", "燕麦奶", "cardboard", "kitchen", "cat", "猫", "what milk is this", "这是什么奶")


@pytest.fixture(scope="module")
def sides() -> tuple[list[Request], list[Request]]:
    return split(read_requests(FOLDER))


@pytest.fixture(scope="module")
def vocabulary(sides: tuple[list[Request], list[Request]]) -> Vocabulary:
    return Vocabulary.from_requests(sides[0])


def facts_for(request: Request) -> PhotoFacts | None:
    return FACTS if request.photo == "needed" else None


def test_as_written() -> None:
    request = parse("en\tsend_text\tnone\ttell [to:Ana] [message:I'm late]\t", "x:1")
    example = realise(request, random.Random(0))
    assert example.text == "tell Ana I'm late"
    assert example.calls == arguments(request)
    assert example.calls[0].arguments == {"to": "Ana", "message": "I'm late"}


@pytest.mark.parametrize(("lang", "item"), [("en", "oat milk"), ("zh", "燕麦奶")])
def test_the_photo_speaks_the_language_of_the_request(lang: str, item: str) -> None:
    request = parse(f"{lang}\tsmart_recycling\tneeded\t?\titem=<photo>;material=<photo>", "x:1")
    call = realise(request, random.Random(0), None, FACTS).calls[0]
    assert call.arguments == {"item": item, "material": "cardboard"}


def test_a_needed_photo_must_be_there(vocabulary: Vocabulary) -> None:
    request = parse("en\tpet_care\tneeded\twhy is he limping\tanimal=<photo>", "x:1")
    for facts in (None, PhotoFacts(name_en="sofa")):
        with pytest.raises(ValueError, match="photo"):
            realise(request, random.Random(0), vocabulary, facts)


def test_arguments_stand_in_the_text(sides: tuple[list[Request], list[Request]], vocabulary: Vocabulary) -> None:
    registry, rng = Registry.default(), random.Random(0)
    for request in [*sides[0], *sides[1]]:
        for _ in range(5):
            example = realise(request, rng, vocabulary, facts_for(request))
            for call, annotated in zip(example.calls, request.calls, strict=True):
                names = [parameter.name for parameter in registry[call.name].parameters]
                assert [name for name in names if name in call.arguments] == list(call.arguments)
                assert set(call.arguments) | set(call.missing) == set(names)
                for slot in annotated.spans:
                    if slot not in annotated.values:
                        value = call.arguments[slot]
                        assert value in example.text
                        assert value == value.strip()
                for slot, given in annotated.values.items():
                    assert given != MISSING or slot in call.missing
                    assert (
                        given != PHOTO
                        or slot in call.missing
                        or call.arguments[slot] == FACTS.names(request.lang)[slot]
                    )
            assert example.text.strip()


def test_results_fit_the_signatures(sides: tuple[list[Request], list[Request]], vocabulary: Vocabulary) -> None:
    registry, rng = Registry.default(), random.Random(1)
    for request in sides[0][::40]:
        for call in realise(request, rng, vocabulary, facts_for(request)).calls:
            if not call.missing:
                assert registry.validate(call.name, call.arguments) == call.arguments


def test_the_same_seed_gives_the_same_examples(
    sides: tuple[list[Request], list[Request]], vocabulary: Vocabulary
) -> None:
    def draw(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [realise(request, rng, vocabulary, facts_for(request)).text for request in sides[0][:300]]

    assert draw(3) == draw(3) != draw(4)


def test_spans_are_exchanged_for_their_kind(vocabulary: Vocabulary) -> None:
    request = parse("en\tsmart_recycling\tnone\twhere do I put a [item:wine bottle]\tmaterial=glass", "x:1")
    rng = random.Random(0)
    found = {tuple(realise(request, rng, vocabulary).calls[0].arguments.values()) for _ in range(200)}
    assert len(found) > 20
    assert len({material for _, material in found}) > 3
    told = parse("en\tsmart_recycling\tnone\twhere do I put this [item:bottle], it's glass\tmaterial=glass", "x:2")
    assert {realise(told, rng, vocabulary).calls[0].arguments["material"] for _ in range(100)} == {"glass"}


def test_a_recipient_in_the_message_style_of_the_line(vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    address = parse("en\tsend_email\tnone\temail [to:jo@example.org]\t", "x:1")
    assert all("@" in realise(address, rng, vocabulary).calls[0].arguments["to"] for _ in range(100))
    chinese = parse("zh\tsend_text\tnone\t给[to:妈妈]发短信说[message:我到了]\t", "x:2")
    found = [realise(chinese, rng, vocabulary) for _ in range(200)]
    assert len({example.calls[0].arguments["to"] for example in found}) > 30


def test_quantities_say_their_value(vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    english = parse("en\tinstacart_shopping\tnone\tadd [quantity:three] [item:lemons]\tquantity=3", "x:1")
    chinese = parse("zh\tinstacart_shopping\tnone\t买[quantity:三]个[item:苹果]\tquantity=3", "x:2")
    said = {
        "a dozen": 12,
        "half a dozen": 6,
        "two dozen": 24,
        "seven": 7,
        "半打": 6,
        "一打": 12,
        "俩": 2,
        "两个": 2,
        "7个": 7,
    }
    seen = set()
    for _ in range(3000):
        for request, words in (
            (english, r"add ([a-z ]*dozen|[a-z0-9]+) "),
            (chinese, "买(半打|一打|俩|仨|[0-9]+个|.个)"),
        ):
            example = realise(request, rng, vocabulary)
            match = re.search(words, example.text.lower())
            if match and match[1] in said:
                assert example.calls[0].arguments["quantity"] == said[match[1]], example
                seen.add(match[1])
    assert seen == set(said)


def test_refusals_of_other_sources(tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, object]]] = {
        "clinc/clinc150": [
            {"text": "set an alarm for six", "intent": "alarm", "oos": False},
            {"text": "order me some shoes", "intent": "order", "oos": False},
            {"text": "Set an alarm for six!", "intent": "alarm", "oos": False},
        ],
        "nlu_eval/nlu_eval": [{"text": "did mom email me", "intent": "email_query"}],
        "tatoeba/cmn_eng": [
            {"en": "Tom is married.", "zh": "汤姆结婚了。"},
            {"en": "My cat is sick.", "zh": "我的猫病了。"},
        ],
        "alpaca_en/alpaca_en": [
            {"instruction": "Write a poem about the sea"},
            {"instruction": "Write an email to Ana"},
        ],
        "alpaca_zh/alpaca_zh": [{"instruction": "写一首关于大海的诗"}, {"instruction": "推荐一家餐馆"}],
    }
    for name, own in rows.items():
        path = tmp_path / "text" / f"{name}.jsonl.xz"
        path.parent.mkdir(parents=True)
        path.write_bytes(lzma.compress("\n".join(json.dumps(row) for row in own).encode()))
    found = auxiliary(tmp_path)
    assert [example.text for example in found] == [
        "set an alarm for six",
        "did mom email me",
        "Tom is married.",
        "汤姆结婚了",
        "Write a poem about the sea",
        "写一首关于大海的诗",
    ]
    assert {call.name for example in found for call in example.calls} == {"irrelevant_function"}
    assert [example.lang for example in found].count("zh") == 2


@pytest.mark.parametrize("number", [*range(1, 31), 45, 99])
def test_chinese_numbers(number: int) -> None:
    assert number_of(chinese_number(number), "zh") == number


def test_articles() -> None:
    assert with_article("find a ", "umbrella") == "find an "
    assert with_article("An ", "usb cable") == "A "
    assert with_article("the ", "umbrella") == "the "


def test_no_development_span_leaks(sides: tuple[list[Request], list[Request]], vocabulary: Vocabulary) -> None:
    known = {word.lower() for pool in vocabulary.pools.values() for word, _ in pool}
    spans = {r.text[a:b].lower() for r in sides[0] for a, b, _, _ in r.spans}
    only_dev = {
        r.text[a:b].lower() for r in sides[1] for a, b, _, slot in r.spans if slot in ("message", "body")
    } - spans
    assert len(only_dev) > 100
    assert not only_dev & known


def test_variants_begin_as_written(vocabulary: Vocabulary) -> None:
    request = parse("en\tsend_text\tnone\ttell [to:Ana] [message:I'm late]\t", "x:1")
    texts = [example.text for example in variants(request, 20, random.Random(0), vocabulary)]
    assert texts[0] == request.text
    assert len(set(texts)) > 10


def test_fast_enough(sides: tuple[list[Request], list[Request]], vocabulary: Vocabulary) -> None:
    rng, requests = random.Random(0), sides[0][:2000]
    started = time.process_time()
    for request in requests:
        realise(request, rng, vocabulary, facts_for(request))
    assert len(requests) / (time.process_time() - started) > 2000  # about 20,000 a second on an idle core
