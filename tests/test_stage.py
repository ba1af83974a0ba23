"""A stage's folder: what survives a kill, what counts as done, and what a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from octopus.training import stage as module  # noqa: E402
from octopus.training.stage import Stage, read_curve, sha256  # noqa: E402

CONFIG = {"steps": 3, "phases": [[48, 1000], [64, 900]], "rate": 1e-3}


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("clip", tmp_path, CONFIG)
    assert stage.load() is None
    stage.save({"step": 1, "weights": torch.ones(3)})

    def half(state: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(module.torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        stage.save({"step": 2, "weights": torch.zeros(3)})
    monkeypatch.undo()
    state = stage.load()
    assert state is not None and state["step"] == 1 and state["weights"].tolist() == [1, 1, 1]
    stage.save({"step": 3})
    assert stage.load() == {"step": 3}


def test_done_is_done_for_this_configuration_and_these_inputs(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("mom", encoding="utf-8")
    stage = Stage("lm", tmp_path / "lm", CONFIG, (words,))
    assert not stage.is_done()
    stage.finish(loss=4.0)
    assert stage.is_done()
    assert Stage("lm", tmp_path / "lm", dict(CONFIG), (words,)).is_done()
    assert not Stage("lm", tmp_path / "lm", {**CONFIG, "rate": 2e-3}, (words,)).is_done()
    assert not Stage("lm", tmp_path / "lm", CONFIG).is_done()
    words.write_text("dad", encoding="utf-8")
    assert not stage.is_done()
    words.write_text("mom", encoding="utf-8")
    assert stage.is_done()


def test_done_says_how_it_came_about(tmp_path: Path) -> None:
    Stage("lm", tmp_path, CONFIG).finish(loss=4.0)
    done = json.loads((tmp_path / "done.json").read_text(encoding="utf-8"))
    assert done["stage"] == "lm" and done["config"] == CONFIG and done["results"] == {"loss": 4.0}
    assert done["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert done["seconds"] >= 0


def test_the_hash_of_a_folder_knows_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> str:
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text, encoding="utf-8")
        return sha256(tmp_path / name)

    assert folder("one", a="1", b="2") == folder("same", b="2", a="1")
    assert len({folder("renamed", c="1", b="2"), folder("changed", a="1", b="3"), sha256(tmp_path / "one")}) == 3


def test_of_a_step_written_twice_the_later_row_counts(tmp_path: Path) -> None:
    stage = Stage("calls", tmp_path, CONFIG)
    stage.log(10, loss=3.0)
    stage.log(20, loss=2.0)
    stage.log(20, accuracy=0.5)  # another series at the same step is no repetition
    stage.log(10, loss=2.5)  # a resumed run
    rows = read_curve(tmp_path / "curve.jsonl")
    assert rows == [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 2.0}, {"step": 20, "accuracy": 0.5}]
    assert read_curve(tmp_path / "none.jsonl") == []


def test_the_curve_becomes_a_picture(tmp_path: Path) -> None:
    stage = Stage("calls", tmp_path, CONFIG)
    for step in range(1, 4):
        stage.log(step, loss=1 / step)
    stage.log(3, accuracy=0.5)
    stage.finish()
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.height > 300  # a panel for each of the two series
        assert len(set(picture.convert("L").resize((80, 60)).tobytes())) > 10


def test_work_that_began_otherwise_is_not_silently_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Stage("lm", tmp_path, CONFIG).begin(resumed=True)  # the work of an older octopus
    Stage("lm", tmp_path, CONFIG).begin(resumed=False)
    Stage("lm", tmp_path, CONFIG).begin(resumed=True)
    assert capsys.readouterr().err == ""
    Stage("lm", tmp_path, {**CONFIG, "rate": 2e-3}).begin(resumed=True)
    assert f"remove {tmp_path} to start over" in capsys.readouterr().err


def test_talk_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage("calls", tmp_path, CONFIG)
    stage.say("half way")
    stage.progress(10).update()
    written = capsys.readouterr()
    assert written.out == "" and written.err == "[calls] half way\n"  # no bar where no terminal is
