"""The linear floor: it learns from annotated lines, counts a line with two calls as its first, and is scored fairly."""

from __future__ import annotations

import pytest

from octopus.training.baseline import confusions, floor, score
from octopus.training.requests import Request, parse

pytest.importorskip("sklearn")

LINES = """\
en\tsend_text\tnone\ttext [to:mom] that [message:I am late]\t
en\tsend_text\tnone\ttext [to:Ana] saying [message:see you soon]\t
en\tsend_text+instacart_shopping\tnone\ttext [1.to:dad] and put [2.item:milk] in the basket\t
en\tirrelevant_function\tnone\twhat is the weather like today\t
en\tirrelevant_function\tnone\thow will the weather be tomorrow\t
zh\tinstacart_shopping\tnone\t把[item:牛奶]加到购物车\t
zh\tinstacart_shopping\tnone\t购物车里加点[item:鸡蛋]\t
zh\tirrelevant_function\tnone\t今天天气怎么样\t
zh\tirrelevant_function\tnone\t明天天气好吗\t"""


@pytest.fixture(scope="module")
def lines() -> list[Request]:
    return [parse(line, f"test:{number}") for number, line in enumerate(LINES.splitlines())]


def test_it_tells_functions_apart_in_both_languages(lines: list[Request]) -> None:
    texts = ["text Bob that I am here", "the weather please", "购物车加两盒豆腐", "后天天气如何"]
    assert floor(lines, texts) == ["send_text", "irrelevant_function", "instacart_shopping", "irrelevant_function"]


def test_the_same_lines_give_the_same_floor(lines: list[Request]) -> None:
    texts = ["something else", "别的什么", "text"]
    assert floor(lines, texts) == floor(lines, texts)


def test_nothing_to_classify_needs_no_training() -> None:
    assert floor([], []) == []


def test_score_counts_per_language(lines: list[Request]) -> None:
    english = ["send_text", "google_search", "send_text", "irrelevant_function", "send_text"]
    chinese = ["instacart_shopping", "irrelevant_function", "irrelevant_function", "irrelevant_function"]
    scores = score(lines, [*english, *chinese])
    assert scores["en"].accuracy == 3 / 5 and scores["en"].refusal_recall == 1 / 2 and scores["en"].wrong_refusals == 0
    assert scores["zh"].accuracy == 3 / 4 and scores["zh"].refusal_recall == 1 and scores["zh"].wrong_refusals == 1 / 2


def test_confusions_name_the_most_frequent_first(lines: list[Request]) -> None:
    chosen = ["google_search", "google_search", *(line.calls[0].function for line in lines[2:8]), "pet_care"]
    expected = [("en", "send_text", "google_search", 2), ("zh", "irrelevant_function", "pet_care", 1)]
    assert confusions(lines, chosen) == expected
