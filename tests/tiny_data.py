"""Tiny photos, texts and requests in the layout of the real ones, shared by the tests of training."""

from __future__ import annotations

import csv
import io
import json
import lzma
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FUNCTIONS = Path(__file__).resolve().parent.parent / "functions"
LABELS = FUNCTIONS / "labels.tsv"
SIZE = 32

RECIPE = """
[data]
photo_size = 32
vocabulary = 600

[clip]
trunk = "resnet10t"
width = 32
text_layers = 1
text_width = 32
context = 8
batch = 16
rate = 1e-3
weight_decay = 0.05
words_every = 2
phases = [[32, 3], [64, 2]]
image_size = 32

[lm]
width = 32
layers = 2
heads = 2
feed_forward = 64
length = 32
batch = 4
steps = 10
rate = 1e-3

[calls]
tokens = 640
steps = 10
rate = 1e-3
check_every = 5

[align.words]
batch = 16
steps = 30
rate = 3e-3

[align.projector]
tokens = 640
steps = 10
rate = 1e-3
check_every = 1000

[align.all]
tokens = 640
steps = 10
rate = 1e-3
check_every = 1000

[functions]
tokens = 640
steps = 10
rate = 1e-3
check_every = 5
"""
"""Every stage, a handful of steps each; nothing is compiled."""


def table() -> list[dict[str, str]]:
    """The rows of the repository's label table."""
    with LABELS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def some_labels(of_each: int) -> list[tuple[str, str]]:
    """A few labels for each function, material, room and animal."""
    seen: Counter[str] = Counter()
    chosen = []
    for row in table():
        kinds = [*row["functions"].split(","), row["material"], row["room"], row["animal"]]
        if any(kind and seen[kind] < of_each for kind in kinds):
            chosen.append((row["source"], row["label_key"]))
            seen.update(kinds)
    return chosen


def picture(kind: int, number: int) -> Image.Image:
    """A picture of a kind: its own colours, and grain that no other picture has."""
    colours = np.random.default_rng([1, kind]).integers(40, 216, (2, 2, 3))
    grain = np.random.default_rng([2, kind, number]).integers(-12, 12, (8, 8, 3))
    pixels = np.kron(colours, np.ones((4, 4, 1))) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def encoded(image: Image.Image) -> bytes:
    """The picture as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_parquet(path: Path, rows: Iterable[tuple[bytes, str, str, str]]) -> None:
    """Rows of image, label, source and split, as the photo sets have them."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [
        {"image": {"bytes": image, "path": None}, "label": label, "source": source, "split": split}
        for image, label, source, split in rows
    ]
    parquet.write_table(pyarrow.Table.from_pylist(columns), path)


def write_images(folder: Path, labels: Iterable[tuple[str, str]], train: int, dev: int) -> None:
    """So many training and held-out pictures of each label."""
    rows = [
        (encoded(picture(kind, n)), label, source, "train" if n < train else "test")
        for kind, (source, label) in enumerate(labels)
        for n in range(train + dev)
    ]
    write_parquet(folder / "some.parquet", rows)


def write_packed(folder: Path, labels: Iterable[tuple[str, str]], train: int = 1, dev: int = 1) -> Path:
    """What packing leaves, without pictures worth looking at."""
    names = sorted(labels)
    splits = ["train"] * train + ["dev"] * dev
    columns = {
        "labels": [list(name) for name in names],
        "label": [i for i in range(len(names)) for _ in splits],
        "source": [source for source, _ in names for _ in splits],
        "split": splits * len(names),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "photos.npy", np.zeros((len(names) * len(splits), 8, 8, 3), dtype=np.uint8))
    (folder / "photos.json").write_text(json.dumps(columns), encoding="utf-8")
    return folder


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A `.jsonl.xz` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_texts(folder: Path) -> None:
    """A few rows of each text set."""
    things = ["milk", "bread", "a lamp", "the cat", "a photo", "the kitchen"]
    dinge = ["牛奶", "面包", "台灯", "猫", "照片", "厨房"]
    numbers = range(30)
    english = [f"tell me about {things[n % 6]} number {n}" for n in numbers]
    chinese = [f"给我讲讲第{n}个{dinge[n % 6]}" for n in numbers]
    answers = [f"There is not much to say about {things[n % 6]}." for n in numbers]
    write_lines(
        folder / "alpaca_en/alpaca_en.jsonl.xz",
        ({"instruction": q, "input": "", "output": a} for q, a in zip(english, answers, strict=True)),
    )
    write_lines(
        folder / "alpaca_zh/alpaca_zh.jsonl.xz",
        ({"instruction": q, "input": "简短些", "output": "没什么可说的。"} for q in chinese),
    )
    write_lines(
        folder / "tatoeba/cmn_eng.jsonl.xz",
        ({"en": f"He sees {things[n % 6]}.", "zh": f"他看见{n}。"} for n in numbers),
    )
    write_lines(folder / "nus_sms/sms_en.jsonl.xz", ({"text": f"see you at {n} ok"} for n in numbers))
    write_lines(folder / "nus_sms/sms_zh.jsonl.xz", ({"text": f"我{n}点到家"} for n in numbers))
    write_lines(
        folder / "names/english_names.jsonl.xz", ({"name": name} for name in "Ann Bob Cara Dan Eve Finn".split())
    )
    write_lines(folder / "names/chinese_names.jsonl.xz", ({"name": name} for name in "李雷 韩梅梅 王芳 张伟".split()))
    write_lines(
        folder / "aeslc/aeslc_train.jsonl.xz",
        ({"subject": f"Meeting {n}", "body": f"We meet at {n}."} for n in numbers),
    )
    write_lines(
        folder / "nlu_eval/nlu_eval.jsonl.xz",
        ({"text": f"wake me up at {n}", "intent": "alarm_set"} for n in numbers),
    )
    write_lines(
        folder / "clinc/clinc150.jsonl.xz",
        ({"text": f"flip a coin {n} times", "intent": "flip_coin", "oos": n % 5 == 0} for n in numbers),
    )


def write_requests(folder: Path, every: int) -> None:
    """Every so many-th annotated line of the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((FUNCTIONS / "requests").glob("*.tsv")):
        lines = file.read_text(encoding="utf-8").splitlines()[::every]
        (folder / file.name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
