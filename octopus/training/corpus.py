"""Bilingual text to learn language from: compressed JSON lines in, plain documents out.

Every document is one line or exchange as people write it (messages, mails, captions, questions with answers, sentence
pairs in both directions). Annotated requests of the development side never enter. Knows nothing about token ids.
"""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CAP = 600
"""Characters kept of one document: requests are short, long essays teach little here."""


def rows(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    """Objects of all matching `.jsonl.xz` files."""
    for path in sorted(folder.glob(pattern)):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def documents(text_folder: Path) -> list[str]:
    """All documents, in a fixed shuffled order."""
    found = list(_documents(text_folder))
    random.Random(0).shuffle(found)
    return [text[:CAP] for text in found if text.strip()]


def _documents(folder: Path) -> Iterator[str]:
    for row in rows(folder, "alpaca_*/*.xz"):
        question = "\n".join(filter(None, (row["instruction"], row["input"])))
        yield f"{question}\nResponse: {row['output']}"
    for i, row in enumerate(rows(folder, "tatoeba/*.xz")):
        yield f"{row['en']} {row['zh']}" if i % 2 else f"{row['zh']} {row['en']}"
    for pattern in ("nus_sms/*.xz", "crosswoz/*.xz", "taskmaster4/*.xz"):
        for row in rows(folder, pattern):
            yield row["text"]
    for row in rows(folder, "clinc/*.xz"):  # the intent in words: what kind of wish this is
        yield row["text"] if row["oos"] else f"{row['text']}\nIntent: {row['intent'].replace('_', ' ')}"
    for row in rows(folder, "nlu_eval/*.xz"):
        yield f"{row['text']}\nIntent: {row['intent'].replace('_', ' ')}"
    for row in rows(folder, "aeslc/*.xz"):
        yield f"Subject: {row['subject']}\n{row['body']}"
    for row in rows(folder, "flickr8kcn/*.xz"):
        for english, chinese in zip(row["en"], row["zh"], strict=False):
            yield f"{english} {chinese}"
    for row in rows(folder, "coco_cn/*captions*.xz"):
        yield row["zh"]
    for row in rows(folder, "coca/*.xz"):
        yield f"{row['word']} {row['zh']}"


def sample(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Documents until about that many characters have been given."""
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text
