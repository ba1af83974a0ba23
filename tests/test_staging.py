"""Folders appear whole or not at all, and finished parts of an interrupted run are used again."""

from __future__ import annotations

from pathlib import Path

import pytest

from octopus.errors import ModelError
from octopus.staging import staged


def write(name: str, text: str = "x") -> object:
    def make(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return [name]

    return make


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with staged(target, "last.json") as staging:
        (staging.folder / "a.txt").write_text("a")
        (staging.folder / "last.json").write_text("{}")
        assert not target.exists()
    assert {path.name for path in target.iterdir()} == {"a.txt", "last.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged(tmp_path / "out", "last.json") as staging:  # noqa: PT012
        (staging.folder / "a.txt").write_text("a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(ModelError), staged(tmp_path / "out", "a", key="one") as staging:  # noqa: PT012
        staging.part("a", write("a"))  # type: ignore[arg-type]
        raise ModelError("differs from the checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_finished_parts_survive_an_interruption(tmp_path: Path) -> None:
    made: list[str] = []

    def part(name: str) -> object:
        def make(folder: Path) -> list[str]:
            made.append(name)
            (folder / name).write_text(name)
            return [name]

        return make

    for attempt in range(2):
        try:
            with staged(tmp_path / "out", "c", key="same") as staging:
                staging.part("a", part("a"))  # type: ignore[arg-type]
                staging.part("b", part("b"))  # type: ignore[arg-type]
                if attempt == 0:
                    raise KeyboardInterrupt
                staging.part("c", part("c"))  # type: ignore[arg-type]
        except KeyboardInterrupt:
            assert not (tmp_path / "out").exists()
    assert made == ["a", "b", "c"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "b", "c"}


def test_parts_of_something_else_are_not_used(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "out", "a", key="one") as staging:  # noqa: PT012
        staging.part("a", write("a", "old"))  # type: ignore[arg-type]
        raise KeyboardInterrupt
    with staged(tmp_path / "out", "a", key="two") as staging:
        staging.part("a", write("a", "new"))  # type: ignore[arg-type]
    assert (tmp_path / "out" / "a").read_text() == "new"


def test_an_existing_folder_keeps_what_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    for name in ("README.md", "graph_old.onnx", "manifest.json"):
        (target / name).write_text("old")
    with staged(target, "manifest.json", stale=["graph_*.onnx"]) as staging:
        for name in ("graph_new.onnx", "manifest.json"):
            (staging.folder / name).write_text("new")
    found = {path.name: path.read_text() for path in target.iterdir()}
    assert found == {"README.md": "old", "graph_new.onnx": "new", "manifest.json": "new"}


def test_a_target_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ModelError), staged(target, "x"):
            pass
