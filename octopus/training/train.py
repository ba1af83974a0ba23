"""`octopus train STAGE`: runs one stage of a recipe, or all, each going on where it was stopped.

    lm ----> calls --\
                      align --> functions --> a checkpoint folder, ready for `python -m octopus.export`
    clip -----------/

lm: English and Chinese text. calls: requests with the photo told in words. clip: photos and their names. align: the
language model reads the tower. functions: requests with real photos.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from octopus.errors import OctopusError
from octopus.manifest import ImageSpec
from octopus.model import build_llava, load_llava
from octopus.registry import Registry
from octopus.tokens import FILE_NAME, FUNCTION_TOKENS, Tokens, new_manifest
from octopus.training import align, clip, corpus, functions, lm
from octopus.training.augment import Vocabulary, auxiliary
from octopus.training.build import DEFAULT_DATA, DEFAULT_RUN, LABELS, WORDS, Built, recipe
from octopus.training.data import Captions, Mixture, PhotoChoice, cases, spoken
from octopus.training.requests import Request
from octopus.training.stage import Stage, is_main_process

STAGES = ("lm", "calls", "clip", "align", "functions")
HELD_OUT_DOCUMENTS = 2000


class Run:
    """One run of a recipe in a folder: what its stages read and write."""

    def __init__(self, folder: Path, data: Path, config: dict[str, Any]) -> None:
        self.folder, self.data, self.config = folder, data, config
        self.built = Built(folder / "data")
        self.registry = Registry.default()

    def stage(self, name: str, *inputs: str) -> Stage:
        """A stage and the files it depends on (paths inside the run folder, the stage that writes each in front).

        Raises:
            OctopusError: A file is not there yet; the hint says what writes it.
        """
        files = (LABELS, WORDS, self.folder / "data" / FILE_NAME, *(self.folder / path for path in inputs))
        for path, hint in zip(
            files[2:], ("data build", *(f"train {path.split('/')[0]}" for path in inputs)), strict=True
        ):
            if not path.exists():
                raise OctopusError(f"{path} is missing", f"run `octopus {hint}` first")
        return Stage(name, self.folder / name, self.config[name], files)

    def tokens(self, image: ImageSpec | None = None) -> Tokens:
        """The tokenizer with a manifest of the registered functions."""
        pairs = dict(zip(FUNCTION_TOKENS, self.registry.values(), strict=False))
        names = spoken(self.built.photos.labels)
        manifest = new_manifest(self.built.tokenizer, pairs, image=image, copies=True, names=names)
        return Tokens(self.built.tokenizer, manifest)

    def mixture(
        self, choice: PhotoChoice, share: float = 1.0, captions: Captions | None = None
    ) -> tuple[Mixture, list[Any]]:
        """Training examples (from a share of the annotated lines) and development cases."""
        train, dev = self.built.requests()
        lines = thinned(train, share)
        words = Vocabulary.from_requests(lines, self.data, WORDS)
        examples = Mixture(lines, words, choice, auxiliary(self.data), captions)
        return examples, list(cases(dev, PhotoChoice(choice.photos, "dev")))


def thinned(requests: Sequence[Request], share: float) -> list[Request]:
    """A fixed share of the lines, whole groups, for learning curves."""
    groups = sorted({request.group for request in requests})
    kept = set(np.random.default_rng(3).permutation(groups)[: math.ceil(share * len(groups))].tolist())
    return [request for request in requests if request.group in kept]


def train_lm(run: Run, start: Path | None = None) -> None:
    """Stage `lm`."""
    stage = run.stage("lm")
    if stage.is_done():
        return stage.say("already done")
    texts = corpus.documents(run.data / "text")
    lm.train(stage, run.built.tokenizer, texts[HELD_OUT_DOCUMENTS:], texts[:HELD_OUT_DOCUMENTS], start)


def train_calls(run: Run, share: float = 1.0) -> None:
    """Stage `calls`."""
    stage = run.stage("calls", "lm/model/model.safetensors")
    if stage.is_done():
        return stage.say("already done")
    photos = run.built.photos
    examples, held_out = run.mixture(PhotoChoice(photos, "train"), share)
    encoder = functions.Encoder(run.tokens(), run.registry, 0, photos)
    model = lm.load(run.folder / "lm")
    scores = functions.tune(stage, model, examples, encoder, held_out, stage.config)
    model.save_pretrained(stage.folder / "model", is_main_process=is_main_process())
    stage.finish(held_out=scores)


def train_clip(run: Run, minutes: float | None, start: Path | None = None) -> None:
    """Stage `clip`."""
    stage = run.stage("clip")
    if stage.is_done():
        return stage.say("already done")
    clip.train(stage, run.built.photos, run.built.tokenizer, minutes, start)


def vision(run: Run, tower: Any, folder: Path) -> tuple[NDArray[np.float16], PhotoChoice, ImageSpec]:
    """The features of a tower, stored in `folder`, the choice of photos it is sure of, and the image spec."""
    photos = run.built.photos
    with PartialState().main_process_first():  # the others read what it has stored
        stored = align.features(tower, photos, folder / "features.npy")
    certain = align.certainty(stored, photos)
    size = tower.config.image_size
    spec = ImageSpec(size=size, mean=clip.MEAN, std=clip.STD, tokens=tower.config.image_tokens, fit="squash")
    return stored, PhotoChoice(photos, "train", certain), spec


def train_align(run: Run) -> None:
    """Stage `align`: the projector alone, then with the language model."""
    stage = run.stage("align", "calls/model/model.safetensors", "clip/checkpoint.pt")
    if stage.is_done():
        return stage.say("already done")
    tower = align.tower(run.folder / "clip", run.config["clip"])
    stored, choice, spec = vision(run, tower, run.folder / "clip")
    gate = align.probe(stored, choice.photos)
    align.gate(stage, gate)
    tokens = run.tokens(spec)
    encoder = functions.Encoder(tokens, run.registry, spec.tokens, choice.photos)
    torch.manual_seed(0)
    model = build_llava(tower, lm.load(run.folder / "calls"), tokens.manifest.special.image)
    model.model.vision_tower.requires_grad_(False)
    start = align.point_at_words(model, stored, choice.photos, tokens, stage.config["words"])
    stage.say("names by word vectors: " + ", ".join(f"{key} {value:.3f}" for key, value in start.items()))
    captions = Captions(choice)
    for part, config in (("projector", stage.config["projector"]), ("all", stage.config["all"])):
        model.model.language_model.requires_grad_(part == "all")
        model.lm_head.requires_grad_(part == "all")
        inner = Stage(f"align/{part}", stage.folder / part, config, stage.inputs)
        functions.tune(inner, model, captions, encoder, (), config, choice.photos)
        inner.finish()
    save(model, tokens, stage.folder / "model")
    stage.finish(**gate, **{f"words/{key}": value for key, value in start.items()})


def train_functions(run: Run, share: float = 1.0, start: Path | None = None) -> None:
    """Stage `functions`, behind stage `align` or on a whole checkpoint, whose tower then stays as it is."""
    origin = start or run.folder / "align" / "model"
    stage = run.stage("functions", *([] if start else ["align/model/model.safetensors"]))
    if start:
        check_tokenizer(start, run.folder / "data" / FILE_NAME)
        stage.inputs += (start / "model.safetensors",)
    if stage.is_done():
        return stage.say("already done")
    model = load_llava(origin).train()
    _, choice, spec = vision(run, model.model.vision_tower, stage.folder if start else run.folder / "clip")
    tokens = run.tokens(spec)
    examples, held_out = run.mixture(choice, share, Captions(choice))
    encoder = functions.Encoder(tokens, run.registry, spec.tokens, choice.photos)
    model.model.vision_tower.requires_grad_(False)
    scores = functions.tune(stage, model, examples, encoder, held_out, stage.config, choice.photos)
    save(model, tokens, stage.folder / "model")
    stage.finish(held_out=scores)


def check_tokenizer(checkpoint: Path, built: Path) -> None:
    """Refuse to go on with a checkpoint whose ids mean other words than those of the data."""
    path = checkpoint / FILE_NAME
    if not path.is_file():
        raise OctopusError(f"{path} is missing", "--start wants a checkpoint folder: weights, manifest and tokenizer")
    if path.read_bytes() != built.read_bytes():
        raise OctopusError(
            f"{path} is another tokenizer than {built}", "copy it there, or train from nothing without --start"
        )


def save(model: Any, tokens: Tokens, folder: Path) -> None:
    """A checkpoint folder as the exporter wants it: weights, manifest, tokenizer."""
    if is_main_process():
        model.save_pretrained(folder)
        tokens.manifest.save(folder)
        tokens.save(folder)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("stage", type=click.Choice([*STAGES, "all"]))
@click.option("--recipe", "name", default="nano", show_default=True, metavar="NAME|FILE")
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default=True, metavar="DIR")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True, metavar="DIR")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads (default: all cores).")
@click.option("--minutes", type=float, help="Stop stage clip after so many minutes; run again to go on.")
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Begin stage lm, clip or functions with the weights of a checkpoint, for instance the released one.",
)
@click.option("--share", type=click.FloatRange(0.01, 1.0), default=1.0, help="Share of the annotated lines used.")
def command(
    stage: str,
    name: str,
    data: Path,
    folder: Path,
    threads: int | None,
    minutes: float | None,
    start: Path | None,
    share: float,
) -> None:
    """Run one training stage of a recipe, or all of them in order. Everything resumes after a kill.

    On several processors: `accelerate launch -m octopus train STAGE`. A step is the same on any number of them.
    """
    if threads:
        torch.set_num_threads(threads)
    run = Run(folder, data, recipe(name))
    for chosen in STAGES if stage == "all" else (stage,):
        if chosen == "lm":
            train_lm(run, start)
        elif chosen == "calls":
            train_calls(run, share)
        elif chosen == "clip":
            train_clip(run, minutes, start)
        elif chosen == "align":
            train_align(run)
        else:
            train_functions(run, share, start if stage == "functions" else None)
        if is_main_process():
            click.echo(json.dumps({"stage": chosen, "folder": str(folder / chosen)}))


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit code."""
    command.main(list(arguments), prog_name="octopus train", standalone_mode=False)
    return 0
