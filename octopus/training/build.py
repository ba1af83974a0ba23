"""`octopus data build`: from a folder of photos and text, and the annotated requests, to what training reads.

Writes into the run folder's `data/`: the packed photos, the tokenizer, `dev.jsonl` (development cases) and `built.json`
(counts, and the proof that the two sides share nothing).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from tokenizers import Tokenizer

import octopus.functions
from octopus.errors import OctopusError
from octopus.tokens import FILE_NAME, train_tokenizer
from octopus.training import corpus, photos
from octopus.training.data import PhotoChoice, cases, check_apart, save_cases
from octopus.training.photos import Photos
from octopus.training.requests import Request, read_requests, split

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FUNCTIONS = Path(octopus.functions.__file__).resolve().parent
REQUESTS, LABELS, WORDS = FUNCTIONS / "requests", FUNCTIONS / "labels.tsv", FUNCTIONS / "words.tsv"
RECIPES = Path(__file__).parent / "recipes"
DEFAULT_DATA = Path("../shared/data")
DEFAULT_RUN = Path("runs/nano")


def recipe(name: str) -> dict[str, Any]:
    """A recipe by name (`nano`) or file."""
    path = RECIPES / f"{name}.toml" if not name.endswith(".toml") else Path(name)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise OctopusError(f"no recipe {name}", f"known: {known}; or give a .toml file")
    return tomllib.loads(path.read_text(encoding="utf-8"))


@dataclass
class Built:
    """A built data folder, loaded."""

    folder: Path

    @cached_property
    def photos(self) -> Photos:
        """The packed photos."""
        return Photos(self.folder, LABELS)

    @property
    def tokenizer(self) -> Tokenizer:
        """The bilingual tokenizer."""
        path = self.folder / FILE_NAME
        if not path.exists():
            raise OctopusError(f"{path} is missing", "run `octopus data build` first")
        return Tokenizer.from_file(str(path))

    def requests(self) -> tuple[list[Request], list[Request]]:
        """Annotated requests: training and development side."""
        return split(read_requests(REQUESTS))


def label_names() -> list[str]:
    """All names of things, with a space in front as they stand in a sentence."""
    with LABELS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [f" {row[key]}" for row in rows for key in ("name_en", "name_zh", "broader_en", "broader_zh")]


def build(data: Path, out: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Make whatever is not there yet; counts."""
    if not (data / "images").is_dir():
        raise OctopusError(f"{data / 'images'} is not a folder", "point --data to the folder with images/ and text/")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "photos.npy").exists():
        photos.pack(data / "images", LABELS, out, config["data"]["photo_size"], sys.stderr.isatty())
    if not (out / FILE_NAME).exists():
        texts = corpus.documents(data / "text") + label_names() * 5
        train_tokenizer(texts, config["data"]["vocabulary"]).save(str(out / FILE_NAME))
    built = Built(out)
    train, dev = built.requests()
    packed = built.photos
    counts: dict[str, Any] = check_apart(train, dev, packed)
    found = list(cases(dev, PhotoChoice(packed, "dev")))
    save_cases(found, out / "dev.jsonl")
    counts |= {"cases": len(found), "photos_left_out_as_duplicates": packed.split.count("duplicate")}
    (out / "built.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    return counts


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default=True, metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), default=DEFAULT_RUN / "data", show_default=True, metavar="DIR")
@click.option("--recipe", "name", default="nano", show_default=True, metavar="NAME|FILE")
def command(data: Path, out: Path, name: str) -> None:
    """Make the training and development sets from a data folder (about 5 GB and 5 minutes)."""
    click.echo(json.dumps(build(data, out, recipe(name))))


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit code."""
    command.main(list(arguments), prog_name="octopus data build", standalone_mode=False)
    return 0
