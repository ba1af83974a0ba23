"""Stage `lm`: a small Llama learns English and Chinese before it learns to call functions.

In go documents and a tokenizer; out comes a stock `LlamaForCausalLM` folder. Token embeddings start from word2vec on
the same documents (minutes, and worth many more of pre-training). Documents are packed into rows of equal length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from octopus.errors import OctopusError
from octopus.model import load_llava
from octopus.training.stage import Stage, is_main_process, precision


def build(config: Mapping[str, Any], vocabulary: int) -> LlamaForCausalLM:
    """An untrained Llama of the recipe's sizes, embeddings tied."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=config["width"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            num_key_value_heads=config["heads"],
            intermediate_size=config["feed_forward"],
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=5,
            pad_token_id=0,
            attn_implementation=attention(),
        )
    )


def take(module: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Copy weights into a module of the same shape.

    Raises:
        OctopusError: `origin` holds a model of other sizes.
    """
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise OctopusError(
            f"the checkpoint {origin} does not fit the recipe: {str(error).splitlines()[-1].strip()}",
            "start from a checkpoint of the same trunk and sizes, or leave --start out",
        ) from error


def attention() -> str:
    """Which attention code trains faster: with rows this short, fused attention is slower on a CPU."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def word_vectors(tokenizer: Tokenizer, ids: NDArray[np.uint16], width: int, workers: int) -> NDArray[np.float32]:
    """word2vec (Mikolov et al. 2013, skip-gram) over token ids, `[V, width]`; unseen tokens get zeros."""
    from gensim.models import Word2Vec

    class Windows:
        def __iter__(self) -> Iterator[list[int]]:
            for start in range(0, len(ids), 500):
                yield ids[start : start + 500].tolist()

    model = Word2Vec(Windows(), vector_size=width, window=6, sg=0, negative=8, min_count=1, epochs=2, workers=workers)
    vectors = np.zeros((tokenizer.get_vocab_size(), width), dtype=np.float32)
    for token, place in model.wv.key_to_index.items():
        vectors[token] = model.wv.vectors[place]
    return np.asarray(vectors / vectors.std(), dtype=np.float32)


def stored_word_vectors(stage: Stage, tokenizer: Tokenizer, ids: NDArray[np.uint16]) -> NDArray[np.float16]:
    """The word vectors of a stage's recipe, kept in its folder: they take minutes."""
    path, width = stage.folder / "words.npy", stage.config["width"]
    vectors: NDArray[np.float16] = np.load(path) if path.exists() else np.empty((0, 0), np.float16)
    if vectors.shape != (tokenizer.get_vocab_size(), width):
        vectors = word_vectors(tokenizer, ids, width, torch.get_num_threads()).astype(np.float16)
        np.save(path, vectors)
    return vectors


class Packed(Dataset[dict[str, Tensor]]):
    """Rows of `length` tokens cut from one long stream, in a new order each epoch; row i is the same in every run."""

    def __init__(self, ids: NDArray[np.uint16], length: int, count: int) -> None:
        self.ids, self.length, self.count = ids, length, count
        self.rows = len(ids) // length - 1
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        epoch, place = divmod(index, self.rows)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([2, epoch]).permutation(self.rows))
        start = int(self._order[1][place]) * self.length + epoch * 17 % self.length
        return {"input_ids": torch.from_numpy(self.ids[start : start + self.length].astype(np.int64))}


def pack(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.uint16]:
    """All documents as one stream of ids, `<s>` in front of each."""
    start = tokenizer.token_to_id("<s>")
    stream: list[int] = []
    for encoding in tokenizer.encode_batch([" " + text for text in texts], add_special_tokens=False):
        stream.append(start)
        stream += encoding.ids
    return np.asarray(stream, dtype=np.uint16)


class NextToken(Trainer):
    """Plain next-token loss, with the body compiled."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Mean cross-entropy of each next id."""
        ids = inputs["input_ids"]
        hidden = model(input_ids=ids, use_cache=False).logits
        return functional.cross_entropy(hidden[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


class Report(TrainerCallback):
    """Writes the Trainer's log to the stage's curve and says loss next to chance."""

    def __init__(self, stage: Stage, chance: float) -> None:
        self.stage, self.chance = stage, chance

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Write the loss, and say it now and then."""
        if logs and "loss" in logs and state.is_world_process_zero:
            self.stage.log(state.global_step, loss=logs["loss"])
            if state.global_step % (10 * args.logging_steps) == 0:
                self.stage.say(
                    f"step {state.global_step}/{state.max_steps} {logs['loss']:.3f} (chance {self.chance:.2f})"
                )


class Progress(TrainerCallback):
    """The stage's progress bar, in place of the lines that the Trainer prints."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar where an earlier run stopped."""
        self.bar = self.stage.progress(state.max_steps, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step more."""
        self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        self.bar.close()


def arguments(stage: Stage, steps: int, batch: int, rate: float, **more: Any) -> TrainingArguments:
    """What every Trainer stage has in common."""
    options: dict[str, Any] = {
        "output_dir": str(stage.folder / "trainer"),
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(100, steps // 10),
        "weight_decay": 0.05,
        "adam_beta2": 0.98,
        "max_grad_norm": 1.0,
        "bf16": precision() == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 10,
        "save_steps": max(100, steps // 8),
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "optim": "adamw_torch_fused",
        "seed": 0,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**{**options, **more})


def resume_point(stage: Stage) -> bool:
    """Whether the Trainer has a checkpoint to go on from."""
    return any((stage.folder / "trainer").glob("checkpoint-*/trainer_state.json"))


def go_on(trainer: Trainer, stage: Stage) -> None:
    """Train to the end, from the last checkpoint if there is one; nothing is printed on stdout, which is for data."""
    stage.begin(resume_point(stage))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress(stage))
    trainer.train(resume_from_checkpoint=resume_point(stage) or None)


def train(
    stage: Stage, tokenizer: Tokenizer, texts: Sequence[str], held_out: Sequence[str], start: Path | None = None
) -> None:
    """Run the stage and save `model/`. `start`: a checkpoint whose language model to go on from."""
    config = stage.config
    torch.manual_seed(0)
    model = build(config, tokenizer.get_vocab_size())
    ids = pack(tokenizer, texts)
    stage.say(f"{len(ids):,} tokens, {sum(p.numel() for p in model.parameters()):,} parameters")
    if start and not resume_point(stage):
        take(model.model, load_llava(start).model.language_model.state_dict(), start)
    elif not resume_point(stage):
        with PartialState().main_process_first():  # the others read what it has stored
            vectors = stored_word_vectors(stage, tokenizer, ids)
        with torch.no_grad():
            model.model.embed_tokens.weight.copy_(torch.from_numpy(vectors).float() * 0.02)
        stage.say("word vectors are in")
    if config.get("compile", False):
        model.model.compile(dynamic=False)
    rows = Packed(ids, config["length"], config["steps"] * config["batch"])
    processes = PartialState().num_processes  # which share a batch
    trainer = NextToken(
        model=model,
        args=arguments(stage, config["steps"], config["batch"] // processes, config["rate"]),
        train_dataset=rows,
        callbacks=[Report(stage, math.log(tokenizer.get_vocab_size()))],
    )
    go_on(trainer, stage)
    test = pack(tokenizer, held_out)
    loss = evaluate(model, Packed(test, config["length"], len(test) // config["length"] - 1))
    model.save_pretrained(stage.folder / "model", is_main_process=is_main_process())
    stage.finish(held_out_loss=loss, chance=math.log(tokenizer.get_vocab_size()), tokens=len(ids))


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, rows: Packed) -> float:
    """Mean next-token loss in nats over packed rows."""
    model.eval()
    losses = []
    for start in range(0, min(len(rows), 512), 32):
        ids = torch.stack([rows[i]["input_ids"] for i in range(start, min(start + 32, len(rows)))]).to(model.device)
        losses.append(float(model(input_ids=ids, labels=ids).loss))
    return float(np.mean(losses))


def load(folder: Path) -> LlamaForCausalLM:
    """The stage's result."""
    return LlamaForCausalLM.from_pretrained(folder / "model", attn_implementation=attention())
