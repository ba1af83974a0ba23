"""Thousands of inputs that nobody would type, through Agent.plan: how many outputs are malformed, or end in a crash.

    python benchmarks/fuzz.py [-n 10000] [--seed 0] [--model DIR] [-o FILE]

Random characters of every script, emojis, control characters, requests cut and spliced, special tokens typed out; half
of them with a picture: noise, stripes, one colour, one pixel. A clear TextError or ImageError is an answer; anything
else that is not a valid plan counts as malformed. Ends with 1 when there is one.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from octopus.agent import Agent
from octopus.core import Pixels
from octopus.errors import UsageError
from octopus.tokens import SPECIAL_TOKENS
from octopus.training.evaluate import FUNCTIONS
from octopus.training.requests import read_requests
from octopus.training.scores import malformed

SCRIPTS = (
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x370, 0x5FF),
    (0x600, 0x6FF),
    (0x900, 0xDFF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
)
EMOJIS = "😀😂🥲❤️👍🏽👨‍👩‍👧‍👦🇨🇳🐶🍕🏳️‍🌈☕✨"
SIZES = (1, 2, 3, 17, 96, 97, 240)


@click.command()
@click.option("-n", "count", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--model", metavar="DIR", help="Model folder, or name of a packaged model.")
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="FILE", help="Write the JSON here as well.")
def main(count: int, seed: int, model: str | None, out: Path | None) -> None:
    """Count malformed outputs."""
    agent = Agent(model)
    lines = [request.text for request in read_requests(FUNCTIONS / "requests")]
    rng = random.Random(seed)
    endings: Counter[str] = Counter()
    examples = []
    for _ in tqdm(range(count), desc="fuzz", disable=None):
        kind, text = strange_text(rng, lines)
        photo = strange_photo(rng) if rng.random() < 0.5 else None
        ending, why = attempt(agent, text, photo)
        endings[ending] += 1
        if ending == "malformed":
            examples.append({"kind": kind, "text": text, "photo": photo is not None, "why": why})
    found = {"model": agent.model, "inputs": count, "seed": seed, **{name: endings[name] for name in ENDINGS}}
    if out is not None:
        out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    for example in examples[:20]:
        print(json.dumps(example), file=sys.stderr)
    print(json.dumps(found))
    raise SystemExit(1 if endings["malformed"] else 0)


ENDINGS = ("called", "asked", "refused", "error", "malformed")


def attempt(agent: Agent, text: str, photo: Pixels | None) -> tuple[str, str]:
    """How one input ended, and for a malformed output why it is."""
    try:
        plan = agent.plan(text, photo)
    except UsageError as error:
        return "error", error.message
    except Exception as error:  # the very thing that is looked for
        return "malformed", f"{type(error).__name__}: {error}"
    if (why := malformed(plan, agent.registry)) is not None:
        return "malformed", why
    try:
        json.dumps([dict(call.arguments) for call in plan.calls], ensure_ascii=False).encode("utf-8")
    except ValueError as error:
        return "malformed", f"not UTF-8: {error}"
    return ("refused" if plan.refused else "asked" if plan.question else "called"), ""


def strange_text(rng: random.Random, lines: list[str]) -> tuple[str, str]:
    """A kind of strange text, and one of that kind."""
    kind = rng.choice(list(TEXTS))
    return kind, TEXTS[kind](rng, lines)


def characters(rng: random.Random, lines: list[str]) -> str:
    """Characters of any script, or of any plane at all."""
    low, high = rng.choice((*SCRIPTS, (0x1, 0x10FFFF)))
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 120)))


def with_emojis(rng: random.Random, lines: list[str]) -> str:
    return sprinkled(rng, rng.choice(lines), [rng.choice(EMOJIS) for _ in range(rng.randint(1, 12))])


def with_controls(rng: random.Random, lines: list[str]) -> str:
    codes = [*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x200F, 0x202E, 0x2066, 0xFEFF, 0xFFFD, 0xD800, 0xDFFF]
    return sprinkled(rng, rng.choice(lines), [chr(rng.choice(codes)) for _ in range(rng.randint(1, 12))])


def with_tokens(rng: random.Random, lines: list[str]) -> str:
    return sprinkled(rng, rng.choice(lines), rng.choices(SPECIAL_TOKENS, k=rng.randint(1, 6)))


def cut(rng: random.Random, lines: list[str]) -> str:
    line = rng.choice(lines)
    start = rng.randrange(len(line))
    return line[start : start + rng.randint(1, len(line))]


def spliced(rng: random.Random, lines: list[str]) -> str:
    pieces = [cut(rng, lines) for _ in range(rng.randint(2, 5))]
    return rng.choice(("", " ", ", ", "，", "\n")).join(pieces)


def shuffled(rng: random.Random, lines: list[str]) -> str:
    letters = list(rng.choice(lines))
    rng.shuffle(letters)
    return "".join(letters)


def repeated(rng: random.Random, lines: list[str]) -> str:
    return cut(rng, lines) * rng.randint(2, 60)


def numbers(rng: random.Random, lines: list[str]) -> str:
    return sprinkled(rng, rng.choice(lines), [str(rng.randrange(-(10**9), 10**12)) for _ in range(rng.randint(1, 3))])


def sprinkled(rng: random.Random, line: str, pieces: list[str]) -> str:
    for piece in pieces:
        place = rng.randint(0, len(line))
        line = line[:place] + piece + line[place:]
    return line


TEXTS: dict[str, Callable[[random.Random, list[str]], str]] = {
    make.__name__: make
    for make in (characters, with_emojis, with_controls, with_tokens, cut, spliced, shuffled, repeated, numbers)
}


def strange_photo(rng: random.Random) -> Pixels:
    """Noise, one colour, a gradient or stripes, of any small size and shape."""
    height, width = rng.choice(SIZES), rng.choice(SIZES)
    kind = rng.choice(("noise", "colour", "gradient", "stripes"))
    if kind == "noise":
        noise = np.frombuffer(rng.randbytes(height * width * 3), np.uint8)
        return noise.reshape(height, width, 3).copy()
    colour = np.array([rng.randrange(256) for _ in range(3)], np.uint8)
    photo_HWC = np.broadcast_to(colour, (height, width, 3)).copy()
    if kind == "gradient":
        photo_HWC = (photo_HWC * np.linspace(0, 1, width)[None, :, None]).astype(np.uint8)
    elif kind == "stripes":
        photo_HWC[:: rng.randint(1, 9)] = 255
    return photo_HWC


if __name__ == "__main__":
    main()
