"""How a span sits in its sentence, so that another of the same form can take its place without breaking grammar.

In: language, function, slot, the span and the words around it. Out: the name of a pool (a tuple), or None when the
span should stay. Both sides use it: a vocabulary to file a span away, an exchange to find what fits.
"""

from __future__ import annotations

import re

from octopus.training.requests import Language

Form = tuple[str, ...]

NUMBERS_EN = {
    word: number
    for number, word in enumerate(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
        " eighteen nineteen twenty".split(),
        1,
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "a hundred": 100}
DOZENS_EN = {"a dozen": 12, "half a dozen": 6, "two dozen": 24}
COUPLES_EN = {"a couple": 2, "a pair": 2}
_KINDS = {
    measure: kind
    for kind, measures in {
        "pack": "盒包袋箱提扎",
        "bottle": "瓶罐桶听壶",
        "piece": "个個颗顆枚粒",
        "single": "只隻",
        "weight": "斤克磅",
        "stick": "把根条條捆支枝",
        "portion": "份碗盘例客屉笼",
        "cup": "杯",
        "machine": "台部",
        "set": "套件",
        "pair": "双雙副对對",
        "sheet": "张張块塊片卷",
        "book": "本册",
        "skewer": "串",
    }.items()
    for measure in measures
}
_COUNTED = "[0-9一二两兩三四五六七八九十几半百]"
_DETERMINERS = {"a", "an", "another", "one", "each", "every", "single"}
_DEFINITE = {"my", "the", "this", "that", "our", "his", "her", "your", "their", "new", "old", "spare", "broken"}
_PREPOSITIONS = set(
    "on in at near by under behind outside inside beside between along around off over from next opposite across"
    " somewhere upstairs downstairs between beneath above below with".split()
)
_QUESTIONS = {
    "how",
    "what",
    "what's",
    "whats",
    "when",
    "where",
    "who",
    "who's",
    "why",
    "which",
    "whose",
    "whether",
    "if",
}
_AUXILIARIES = set("can could should is are was does do did will would has have am".split())
_FINITE = set(
    "keeps has hates hasn't won't isn't can't doesn't didn't stopped started ate got won refuses looks seems smells"
    " bit swallowed lost threw pees poops barks bites sleeps eats drinks scratches chews hides licks sheds".split()
)
_ARTICLE = re.compile(r"\b(?:a|an)\s+$", re.IGNORECASE)
_QUESTION_ZH = re.compile(
    "怎|什么|啥|吗|几|多[久少大长高]|能不能|该不该|要不要|会不会|为何|可不可|哪|咋|是不是|有没有|？"
)
_SEARCH = re.compile(
    r"\b(?:google|search|look\w* (?:\w+ )?up|find|web|online|internet|browse|check|results?)\b"
    r"|搜|查|谷歌|百度|网上|检索|上网|度娘|google",
    re.IGNORECASE,
)
_SICK_BEFORE = re.compile(r"(?:^|[，。！？,!? 它他她猫狗鼠鸟鱼龟兔犬鹉猪牧基迪熊鸡鸭鹅马羊牛蛇宫虎咪汪总老就还又])$")
_SICK_AFTER = re.compile(r"$|[，。！？,!? ]|怎|咋|是不是|要|正常|吗|了?[，。？！]")
_MATERIAL_WORDS = re.compile(
    r"\b(?:plastic|paper|card|cardboard|glass|metal|tin|steel|alumini?um|wood\w*|cotton|wool\w*|ceramic|porcelain|pulp"
    r"|foil|compost\w*|organic|food waste|electr\w+|e-?waste|batter\w+|textiles?|clothes)\b"
    r"|塑料|塑膠|玻璃|金属|铁|铝|钢|木|纸|紙|布|棉|陶瓷|瓷|电|電|厨余|有机|织物|湿垃圾|有害",
    re.IGNORECASE,
)


def form(lang: Language, function: str, slot: str, span: str, before: str, after: str) -> Form | None:
    """The pool of a span: what is in it can replace the span between `before` and `after`."""
    if slot == "to":
        return (lang, slot, *_recipient(lang, span, before))
    if slot in ("message", "body"):
        kind = _said_en(span, before) if lang == "en" else _said_zh(before)
        return None if kind is None else (lang, slot, kind)
    if slot in ("item", "dish", "animal"):
        kind = _thing_en(span, before) if lang == "en" else _thing_zh(before, after)
        return (lang, function, slot, kind)
    if slot == "query":
        said = "explicit" if _SEARCH.search(before + after) else "implicit"
        return (lang, slot, _asked_en(slot, span, before) if lang == "en" else _asked_zh(span), said)
    if slot == "concern":
        if lang == "zh" and not (_SICK_BEFORE.search(before) and _SICK_AFTER.match(after)):
            return None
        return (lang, slot, _asked_en(slot, span, before) if lang == "en" else _asked_zh(span))
    if slot == "location":
        return (lang, slot, _place_en(span, before) if lang == "en" else "")
    if slot == "style":
        return (lang, slot, _style_zh(span, after) if lang == "zh" else _style_en(before, after))
    if slot in ("room", "subject"):
        return (lang, slot)
    return None


def tells_material(text: str) -> bool:
    """Whether words outside the item say what it is made of."""
    return _MATERIAL_WORDS.search(text) is not None


def is_plural(words: str) -> bool:
    """Whether an English noun phrase looks plural: by its last word, or the one in front of of/for/with."""
    head = re.split(r"\s(?:of|for|with|from|in|on|without|that|to)\s", words.lower())[0]
    return head.endswith("s") and not head.endswith(("ss", "us", "is", "'s"))


def with_article(before: str, span: str) -> str:
    """`before` with a or an in front of the English span, whichever sounds right."""
    match = _ARTICLE.search(before)
    if not match:
        return before
    word = span.split()[0].lower()
    vowel = word[0] in "aeiou" and not re.match(r"(?:uni|use|usb|eu|one\b|once|ut[ei])", word)
    vowel = vowel or word.startswith(("hour", "honest", "heir"))
    article = "an" if vowel else "a"
    if match[0][0] == "A":
        article = article.upper() if match[0].strip() == "AN" else article.capitalize()
    return before[: match.start()] + article + match[0][len(match[0].rstrip()) :]


def number_of(span: str, lang: Language) -> int | None:
    """The number that a quantity span says, or None when it is written in an unusual way."""
    text = span.lower()
    if re.fullmatch(r"[0-9]{1,3}", text):
        return int(text)
    if lang == "en":
        return NUMBERS_EN.get(text) or DOZENS_EN.get(text) or COUPLES_EN.get(text)
    return {"两": 2, "俩": 2, "仨": 3, "一打": 12, "半打": 6}.get(text) or _chinese_number(text)


def chinese_number(number: int) -> str:
    """1 to 99 in Chinese, as before a measure word."""
    digits = "零一二三四五六七八九"
    if number == 2:
        return "两"
    tens, ones = divmod(number, 10)
    return ("" if not tens else "十" if tens == 1 else digits[tens] + "十") + (digits[ones] if ones else "")


def is_question(text: str) -> bool:
    """Whether Chinese words ask something."""
    return _QUESTION_ZH.search(text) is not None


def _chinese_number(text: str) -> int | None:
    match = re.fullmatch("([一二三四五六七八九])?(十)?([一二三四五六七八九])?", text)
    if not text or not match or (match[1] and match[3] and not match[2]):
        return None
    digits = "零一二三四五六七八九"
    ones = digits.index(match[3]) if match[3] else 0
    if match[2]:
        return (digits.index(match[1]) if match[1] else 1) * 10 + ones
    return digits.index(match[1]) if match[1] else ones


def _last_word(before: str) -> str:
    match = re.search(r"([\w'’-]+)\s+$", before.lower())
    return match[1] if match else ""


def _first_word(span: str) -> str:
    return span.lower().split()[0].strip(",.?!")


def _recipient(lang: Language, span: str, before: str) -> Form:
    if "@" in span:
        return ("address",)
    if re.fullmatch(r"[+0-9() -]{4,}", span):
        return ("number",)
    if lang == "en":
        return ("role",) if _last_word(before) in _DEFINITE else ("name",)
    return ("kin",) if before[-1:] in tuple("我咱他她俺你们家您") else ("name",)


def _said_en(span: str, before: str) -> str | None:
    first, last = _first_word(span), _last_word(before)
    clause = re.split(r"[.;!?]", before.lower())[-1]
    if re.search(r"\bask(?:ing|s)?\b", clause):
        return (
            f"ask {first if first in ('to', 'if', 'whether', 'for', 'about') else 'w' if first in _QUESTIONS else ''}"
        )
    if first in ("to", "that", "about", "for", "not"):
        return first
    if last in ("to", "that", "about", "for", "of", "a", "an", "the", "his", "her", "be", "is", "my", "if"):
        return f"after {last}"
    return f"know {first}" if last == "know" and first in _QUESTIONS else "free"


def _said_zh(before: str) -> str | None:
    clause = re.split("[。；！？]", before)[-1]
    if re.search("问|問", clause):
        return "ask"
    if re.search("[让讓叫催喊请請求约约](?!订|外)", clause) and not re.search("说|說|讲|告|通知", clause):
        return "let"
    phrase = re.split("[，：,: ]", clause)[-1]
    if (
        not phrase
        or phrase[-1] in "说說讲道声句写发他她它容条个是"
        or re.search("告|通知|提醒|发|微|短信|回|跟|给", phrase)
    ):
        return "free"
    return None


def _thing_en(span: str, before: str) -> str:
    last = _last_word(before)
    if is_plural(span):
        return "plural"
    if last in _DETERMINERS:
        return "a"
    return "the" if last in _DEFINITE else "bare"


def _thing_zh(before: str, after: str) -> str:
    if (match := re.search(f"(?:{_COUNTED}|[整这那每])(.)$", before)) and match[1] in _KINDS:
        return _KINDS[match[1]]
    for match in re.finditer(f"{_COUNTED}(.)", after):
        if match[1] in _KINDS:
            return _KINDS[match[1]]
    if match := re.search(f"{_COUNTED}(.)[^，。；]*$", before):
        return _KINDS.get(match[1], "")
    return ""


def _asked_en(slot: str, span: str, before: str) -> str:
    first = _first_word(span)
    if first in _QUESTIONS:
        return "question"
    if first in _AUXILIARIES:
        return "auxiliary"
    if first.endswith("ing"):
        return "ing"
    if slot == "query":
        return f"after {_last_word(before)}" if _last_word(before) in ("the", "a", "to", "an", "my") else "phrase"
    if first in _FINITE or first.endswith("n't"):
        return "finite"
    return f"after {_last_word(before)}"


def _asked_zh(span: str) -> str:
    return "question" if is_question(span) else "phrase"


def _place_en(span: str, before: str) -> str:
    if _first_word(span) in _PREPOSITIONS:
        return "phrase"
    last = _last_word(before)
    return (
        f"after {'the' if last in ('the', 'a', 'my', 'our') else 'in'}" if last in _PREPOSITIONS | {"the"} else "bare"
    )


def _style_en(before: str, after: str) -> str:
    alone = re.match(r"$|[ ]?[,.!?;]", after) is not None
    return "thing" if alone and _last_word(before) in ("a", "an", "the") else ""


def _style_zh(span: str, after: str) -> str:
    if after.startswith(("风", "風", "式", "的感觉")):
        return "stem"
    return "wind" if span.endswith(("风", "風", "式")) else "plain"
