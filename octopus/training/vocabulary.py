"""What can stand in a slot: the spans of the training requests, names, dishes, products, messages and searches.

In: training requests and, if given, the data folder (`labels.tsv`, `text/`) and the word table. Out: pools of values by
form (`forms.py`). Development requests never reach a Vocabulary.
"""

from __future__ import annotations

import csv
import json
import lzma
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from octopus.training.forms import Form, form, is_plural, is_question
from octopus.training.requests import MISSING, PHOTO, Request, Value
from octopus.training.words import pools

Entry = tuple[str, Value | None]
"""A span and the value it stands for (material, room), None where the span itself is the argument."""

FEWEST = 6
"""A pool with fewer different spans is not drawn from."""
KIN_EN = "mom mum dad grandma grandpa mama papa auntie mommy daddy nana hubby sis bro boss coach".split()
KIN_ZH = (
    "妈妈 爸爸 老婆 老公 奶奶 爷爷 姥姥 外婆 姐姐 哥哥 妹妹 弟弟 闺蜜 老板 房东 同事 老师 女儿 儿子 室友 媳妇 老妈 老爸"
).split()
PLACES_EN = (
    "bus|train|tram|ferry|metro|airport|hotel|library|gym|pool|beach|park|playground|office|canteen|cafeteria|station|"
    "waiting room|parking lot|car park|taxi|Uber|supermarket|coffee shop|cinema|museum|school|classroom|lecture hall|"
    "stadium|changing room|elevator|staircase|front desk|lobby|church|bakery|pharmacy|hospital|bench|food court|bank"
)
PLACES_ZH = (
    "地铁站 公交车 高铁 候车室 图书馆 健身房 食堂 教室 操场 公园 咖啡店 超市 商场 电影院 酒店大堂 停车场"
    " 出租车 电梯 会议室 更衣室 机场 洗手间 前台 医院 博物馆 篮球场 游乐场 快递柜 面馆 银行 菜市场 宿舍楼下"
    " 收银台 火车站 饭店 展厅 幼儿园门口 泳池"
).split()
STYLES_EN = (
    "scandinavian minimalist boho industrial rustic japandi farmhouse coastal modern mid-century art-deco bohemian"
    " mediterranean victorian tropical shabby-chic zen vintage contemporary eclectic cozy moroccan retro nordic"
).split()
STYLES_ZH = (
    "北欧 日式 极简 侘寂 新中式 工业 美式 法式 复古 奶油 轻奢 原木 田园 地中海 现代简约 波西米亚 孟菲斯 民国"
    " 东南亚 意式"
).split()
CONCERNS_EN = (
    "keeps scratching his ears|won't eat|is limping|has been sneezing|throws up after meals|has dry skin|is losing fur|"
    "drinks too much water|has bad breath|keeps licking her paws|won't stop barking|hides all day"
)
_HOSTS = "gmail.com outlook.com yahoo.com qq.com 163.com icloud.com example.org acme.co.uk uni.edu proton.me".split()
_SEARCHES_EN = "{} recipe|calories in {}|how to cook {}|is {} healthy|history of {}|{} near me|best {}|{} price"
_SEARCHES_ZH = "{}的做法|{}热量|{}多少钱|{}怎么挑|{}什么牌子好|{}怎么保存|{}的历史|哪家{}好吃"
_CLEAN_EN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,'.?!-]*[A-Za-z0-9?!]")
_CLEAN_ZH = re.compile(r"[\u4e00-\u9fff0-9A-Za-z，。？！,?! ]+[\u4e00-\u9fff0-9？！]")
_RUDE = re.compile(r"fuck|shit|bitch|sex|cock|dick|cunt|nigg|whore|slut|porn|操|妈的|逼|屎|鸡巴|贱|尼玛", re.IGNORECASE)
_PERSONAL = re.compile(r"\b(?:my|me|i|you|your|today|tomorrow|now|here|nearest|weather|time is)\b", re.IGNORECASE)
_ASKS_EN = re.compile(r"(?:what|who|when|where|why|how|which) [a-z]", re.IGNORECASE)


@dataclass
class Vocabulary:
    """Values by form. `draw` gives one at random, frequent ones more often."""

    pools: dict[Form, list[Entry]] = field(default_factory=dict)
    common: frozenset[str] = frozenset()  # English words that are written in lower case inside sentences
    sums: dict[Form, list[float]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_requests(
        cls, train: Sequence[Request], data_folder: Path | None = None, table: Path | None = None
    ) -> Vocabulary:
        """File away the spans of training requests, from the data folder names, labels and texts, and a word table."""
        weights: dict[Form, dict[Entry, float]] = defaultdict(lambda: defaultdict(float))
        for request in train:
            for key, entry in _spans(request):
                weights[key][entry] += 1
        for key, words, share in _made():
            _mix(weights, key, words, share)
        if data_folder is not None:
            for key, words, share in (*_labels(data_folder / "labels.tsv"), *_texts(data_folder / "text")):
                _mix(weights, key, words, share)
            _label_materials(data_folder / "labels.tsv", weights)
        for key, entries, share in pools(table) if table is not None else ():
            _mix(weights, key, entries, share)
        vocabulary = cls(common=_common(train))
        for key, counter in sorted(weights.items()):
            if len(counter) >= FEWEST:
                vocabulary.pools[key] = list(counter)
                vocabulary.sums[key] = list(accumulate(float(weight) for weight in counter.values()))
        return vocabulary

    def draw(self, key: Form | None, rng: random.Random, value: Value | None = None) -> Entry | None:
        """An entry of a pool, with this value if one is given; None when the pool is too small or lacks the value."""
        pool = None if key is None else self.pools.get(key)
        if pool is None or key is None:
            return None
        for _ in range(1 if value is None else 12):
            entry = rng.choices(pool, cum_weights=self.sums[key])[0]
            if value is None or entry[1] == value:
                return entry
        return None


def _spans(request: Request) -> Iterator[tuple[Form, Entry]]:
    for start, end, number, slot in request.spans:
        call, span = request.calls[number], request.text[start:end]
        key = form(request.lang, call.function, slot, span, request.text[:start], request.text[end:])
        if key is None:
            continue
        value = call.values.get("material" if call.function == "smart_recycling" else slot)
        if value in (PHOTO, MISSING):
            continue
        if start == 0 and slot not in ("to", "message", "body", "subject") and span[1:2].islower():
            lower = span[0].lower() + span[1:]
            span = lower if request.lang == "en" and not re.search(r" [A-Z]", span) else span
        yield key, (span, value)
        if key[-1] == "the" and slot in ("item", "animal"):
            yield (*key[:-1], "a"), (span, value)
        if key[-1] == "implicit":
            yield (*key[:-1], "explicit"), (span, value)
        if request.lang == "zh" and slot in ("item", "dish") and key[-1]:
            yield (*key[:-1], ""), (span, value)


def _mix(weights: dict[Form, dict[Entry, float]], key: Form, words: Iterable[str | Entry], share: float) -> None:
    """Add words, or words with their values, so that together they are drawn `share` of the time."""
    entries: list[Entry] = [(word, None) if isinstance(word, str) else word for word in dict.fromkeys(words)]
    before = sum(weights[key].values()) or 1
    for entry in entries:
        weights[key][entry] += before * share / (1 - share) / len(entries)


def _made() -> Iterator[tuple[Form, list[str], float]]:
    """Small lists written by hand."""
    rng = random.Random(0)
    places = PLACES_EN.split("|")
    yield (
        ("en", "location", "phrase"),
        [f"{word} the {place}" for place in places for word in ("in", "at", "near")],
        0.2,
    )
    yield ("en", "location", "after in"), [f"the {place}" for place in places], 0.2
    yield ("en", "location", "after the"), places, 0.2
    yield ("zh", "location", ""), PLACES_ZH, 0.2
    yield ("en", "style", ""), [style.replace("-", " ") for style in STYLES_EN], 0.2
    yield ("zh", "style", "plain"), STYLES_ZH, 0.2
    yield ("zh", "style", "stem"), STYLES_ZH, 0.5
    yield ("zh", "style", "wind"), [style + "风" for style in STYLES_ZH], 0.2
    yield ("en", "concern", "finite"), CONCERNS_EN.split("|"), 0.1
    yield ("en", "to", "name"), KIN_EN, 0.2
    yield ("zh", "to", "name"), KIN_ZH, 0.2
    for lang in ("en", "zh"):
        yield (lang, "to", "number"), [_phone(lang, rng) for _ in range(600)], 0.7


def _phone(lang: str, rng: random.Random) -> str:
    digits = "".join(rng.choices("0123456789", k=10))
    if lang == "zh":
        return "1" + rng.choice("35789") + digits[:9]
    shape = rng.choice(["{}-{}-{}", "555-{2}", "({}) {}-{}", "+1 {} {} {}", "07{1} {2}{0}", "{}{}{}"])
    return shape.format(digits[:3], digits[3:6], digits[6:])


def _labels(path: Path) -> Iterator[tuple[Form, list[str], float]]:
    """Names of photo labels, in both languages, by the functions they fit."""
    slots = {"doordash_order": "dish", "pet_care": "animal"}
    named: dict[Form, list[str]] = defaultdict(list)
    foods: dict[str, list[str]] = {"en": [], "zh": []}
    for row in read_labels(path):
        for function in filter(None, row["functions"].split(",")):
            if function in ("smart_recycling", "interior_design"):
                continue
            english, chinese, slot = row["name_en"], row["name_zh"], slots.get(function, "item")
            kinds = ["plural"] if is_plural(english) else ["a", "the", "bare"]
            if function == "instacart_shopping" and kinds[0] == "a":
                kinds = ["bare"]
            for kind in kinds:
                named["en", function, slot, kind].append(english)
            kinds = [""]
            if slot == "dish":
                kinds.append("portion")
            elif function == "instacart_shopping":
                kinds.append("weight" if row["label_key"].startswith(("Fruit", "Vegetables")) else "pack")
            for kind in kinds:
                named["zh", function, slot, kind].append(chinese)
            if slot == "dish" or function == "instacart_shopping":
                foods["en"].append(english)
                foods["zh"].append(chinese)
    for key, words in named.items():
        yield key, words, 0.35
    yield ("en", "query", "phrase", "explicit"), _filled(_SEARCHES_EN, foods["en"]), 0.1
    yield (
        ("zh", "query", "phrase", "explicit"),
        [q for q in _filled(_SEARCHES_ZH, foods["zh"]) if not is_question(q)],
        0.1,
    )
    yield (
        ("zh", "query", "question", "explicit"),
        [q for q in _filled(_SEARCHES_ZH, foods["zh"]) if is_question(q)],
        0.1,
    )


def _filled(patterns: str, words: Sequence[str]) -> list[str]:
    return [pattern.format(word) for pattern in patterns.split("|") for word in words]


def _label_materials(path: Path, weights: dict[Form, dict[Entry, float]]) -> None:
    """Waste items whose material is known."""
    for row in read_labels(path):
        if row["material"] and "smart_recycling" in row["functions"]:
            english, chinese = row["name_en"], row["name_zh"]
            if row["source"] == "grocery":  # what is recycled is the package
                english, chinese = f"{english} carton", f"{chinese}盒"
            for kind in ["plural"] if is_plural(english) else ["a", "the"]:
                weights["en", "smart_recycling", "item", kind][english, row["material"]] += 1
            weights["zh", "smart_recycling", "item", ""][chinese, row["material"]] += 1


def _texts(folder: Path) -> Iterator[tuple[Form, list[str], float]]:
    """Names, addresses, messages, subjects and questions from the text sets."""
    english = [row["name"] for row in read_lines(folder / "names/english_names.jsonl.xz")]
    chinese = [row["name"] for row in read_lines(folder / "names/chinese_names.jsonl.xz")]
    yield ("en", "to", "name"), english, 0.3
    yield ("zh", "to", "name"), [*chinese, *english[::20]], 0.3
    rng = random.Random(0)
    addresses = [_address(name, rng) for name in english]
    yield ("en", "to", "address"), addresses, 0.7
    yield ("zh", "to", "address"), addresses, 0.7
    texts = [_message(row["text"], _CLEAN_EN) for row in read_lines(folder / "nus_sms/sms_en.jsonl.xz")]
    yield ("en", "message", "free"), list(filter(None, texts)), 0.35
    texts = [_message(row["text"], _CLEAN_ZH) for row in read_lines(folder / "nus_sms/sms_zh.jsonl.xz")]
    statements = [text for text in texts if text and not is_question(text)]
    yield ("zh", "message", "free"), statements, 0.35
    yield ("zh", "body", "free"), statements, 0.15
    yield ("zh", "message", "ask"), [text for text in texts if text and is_question(text)], 0.35
    mails = list(read_lines(folder / "aeslc/aeslc_train.jsonl.xz"))
    subjects = (_message(row["subject"].removeprefix("Re: "), _CLEAN_EN) for row in mails)
    yield ("en", "subject"), [text for text in subjects if text and len(text) <= 40], 0.4
    bodies = (_message(re.split(r"(?<=[.?!])\s|\n", row["body"].strip())[0], _CLEAN_EN) for row in mails)
    yield ("en", "body", "free"), [text for text in bodies if text and " " in text], 0.35
    asked = (row["instruction"].rstrip("?. ") for row in read_lines(folder / "alpaca_en/alpaca_en.jsonl.xz"))
    yield (
        ("en", "query", "question", "explicit"),
        [t for t in asked if _ASKS_EN.match(t) and _plain(t, _CLEAN_EN)],
        0.25,
    )
    facts = [row["text"] for row in read_lines(folder / "nlu_eval/nlu_eval.jsonl.xz") if row["intent"] == "qa_factoid"]
    facts = [text for text in facts if _ASKS_EN.match(text) and not _PERSONAL.search(text)]
    yield ("en", "query", "question", "implicit"), facts, 0.4
    yield ("en", "query", "question", "explicit"), facts, 0.15
    asked = (row["instruction"].rstrip("？。?") for row in read_lines(folder / "alpaca_zh/alpaca_zh.jsonl.xz"))
    yield ("zh", "query", "question", "explicit"), [t for t in asked if is_question(t) and _plain(t, _CLEAN_ZH)], 0.2


def _address(name: str, rng: random.Random) -> str:
    local = name.lower() + rng.choice(["", "", ".", "_"])
    if local[-1] in "._":
        local += rng.choice("smith lee wang garcia khan novak silva jones chen office team".split())
    local += rng.choice(["", "", "", str(rng.randint(1, 99))])
    return f"{local}@{rng.choice(_HOSTS)}"


def _message(text: str, clean: re.Pattern[str]) -> str:
    """The text as someone would dictate it, or nothing when it is not fit."""
    text = " ".join(text.split()).strip(" .。~…,，")
    return text if _plain(text, clean) else ""


def _plain(text: str, clean: re.Pattern[str]) -> bool:
    return 4 <= len(text) <= 60 and clean.fullmatch(text) is not None and not _RUDE.search(text) and "email" not in text


def read_labels(path: Path) -> list[dict[str, str]]:
    """Rows of `labels.tsv`."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a `.jsonl.xz` file."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def _common(train: Sequence[Request]) -> frozenset[str]:
    """Words that requests write in lower case in the middle of a sentence."""
    counts = Counter(w for r in train if r.lang == "en" for w in re.findall(r"(?<=[a-z,] )[a-z']+", r.text))
    return frozenset(word for word, count in counts.items() if count > 1)
