"""Packing photos: what enters training, what is held out, and what a broken label table says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("tqdm")

from octopus.errors import OctopusError
from octopus.training.photos import REPEATS, Photos, difference_hash, pack, read_labels
from tiny_data import SIZE, encoded, picture, write_packed, write_parquet

HEADER = "source\tlabel_key\tname_en\tname_zh\tfunctions\tmaterial\troom\tanimal\tbroader_en\tbroader_zh\tgroup"
TABLE = [
    HEADER,
    "tiny\tn1\tgoldfish\t金鱼\tpet_care\t\t\tfish\tfish\t鱼\tfish",
    'waste9_new\tbox\t12" box\t纸箱\tsmart_recycling,lost_and_found\tcardboard\t\t\t\t\t',
]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.tsv"
    path.write_text("\n".join(TABLE) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path, labels: Path) -> Photos:
    """Two files; the fourth picture is a brighter copy of a held-out one, the fifth of one in training."""
    held_out, trained = picture(0, 2), picture(0, 0)
    rows = [
        (encoded(trained), "n1", "tiny", "train"),
        (encoded(picture(0, 1)), "n1", "tiny", "train"),
        (encoded(held_out), "n1", "tiny", "validation"),
        (encoded(held_out.point(lambda value: value + 20)), "n1", "tiny", "train"),
        (encoded(trained), "n1", "tiny", "train"),
    ]
    write_parquet(tmp_path / "images" / "a.parquet", rows)
    more = [
        (encoded(picture(1, 0).convert("L")), "box", "waste9_new", "train"),
        (encoded(picture(1, 1)), "box", "waste9_new", "test"),
        (encoded(picture(2, 0)), "unheard of", "tiny", "train"),
    ]
    write_parquet(tmp_path / "images" / "b.parquet", more)
    pack(tmp_path / "images", labels, tmp_path / "packed", SIZE, progress=False)
    return Photos(tmp_path / "packed", labels)


def test_every_picture_is_packed_and_named(photos: Photos) -> None:
    assert photos.pixels_NHWC.shape == (8, SIZE, SIZE, 3) and photos.pixels_NHWC.dtype == np.uint8
    assert np.array_equal(photos.pixels_NHWC[1], np.asarray(picture(0, 1)))
    names = [photos.labels[label].name_en if label >= 0 else None for label in photos.label_N]
    assert names == ["goldfish"] * 5 + ['12" box'] * 2 + [None]


def test_what_looks_like_a_held_out_photo_leaves_training(photos: Photos) -> None:
    assert photos.split == ["train", "train", "dev", "duplicate", "train", "train", "dev", "train"]
    assert photos.rows("train").tolist() == [0, 1, 4, 5]  # and what has no name does not count
    assert photos.rows("dev").tolist() == [2, 6]


def test_the_difference_hash_sees_structure_not_brightness() -> None:
    gray = np.random.default_rng(0).uniform(50, 150, (8, 9)).astype(np.float32)
    assert difference_hash(gray) == difference_hash(gray * 1.5 + 20)
    assert difference_hash(gray) != difference_hash(gray[:, ::-1])


def test_small_sets_are_seen_more_often(photos: Photos) -> None:
    weights = photos.weights(photos.rows("train"))
    assert weights.sum() == pytest.approx(1)
    assert weights[3] / weights[0] == pytest.approx(REPEATS["waste9_new"])


def test_a_photo_is_picked_by_weight_among_what_the_split_has(photos: Photos) -> None:
    rng = random.Random(0)
    fish, box = (next(i for i, label in enumerate(photos.labels) if label.source == s) for s in ("tiny", "waste9_new"))
    assert {photos.pick({fish: 1.0, box: 0.0}, "train", rng) for _ in range(50)} == {0, 1, 4}
    assert {photos.pick({fish: 1.0, box: 1.0}, "dev", rng) for _ in range(50)} == {2, 6}
    assert (photos.count(fish, "train"), photos.count(box, "train"), photos.count(box, "dev")) == (3, 1, 1)


def test_a_label_is_read_whole(labels: Path) -> None:
    known = read_labels(labels)
    box = known["waste9_new", "box"]
    assert box.functions == ("smart_recycling", "lost_and_found") and box.material == "cardboard"
    assert (box.broader_en, box.broader_zh, box.group) == ('12" box', "纸箱", "other")  # empty: its own name
    assert known["tiny", "n1"].broader_zh == "鱼"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["source\tlabel_key\tname_en", "tiny\tn1\tgoldfish"], "lacks the column name_zh"),
        ([HEADER, TABLE[1], "tiny\tn2\tgoose"], "labels.tsv:3"),
        ([HEADER, TABLE[1] + "\tmore"], "labels.tsv:2"),
        ([HEADER, TABLE[1].replace("goldfish", "")], "labels.tsv:2"),
        ([], "lacks the column source"),
    ],
)
def test_a_malformed_label_table_is_named(lines: list[str], message: str, labels: Path) -> None:
    labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(OctopusError) as caught:
        read_labels(labels)
    assert message in caught.value.message and caught.value.hint


def test_what_is_missing_is_named(tmp_path: Path, labels: Path) -> None:
    with pytest.raises(OctopusError, match="none"):
        read_labels(tmp_path / "none.tsv")
    with pytest.raises(OctopusError, match=r"photos\.npy"):
        Photos(tmp_path, labels)


def test_photos_of_a_label_that_the_table_has_lost(tmp_path: Path, labels: Path) -> None:
    folder = write_packed(tmp_path / "packed", [("tiny", "n1"), ("tiny", "n9")])
    with pytest.raises(OctopusError, match="n9"):
        Photos(folder, labels)


def test_a_kill_while_packing_leaves_nothing_that_looks_complete(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "images" / "a.parquet", [(encoded(picture(0, 0)), "n1", "tiny", "train")])

    def killed(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", killed)
    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "images", labels, tmp_path / "packed", SIZE, progress=False)
    monkeypatch.undo()
    assert not (tmp_path / "packed" / "photos.npy").exists()
    pack(tmp_path / "images", labels, tmp_path / "packed", SIZE, progress=False)
    assert len(Photos(tmp_path / "packed", labels).rows("train")) == 1
