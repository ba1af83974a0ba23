"""Training under `accelerate launch`: two processes that share every batch learn what one learns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
for needed in ("transformers", "open_clip", "timm", "gensim", "accelerate", "matplotlib", "pyarrow"):
    pytest.importorskip(needed)

from octopus.training.stage import read_curve  # noqa: E402
from tiny_data import LABELS, RECIPE, some_labels, write_images, write_requests, write_texts  # noqa: E402

HERE = Path(__file__).parent
HELD_OUT = "60"
EXACT = ("lm", "calls", "align/projector", "functions")
"""Stages whose loss is the same. Batch norm makes that of `clip` differ: each process norms its own half of a batch."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a recipe and requests."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    write_images(folder / "data" / "images", some_labels(2), train=4, dev=2)
    write_texts(folder / "data" / "text")
    (folder / "data" / "labels.tsv").write_bytes(LABELS.read_bytes())
    write_requests(folder / "requests", every=60)
    return folder


def train(base: Path, run: str, stage: str, processes: int) -> None:
    """`octopus train STAGE` on so many processes of one thread each."""
    launch = [sys.executable]
    if processes > 1:  # what `accelerate launch --cpu` runs in its turn
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [stage, "--recipe", base / "tiny.toml", "--data", base / "data", "--threads", "1"]
    command = [*launch, HERE / "launched.py", base / "requests", HELD_OUT, base / run, *arguments]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
    }
    ended = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count('"stage"') == 5  # one of the processes talks


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_curve(folder / "curve.jsonl") if "loss" in row]


def test_two_processes_learn_what_one_learns(base: Path) -> None:
    from octopus.training import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "REQUESTS", base / "requests")
        build.main(["--recipe", str(base / "tiny.toml"), "--data", str(base / "data"), "--out", str(base / "one/data")])
    shutil.copytree(base / "one/data", base / "two/data")
    train(base, "one", "all", 1)
    train(base, "two", "all", 2)
    for stage in EXACT:
        one, two = losses(base / "one" / stage), losses(base / "two" / stage)
        assert one and two == pytest.approx(one, rel=0.02), stage
    assert losses(base / "two/clip") == pytest.approx(losses(base / "one/clip"), rel=0.3)
