"""The text a language model begins with: every set gives documents, in an order that never changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from octopus.training.corpus import CAP, documents, sample
from tiny_data import write_lines, write_texts


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_texts(folder)
    return folder


def test_every_set_gives_documents_as_people_write_them(text: Path) -> None:
    found = documents(text)
    for line in (
        "tell me about milk number 0\nResponse: There is not much to say about milk.",
        "给我讲讲第1个面包\n简短些\nResponse: 没什么可说的。",
        "他看见0。 He sees milk.",
        "He sees bread. 他看见1。",
        "see you at 7 ok",
        "我7点到家",
        "Subject: Meeting 3\nWe meet at 3.",
        "wake me up at 4\nIntent: alarm set",
        "flip a coin 1 times\nIntent: flip coin",
        "flip a coin 0 times",
    ):
        assert found.count(line) == 1, line
    assert not any("韩梅梅" in line for line in found)  # lists of names are for the slots


def test_the_order_is_mixed_and_fixed(text: Path) -> None:
    found = documents(text)
    assert found == documents(text)
    assert len({"Response:" in line for line in found[:20]}) == 2


def test_captions_and_words_give_documents_too(tmp_path: Path) -> None:
    write_lines(tmp_path / "flickr8kcn/all.jsonl.xz", [{"en": ["a dog", "a black dog"], "zh": ["一只狗", "一只黑狗"]}])
    write_lines(tmp_path / "coco_cn/coco_captions_a.jsonl.xz", [{"zh": "一张桌子"}])
    write_lines(tmp_path / "coca/words.jsonl.xz", [{"word": "lamp", "zh": "台灯"}])
    write_lines(tmp_path / "crosswoz/some.jsonl.xz", [{"text": "你好"}])
    found = {"a dog 一只狗", "a black dog 一只黑狗", "一张桌子", "lamp 台灯", "你好"}
    assert set(documents(tmp_path)) == found


def test_long_documents_are_cut_and_blank_ones_left_out(tmp_path: Path) -> None:
    write_lines(tmp_path / "nus_sms/sms_en.jsonl.xz", [{"text": "x" * 2000}, {"text": " \n"}, {"text": "ok"}])
    assert sorted(len(line) for line in documents(tmp_path)) == [2, CAP]


def test_a_sample_stops_once_it_is_long_enough() -> None:
    assert list(sample(["abc", "def", "ghi"], 4)) == ["abc", "def"]
    assert list(sample(["abc"], 0)) == []
