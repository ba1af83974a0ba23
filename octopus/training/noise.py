"""How people really type: typos, case, punctuation, polite words. Outside the argument spans only, except for case.

In and out: the pieces of a request, text between the spans and the spans by turns: gap, span, gap, ..., gap. Case
changes touch spans too, because the argument is what stands in the text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection

from octopus.training.requests import Language

Pieces = list[str]

OPENERS_EN = (
    "hey octopus, |octopus, |ok octopus |hi octopus, |hey, |hi, |hi |ok, |so, |um, |uh |right, |hello, |okay so "
    "|quick one: |hey there, |yo |well, |oh, |listen, "
).split("|")
POLITE_EN = (
    "please |can you |could you |can you please |could you please |would you |pls |plz |i want you to |i need you to "
    "|i'd like you to |kindly |go ahead and |can u |do me a favor and "
).split("|")
CLOSERS_EN = (
    ", please| please| pls|, thanks| thanks| thx|, thank you| ty|, cheers|, asap| asap| for me| now| right away|!"
)
ENDERS_EN = CLOSERS_EN.split("|")
OPENERS_ZH = "嘿章鱼，|章鱼，|你好，|喂，|那个，|嗯，|哎，|小助手，|Hi，|对了，|在吗，|诶，|好，".split("|")
POLITE_ZH = "请|麻烦|帮我|请帮我|麻烦帮我|帮忙|能不能帮我|快帮我|给我|你帮我|可以帮我".split("|")
ENDERS_ZH = "，谢谢|，谢谢啦|谢谢|，多谢|，麻烦了|，快点|，急|，辛苦了|～|！|，拜托|，谢啦|哈|。".split("|")
EMOJI = "🙏 😊 👍 😅 ❤️ 😂 🙂 ✨ 🥺 😭".split()
_VERBS_EN = re.compile(
    r"(?:send|text|e-?mail|mail|order|buy|get|grab|add|put|find|search|google|look|tell|let|message|post|report|log|show"
    r"|forward|share|ask|check|remind|write|pass|give|suggest|redesign|design|register|file|throw|pick|restock|purchase"
    r"|turn|set|play|call|open|cancel|delete|stop|start|read|take|make|mute|crop|save|print|switch|translate|schedule)\b(?!['’,])",
    re.IGNORECASE,
)
_VERBS_ZH = re.compile(
    "把|将|给(?!我)|发(?:个|条|封|给|一|短|邮|微|消|信|张)|搜|查(?!完|过|了|出)|买(?!了|完|到|过|的)|订(?!了|的)|点(?:个|份|杯|碗|一|两|三)"
    "|加(?:个|一|两|三|点|到|入)|找(?!不|到|了)|转发|推荐|设计|登记|告诉|通知|提醒|写(?:封|邮|个)|传给|看看|问问|下单|网购|来(?:份|杯|个|碗|一|两)"
    "|打开|关|播放|放首|设|定个|取消|删|调|开|翻译|念|导航|打电话|截"
)
_POLITE_ZH = re.compile("[请帮麻您]|谢|劳驾|拜托|能不能|可以")
_WORD = re.compile(r"[A-Za-z]{4,}")


def disturb(pieces: Pieces, lang: Language, rng: random.Random, common: Collection[str], last_is_words: bool) -> Pieces:
    """A request with a little of what people add and leave out.

    Args:
        pieces: Gap, span, gap, ..., gap; the list is changed and returned.
        lang: Decides what is added.
        rng: Source of all choices.
        common: English words that may lose a capital at the start of a sentence.
        last_is_words: The last span is free words (a message, a question) that would swallow what follows.
    """
    free_end = not last_is_words or len(pieces[-1].strip(" .!?。！？")) > 2
    if rng.random() < 0.16:
        _open(pieces, lang, rng, common)
    if free_end and rng.random() < 0.1:
        _close(pieces, lang, rng)
    if rng.random() < 0.12:
        _punctuate(pieces, lang, rng)
    if rng.random() < (0.07 if lang == "en" else 0.02):
        _mistype(pieces, lang, rng)
    if free_end and rng.random() < 0.02:
        pieces[-1] += rng.choice(["", " "]) + rng.choice(EMOJI)
    if lang == "en":
        change = _case(pieces, rng)
        if change:
            pieces[:] = [change(piece) for piece in pieces]
    return pieces


def lowered(text: str, common: Collection[str]) -> str:
    """The text without its capital when its first word is one that has none inside a sentence."""
    match = re.match(r"[A-Z][a-z'’]*(?![A-Za-z])", text)
    if match and match[0].lower() in common and not match[0].startswith(("I'", "I’")) and match[0] != "I":
        return text[0].lower() + text[1:]
    return text


def _open(pieces: Pieces, lang: Language, rng: random.Random, common: Collection[str]) -> None:
    first = pieces[0]
    if lang == "en":
        if not first and len(pieces) > 1:
            return
        polite = _VERBS_EN.match(first) is not None and rng.random() < 0.7
        opener = rng.choice(POLITE_EN if polite else OPENERS_EN)
        rest = lowered(first, common) if polite or rng.random() < 0.8 else first
        if first[:1].isupper() and rng.random() < 0.5:
            opener = opener[0].upper() + opener[1:]
        pieces[0] = opener + rest
    elif _VERBS_ZH.match(first) and not _POLITE_ZH.search("".join(pieces)) and rng.random() < 0.7:
        opener = rng.choice(POLITE_ZH)
        if not (first.startswith("给") and opener.endswith(("给我", "麻烦"))):
            pieces[0] = opener + first
    elif first or len(pieces) == 1:
        pieces[0] = rng.choice(OPENERS_ZH) + first


def _close(pieces: Pieces, lang: Language, rng: random.Random) -> None:
    text = "".join(pieces)
    if lang == "en" and re.search(r"please|pls|plz|thank|thx|cheers|asap", text, re.IGNORECASE):
        return
    if lang == "zh" and re.search("谢|麻烦|急|辛苦|拜托", text):
        return
    last = pieces[-1]
    mark = last[-1:] if last[-1:] in tuple(".!?。！？") else ""
    body = last[: len(last) - len(mark)]
    if lang == "en":
        ordered = _VERBS_EN.match(text) is not None and mark != "?"
        added = rng.choice(ENDERS_EN if ordered else ENDERS_EN[:9])
        pieces[-1] = body + mark + " " + added.lstrip(", ") if mark == "?" else body + added
    elif mark in ("？", "?"):
        pieces[-1] = last + rng.choice(["谢谢", "急", "麻烦了", "谢啦"])
    else:
        pieces[-1] = body + rng.choice(ENDERS_ZH)


def _punctuate(pieces: Pieces, lang: Language, rng: random.Random) -> None:
    choice = rng.random()
    last = pieces[-1]
    if choice < 0.35 and last.endswith((".", "!", "?", "。", "！", "？")) and not last.endswith(("...", "。。")):
        pieces[-1] = last[:-1]
    elif choice < 0.6 and re.search(r"\w$", last):
        pieces[-1] = last + (rng.choice(".!") if lang == "en" else rng.choice("。！"))
    elif choice < 0.8:
        for index, piece in enumerate(pieces[::2]):
            if lang == "en":
                # A comma may go inside a gap; next to a span it is what shows where the span ends.
                pieces[2 * index] = re.sub(r"(?<=\w), (?=\w)", " ", piece, count=1)
            else:
                pieces[2 * index] = piece.translate(_HALF_WIDTH)
    elif lang == "zh":
        for index, piece in enumerate(pieces[::2]):
            pieces[2 * index] = re.sub("，(?=.)", " ", piece, count=1)


_HALF_WIDTH = str.maketrans("，？！：；", ",?!:;")


def _mistype(pieces: Pieces, lang: Language, rng: random.Random) -> None:
    index = 2 * rng.randrange((len(pieces) + 1) // 2)
    gap = pieces[index]
    if lang == "zh":
        pieces[index] = re.sub("[的了吧呢啊一]下?(?=.)", "", gap, count=1) if len(gap) > 5 else gap
        return
    words = list(_WORD.finditer(gap))
    if not words:
        return
    word = rng.choice(words)
    place = rng.randrange(1, len(word[0]) - 1)
    pieces[index] = gap[: word.start()] + _typo(word[0], place, rng) + gap[word.end() :]


def _typo(word: str, place: int, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind < 0.75:
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place] + word[place:]


def _case(pieces: Pieces, rng: random.Random) -> Callable[[str], str] | None:
    choice = rng.random()
    if choice < 0.1:
        return str.lower
    if choice < 0.108:
        return str.upper if "@" not in "".join(pieces) else None
    if choice < 0.16 and pieces[0]:
        pieces[0] = pieces[0][0].upper() + pieces[0][1:]
    return None
