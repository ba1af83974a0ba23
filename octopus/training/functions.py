"""Stage `functions` (and the second half of `lm`): from a request, with or without a photo, to its calls.

In go a training mixture and a model; out comes the model tuned to write the id form of the calls. Loss is on the answer
only, with extra weight on function tokens. The vision tower is frozen and sees a new crop of a photo each time. In the
`calls` stage there is no tower yet and the photo is told in words. Batches are buckets of like length, built by number,
so that a resumed run sees the same examples.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import LlavaForConditionalGeneration, PreTrainedModel, Trainer, TrainerCallback

from octopus.core import Call, Function
from octopus.tokens import Tokens
from octopus.training.clip import Store, augment, plain, store
from octopus.training.data import CAPTION, Case
from octopus.training.lm import arguments, go_on
from octopus.training.photos import Photos
from octopus.training.requests import Example
from octopus.training.stage import Stage, autocast

BUCKETS = (24, 32, 48, 80, 160)
"""Row lengths; few, because each is compiled once."""
FUNCTION_WEIGHT = 3.0
FORGOTTEN = (0.0, 0.0, 0.1, 0.2)
"""Shares of the words of a prompt that training blanks."""
IGNORED = -100


class Source(Protocol):
    """Numbered examples, each with the row of its photo or None."""

    def example(self, index: int) -> tuple[Example, int | None]:
        """The example of a number."""


@dataclass(frozen=True)
class Row:
    """One training row: ids, where the answer starts, the photo, and the places of words that may be forgotten."""

    ids: list[int]
    start: int
    photo: int
    words: range = range(0)


class Encoder:
    """Requests and calls as rows of ids. With `image_tokens` 0 a photo is told in words instead."""

    def __init__(self, tokens: Tokens, registry: Mapping[str, Function], image_tokens: int, photos: Photos) -> None:
        self.tokens, self.registry, self.image_tokens, self.photos = tokens, registry, image_tokens, photos

    def prompt(self, text: str, photo: int | None, lang: str) -> list[int]:
        """Ids in front of the answer."""
        if photo is None or self.image_tokens:
            return self.tokens.encode_prompt(text, 0 if photo is None else self.image_tokens)
        label = self.photos.labels[self.photos.label_N[photo]]
        told = f" photo: {label.name_en if lang == 'en' else label.name_zh}\n"
        return self.tokens.encode_text(told) + self.tokens.encode_prompt(text, 0)

    def row(self, text: str, calls: Sequence[Call], photo: int | None, lang: str) -> Row:
        """The whole row; the answer of a caption is bare words."""
        prompt = self.prompt(text, photo, lang)
        if calls[0].name == CAPTION:
            answer = [*self.tokens.encode_value(calls[0].arguments["words"], ""), self.tokens.manifest.special.end]
        else:
            answer = self.tokens.encode_calls(calls, text, self.registry)
        words = self._words(prompt, text) if all(self._copied(call, photo) for call in calls) else range(0)
        return Row(prompt + answer, len(prompt), -1 if photo is None or not self.image_tokens else photo, words)

    def _words(self, prompt: list[int], text: str) -> range:
        """Where the request stands in its prompt."""
        request = self.tokens.encode_query(text)
        places = range(len(prompt) - len(request), -1, -1)
        start = next((place for place in places if prompt[place : place + len(request)] == request), len(prompt))
        return range(start, min(len(prompt), start + len(request)))

    def _copied(self, call: Call, photo: int | None) -> bool:
        """Whether no argument is read from words without being written in them, as numbers and choices are."""
        parameters = self.registry[call.name].parameters if call.name in self.registry else ()
        return call.name != CAPTION and not any(
            (parameter.kind == "integer" and call.arguments.get(parameter.name, parameter.default) != parameter.default)
            or (parameter.kind == "enum" and photo is None)
            for parameter in parameters
        )


class Batches(Dataset[dict[str, Tensor]]):
    """Ready batches of about `tokens` ids, item i the same in every run; process `part` of `parts` takes its rows."""

    POOL = 16

    def __init__(
        self, source: Source, encoder: Encoder, tokens: int, count: int, part: int = 0, parts: int = 1
    ) -> None:
        self.source, self.encoder, self.tokens, self.count = source, encoder, tokens, count
        self.part, self.parts = part, parts
        self._pool: tuple[int, list[list[Row]]] = (-1, [])
        self._per_pool = self.POOL * tokens // 40  # examples, at about 40 ids each

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, place = divmod(index, self.POOL)
        if self._pool[0] != number:
            self._pool = (number, self._fill(number))
        batches = self._pool[1]
        rows = batches[place % len(batches)]
        return collate(rows[self.part :: self.parts] or rows[:1], self.encoder)  # every process needs a row

    def _fill(self, number: int) -> list[list[Row]]:
        rows = []
        for i in range(number * self._per_pool, (number + 1) * self._per_pool):
            example, photo = self.source.example(i)
            row = self.encoder.row(example.text, example.calls, photo, example.lang)
            rows.append(forget(row, self.encoder.tokens, random.Random(f"forget {i}")))
        rng = random.Random(number)
        rng.shuffle(rows)
        batches = []
        for low, high in zip((0, *BUCKETS), BUCKETS, strict=False):
            of_size = [row for row in rows if low < len(row.ids) <= high]
            size = self.tokens // high
            batches += [of_size[i : i + size] for i in range(0, len(of_size) - size + 1, size)]
        rng.shuffle(batches)
        return batches


def forget(row: Row, tokens: Tokens, rng: random.Random) -> Row:
    """A row with some words of its request blanked, but none that its answer says.

    The meaning of a request hangs on more than one of its words; a small model would learn lines by heart by a few of
    them (word dropout: Iyyer et al., 2015).
    """
    share, said = rng.choice(FORGOTTEN), set(row.ids[row.start :])
    words: list[list[int]] = []
    for place in row.words:
        piece = tokens.pieces.bytes[row.ids[place]] or b""
        if words and piece[:1].isalnum():  # not a space, and not a character of a script without spaces
            words[-1].append(place)
        else:
            words.append([place])
    ids = list(row.ids)
    for word in words:
        if rng.random() < share and said.isdisjoint(row.ids[place] for place in word):
            for place in word:
                ids[place] = tokens.manifest.special.pad
    return replace(row, ids=ids)


def collate(rows: Sequence[Row], encoder: Encoder) -> dict[str, Tensor]:
    """Padded ids, labels (answer only), loss weights and photo numbers (-1: none)."""
    longest = max(len(row.ids) for row in rows)
    length = next((bucket for bucket in BUCKETS if bucket >= longest), longest)
    ids = torch.full((len(rows), length), encoder.tokens.manifest.special.pad)
    labels = torch.full((len(rows), length), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, row.start : len(row.ids)] = ids[i, row.start : len(row.ids)]
    return {"ids": ids, "labels": labels, "photos": torch.tensor([row.photo for row in rows])}


def spread(count: int, workers: int, pool: int = Batches.POOL) -> list[int]:
    """The order of `count` batches that lets each loader process, given every `workers`-th one, fill whole pools."""
    order = []
    for place in range(count):
        turn, worker = divmod(place, max(1, workers))
        order.append((worker + turn // pool * max(1, workers)) * pool + turn % pool)
    return order


def seen(model: LlavaForConditionalGeneration, stored: Store, rows: NDArray[np.int64]) -> Tensor:
    """What the frozen tower makes of photos, `[len(rows), T, C]`: of a new crop of each in training, else the whole."""
    tower = model.model.vision_tower.eval()
    size = tower.config.image_size
    if model.training:
        images = augment(stored.pixels(rows), size, torch.default_generator, smallest=0.5)
    else:
        images = plain(stored.pixels(rows), size)
    with torch.no_grad():
        states: Tensor = tower(images).last_hidden_state.float()
    return states


def answer_states(
    model: PreTrainedModel, batch: Mapping[str, Tensor], stored: Store | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Logits `[A, V]` where the next id belongs to an answer, and those ids `[A]`."""
    ids, photos = batch["ids"], batch["photos"]
    embeds_BTD = functional.dropout(model.get_input_embeddings()(ids), dropout, model.training)
    body = model.model
    if isinstance(model, LlavaForConditionalGeneration):
        body = model.model.language_model
        rows = photos[photos >= 0].cpu().numpy()
        if len(rows) and stored is not None:
            projected = model.model.multi_modal_projector(seen(model, stored, rows)).to(embeds_BTD.dtype)
            mask = (ids == model.config.image_token_id).unsqueeze(-1)
            embeds_BTD = embeds_BTD.masked_scatter(mask, projected)
    hidden_BTD = body(inputs_embeds=embeds_BTD, use_cache=False).last_hidden_state
    target_BT = batch["labels"][:, 1:]
    chosen = target_BT != IGNORED
    logits = model.get_output_embeddings()(hidden_BTD[:, :-1][chosen])
    return logits.float(), target_BT[chosen]


class Answers(nn.Module):
    """A model and the loss of its answers as one module, because distributed training must see all of the forward pass.

    Function tokens weigh more. Returns the weighted sum of cross-entropies and the sum of weights.
    """

    function_ids: Tensor

    def __init__(self, model: PreTrainedModel, function_ids: Tensor, stored: Store | None, dropout: float) -> None:
        super().__init__()
        self.model, self.stored, self.dropout = model, stored, dropout
        self.register_buffer("function_ids", function_ids, persistent=False)

    def forward(self, ids: Tensor, labels: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
        """`ids` and `labels` [B, T], `photos` [B]: a batch as `collate` makes it."""
        batch = {"ids": ids, "labels": labels, "photos": photos}
        logits, target = answer_states(self.model, batch, self.stored, self.dropout)
        weight = torch.where(torch.isin(target, self.function_ids), FUNCTION_WEIGHT, 1.0)
        loss = functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.02)
        return (loss * weight).sum(), weight.sum()


class AnswerTrainer(Trainer):
    """Trains `Answers`. Every process takes its rows of the same batch, so that a step is the same on any number."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches in their order, pool by pool: they are mixed already, and a pool is dear to make."""
        workers = self.args.dataloader_num_workers
        order = cast("Sampler[int]", spread(len(self.train_dataset), workers))
        return DataLoader(self.train_dataset, sampler=order, collate_fn=self.data_collator, num_workers=workers)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Mean over the answers of all processes; gradients are averaged over processes, hence the factor."""
        loss, weight = model(**inputs)
        everywhere = self.accelerator.reduce(weight.detach(), "sum")
        return cast("Tensor", loss * self.accelerator.num_processes / everywhere)


@torch.no_grad()
def score(model: PreTrainedModel, encoder: Encoder, cases: Sequence[Case], stored: Store | None) -> dict[str, float]:
    """Quick development scores: right function (softmax over functions) and whole answers as greedy decoding has them.

    A greedy answer is right exactly if every next id is right given the right ones before it.
    """
    model.eval()
    functions = torch.tensor(sorted(encoder.tokens.function_ids))
    tally: dict[str, list[float]] = {}
    rows = [encoder.row(case.text, case.calls, case.photo, case.lang) for case in cases]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for start in range(0, len(order), 128):
        chosen = order[start : start + 128]
        batch = collate([rows[i] for i in chosen], encoder)
        device = model.device
        with torch.compiler.set_stance("force_eager"), autocast(device):
            logits, target = answer_states(model, {k: v.to(device) for k, v in batch.items()}, stored)
        right, at = (logits.argmax(1) == target).cpu(), 0
        for i in chosen:
            count = len(rows[i].ids) - rows[i].start
            first = functions[logits[at, functions].argmax().cpu()].item()
            case = cases[i]
            good = first == rows[i].ids[rows[i].start]
            tally.setdefault(f"function/{case.lang}", []).append(good)
            if case.role != "needed":
                tally.setdefault(f"answer/{case.lang}", []).append(bool(right[at : at + count].all()))
            elif case.domain:
                tally.setdefault(f"photo/{case.domain}", []).append(bool(right[at : at + count].all()))
            if case.calls[0].name == "irrelevant_function":
                tally.setdefault("refusal", []).append(good)
            at += count
    model.train()
    return {key: float(np.mean(values)) for key, values in sorted(tally.items())}


class Watch(TrainerCallback):
    """Curve, development scores, and a stop after so many minutes."""

    def __init__(self, stage: Stage, check: Any, every: int) -> None:
        self.stage, self.check, self.every = stage, check, every

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Write the loss to the curve, and say it."""
        if logs and "loss" in logs and state.is_world_process_zero:
            self.stage.log(state.global_step, loss=logs["loss"])
            self.stage.say(f"step {state.global_step}/{state.max_steps} loss {logs['loss']:.3f}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Score now and then."""
        if state.global_step % self.every == 0 and state.is_world_process_zero:
            scores = self.check()
            self.stage.log(state.global_step, **scores)
            shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
            self.stage.say(f"step {state.global_step}/{state.max_steps}: {shown} (chance of a function: 0.09)")


def tune(
    stage: Stage,
    model: PreTrainedModel,
    source: Source,
    encoder: Encoder,
    cases: Sequence[Case],
    config: Mapping[str, Any],
    photos: Photos | None = None,
) -> dict[str, float]:
    """Train the model in place on the source; development scores of the result. `photos`: what a vision tower sees."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stored = store(photos, device) if photos is not None else None
    if config.get("compile", False):
        body = model.model.language_model if isinstance(model, LlavaForConditionalGeneration) else model.model
        body.compile(dynamic=False)
    functions = torch.tensor(sorted(encoder.tokens.function_ids))
    options = {
        "seed": 1,
        "dataloader_num_workers": config.get("workers", 0),
        "ddp_find_unused_parameters": True,  # the projector, in a batch without photos
        "save_safetensors": False,  # which refuses tied embeddings of a module that is not a model of transformers
    }
    training = arguments(stage, config["steps"], 1, config["rate"], **options)
    batches = Batches(source, encoder, config["tokens"], config["steps"], training.process_index, training.world_size)
    trainer = AnswerTrainer(
        model=Answers(model, functions, stored, config.get("dropout", 0.0)),
        args=training,
        train_dataset=batches,
        data_collator=lambda items: items[0],
        callbacks=[Watch(stage, lambda: score(model, encoder, cases, stored), config["check_every"])],
    )
    go_on(trainer, stage)
    return score(model, encoder, cases, stored)
