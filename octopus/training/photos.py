"""Labelled photos, packed once and kept in memory: parquet files and a label table in, one array and its columns out.

`pack` writes `photos.npy` (uint8 `[N, size, size, 3]`, every picture squashed to a square) and `photos.json`.
Photos of the training split that look like a held-out one (difference hash) are left out, because several of the
sets share pictures. Knows nothing about models or requests.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from octopus.errors import OctopusError

REPEATS = {"waste9_new": 5, "houses": 4, "ikea": 3, "grocery": 3, "cat_breeds": 3, "dog_breeds": 3, "fashion": 2}
"""How often a photo of a small set is seen for one of the large sets (tiny, mini, food101)."""
STRETCH = 4096
"""How many pictures a process packs at a time."""
COLUMNS = ("source", "label_key", "name_en", "name_zh", "functions", "material", "room", "animal")
"""What a label table must have; `broader_en`, `broader_zh` and `group` may be absent."""


@dataclass(frozen=True)
class Label:
    """What is known of one kind of photo. `functions` are the phone functions it fits."""

    source: str
    name_en: str
    name_zh: str
    functions: tuple[str, ...]
    material: str
    room: str
    animal: str
    broader_en: str = ""
    broader_zh: str = ""
    group: str = ""


def read_labels(path: Path) -> dict[tuple[str, str], Label]:
    """`labels.tsv` by (source, label key).

    Raises:
        OctopusError: The table is missing or malformed; the message names the line.
    """
    if not path.exists():
        raise OctopusError(f"{path} is missing", "point --data to the folder that holds images/ and labels.tsv")
    labels = {}
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if absent := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
            raise OctopusError(f"{path} lacks the column {absent[0]}", "its first line names the columns, tabs between")
        for row in table:
            if None in row or None in row.values() or not all(row[column] for column in COLUMNS[:4]):
                raise OctopusError(
                    f"{path}:{table.line_num}: the columns do not fit the first line, or a name is empty",
                    "every label has a source, a key and a name in both languages",
                )
            labels[row["source"], row["label_key"]] = Label(
                row["source"],
                row["name_en"],
                row["name_zh"],
                tuple(filter(None, row["functions"].split(","))),
                row["material"],
                row["room"],
                row["animal"],
                row.get("broader_en") or row["name_en"],
                row.get("broader_zh") or row["name_zh"],
                row.get("group") or "other",
            )
    return labels


def difference_hash(gray: NDArray[np.float32]) -> int:
    """64-bit difference hash of a gray `[8, 9]` thumbnail."""
    bits = (gray[:, 1:] > gray[:, :-1]).flatten()
    return int(np.packbits(bits).view(">u8")[0])


def _pack_rows(
    file: Path, first: int, out: Path, place: int, size: int
) -> tuple[list[tuple[str, str, str]], list[int]]:
    """Squash `STRETCH` pictures of a file into `out` from row `place` on; their (source, label, split) and hashes.

    Runs in a process of its own: decoding small pictures in threads is no faster than in one.
    """
    from pyarrow import parquet

    rows = parquet.read_table(file, columns=["image", "label", "source", "split"]).slice(first, STRETCH).to_pylist()
    pixels, hashes = np.load(out, mmap_mode="r+"), []
    for i, row in enumerate(rows):
        picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        thumbnail = np.asarray(picture.resize((9, 8), Image.Resampling.BOX).convert("L"), dtype=np.float32)
        pixels[place + i] = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
        hashes.append(difference_hash(thumbnail))
    return [(row["source"], row["label"], row["split"]) for row in rows], hashes


def pack(images: Path, labels_file: Path, out: Path, size: int, progress: bool = True) -> None:
    """Decode every photo of `images/*.parquet` into one array (about 5 GB at 96 px), on all cores."""
    from pyarrow import parquet

    labels = read_labels(labels_file)
    stretches, total = [], 0  # (file, first row in it, row in the array)
    for file in sorted(images.glob("*.parquet")):
        count = parquet.read_metadata(file).num_rows
        stretches += [(file, first, total + first) for first in range(0, count, STRETCH)]
        total += count
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / "photos.tmp.npy"
    np.lib.format.open_memmap(str(unfinished), mode="w+", dtype=np.uint8, shape=(total, size, size, 3)).flush()
    rows: list[tuple[str, str, str]] = []
    hashes: list[int] = []
    bar = tqdm(total=total, desc="photos", disable=not progress)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_pack_rows, file, first, unfinished, place, size) for file, first, place in stretches]
        for job in jobs:
            found, fingerprints = job.result()
            rows += found
            hashes += fingerprints
            bar.update(len(found))
    held_out = {h for h, row in zip(hashes, rows, strict=True) if row[2] != "train"}
    splits = [
        ("duplicate" if h in held_out else "train") if row[2] == "train" else "dev"
        for h, row in zip(hashes, rows, strict=True)
    ]
    names = sorted({row[:2] for row in rows if row[:2] in labels})
    index = {key: i for i, key in enumerate(names)}
    columns: dict[str, Any] = {
        "size": size,
        "labels": [list(key) for key in names],
        "label": [index.get(row[:2], -1) for row in rows],
        "source": [row[0] for row in rows],
        "split": splits,
    }
    (out / "photos.json").write_text(json.dumps(columns), encoding="utf-8")
    unfinished.replace(out / "photos.npy")


class Photos:
    """The packed photos: `pixels_NHWC` (memory-mapped), and per photo its label, source and split."""

    def __init__(self, folder: Path, labels_file: Path) -> None:
        if not (folder / "photos.npy").exists():
            raise OctopusError(f"{folder / 'photos.npy'} is missing", "run `octopus data build` first")
        columns = json.loads((folder / "photos.json").read_text(encoding="utf-8"))
        known = read_labels(labels_file)
        self.pixels_NHWC: NDArray[np.uint8] = np.load(folder / "photos.npy", mmap_mode="r")
        if lost := [f"{source} {key}" for source, key in columns["labels"] if (source, key) not in known]:
            raise OctopusError(f"{labels_file} has no label {lost[0]}", "restore its line, or pack the photos again")
        self.labels: list[Label] = [known[source, key] for source, key in columns["labels"]]
        self.label_N = np.asarray(columns["label"], dtype=np.int64)
        self.source: list[str] = columns["source"]
        self.split: list[str] = columns["split"]
        self._by_label: dict[str, dict[int, list[int]]] = {"train": defaultdict(list), "dev": defaultdict(list)}
        for i, (label, split) in enumerate(zip(columns["label"], self.split, strict=True)):
            if split in self._by_label and label >= 0:
                self._by_label[split][label].append(i)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of all labelled photos of a split."""
        return np.sort(np.concatenate([np.asarray(v) for v in self._by_label[split].values()]))

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sampling probability of each row, small sets repeated."""
        raw = np.asarray([REPEATS.get(self.source[i], 1) for i in rows], dtype=np.float64)
        return np.asarray(raw / raw.sum())

    def pick(self, fits: Mapping[int, float], split: str, rng: random.Random) -> int:
        """One photo whose label is drawn by weight from `fits` (label index -> weight)."""
        choices = [label for label in fits if self._by_label[split].get(label)]
        label = rng.choices(choices, [fits[c] for c in choices])[0]
        return rng.choice(self._by_label[split][label])

    def count(self, label: int, split: str) -> int:
        """How many photos of a label a split has."""
        return len(self._by_label[split].get(label, ()))
