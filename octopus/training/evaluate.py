"""`octopus eval`: what a model makes of the development cases, and how good that is.

In: a model folder and a folder that `octopus data build` made (`dev.jsonl`, packed photos). Out: a table on stdout, or
one JSON object. It answers through Agent.plan, as a user would, so it needs no torch when the model is ONNX. Counting
is scores.py; nothing here knows how a plan comes about.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import numpy as np
from tqdm import tqdm

import octopus.functions
from octopus.agent import Agent
from octopus.core import Pixels
from octopus.training.baseline import REFUSAL, floor
from octopus.training.build import DEFAULT_RUN
from octopus.training.data import Case, PhotoChoice, cases, load_cases
from octopus.training.photos import Photos
from octopus.training.requests import Request, normalised, read_requests, split
from octopus.training.scores import Answered, Majority, Rate, Report, photo_domain, report, same_calls

DATA: Final = DEFAULT_RUN / "data"
"""Where `octopus data build` leaves development cases and photos."""
FUNCTIONS: Final = Path(octopus.functions.__file__).parent
"""Where the annotated requests and the table of labels are."""
GREY: Final = 128

_ROWS: Final = {
    "function": ("right function", 0.91),
    "floor": ("  linear floor", None),
    "refusal_recall": ("refusals recalled", 0.85),
    "floor_refusal_recall": ("  linear floor", None),
    "wrong_refusals": ("wrong refusals", -0.04),
    "arguments": ("all arguments right", 0.75),
    "arguments_of_right_function": ("  where the function is right", None),
    "enums": ("enums from the text", 0.92),
    "two_calls": ("requests for two calls all right", None),
    "missing_asked": ("missing argument asked for", None),
    "needless_questions": ("needless questions", None),
}
"""Label and bound of each rate: at least so much, or, below zero, at most."""
_PHOTO_BOUNDS: Final = {"cat or dog": 0.88, "rooms": 0.88, "waste material": 0.65}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", metavar="DIR", help="Model folder, or name of a packaged model.")
@click.option("--data", "folder", type=click.Path(path_type=Path), default=DATA, show_default=True, metavar="DIR")
@click.option("--baseline", is_flag=True, help="Add the linear floor, and photos against a grey one and the majority.")
@click.option("--requests", type=click.Path(path_type=Path), metavar="FILE", help="Other annotated requests (.tsv).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N cases, spread over all.")
@click.option("--wrong", type=click.Path(path_type=Path), metavar="FILE", help="Write what went wrong, as JSON lines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    model: str | None,
    folder: Path,
    baseline: bool,
    requests: Path | None,
    limit: int | None,
    wrong: Path | None,
    as_json: bool,
) -> None:
    """Score a model on the development set."""
    agent = Agent(model)
    found, answers = examine(agent, folder, baseline=baseline, limit=limit, requests=requests)
    if wrong is not None:
        wrong.write_text("".join(mistakes(answers)), encoding="utf-8")
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else "\n".join(table(found)))


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return int(evaluate.main(list(arguments), prog_name="octopus eval", standalone_mode=False) or 0)


def examine(
    agent: Agent, folder: Path, *, baseline: bool = False, limit: int | None = None, requests: Path | None = None
) -> tuple[Report, list[Answered]]:
    """The report on an agent, and the answers behind it. Other requests than ours get held-out photos too."""
    photos = Photos(folder, FUNCTIONS / "labels.tsv")
    if requests is None:
        all_cases = load_cases(folder)
    else:
        known = {normalised(line.text) for line in read_requests(FUNCTIONS / "requests")}
        unseen = [line for line in read_requests(requests) if normalised(line.text) not in known]
        all_cases = list(cases(unseen, PhotoChoice(photos, "dev")))
    train = training_lines(all_cases) if baseline else []
    answers = answer(agent, spread(all_cases, limit), photos, train)
    return report(answers, agent.registry, agent.model, most_frequent(train, photos)), answers


def spread(all_cases: Sequence[Case], limit: int | None) -> list[Case]:
    """At most `limit` cases, evenly over all of them."""
    count = min(limit or len(all_cases), len(all_cases))
    return [all_cases[place * len(all_cases) // count] for place in range(count)]


def answer(agent: Agent, chosen: Sequence[Case], photos: Photos, train: Sequence[Request] = ()) -> list[Answered]:
    """The agent's plans; with training lines also those for a grey picture, and the linear floor."""
    by_floor = floor(train, [case.text for case in chosen]) if train else [None] * len(chosen)
    size = photos.pixels_NHWC.shape[1]
    grey_HWC = np.full((size, size, 3), GREY, dtype=np.uint8)
    answers = []
    for case, name in zip(tqdm(chosen, desc="eval", disable=None), by_floor, strict=True):
        plan = agent.plan(case.text, picture(case, photos))
        blind = agent.plan(case.text, grey_HWC) if train and photo_domain(case) else None
        answers.append(Answered(case, plan, blind, name))
    return answers


def picture(case: Case, photos: Photos) -> Pixels | None:
    """The photo of a case, if it has one."""
    return None if case.photo is None else np.asarray(photos.pixels_NHWC[case.photo])


def training_lines(all_cases: Sequence[Case]) -> list[Request]:
    """The annotated lines that a model may have learnt from: none of them says what one of these cases says."""
    held_out = {normalised(case.text) for case in all_cases}
    train, _ = split(read_requests(FUNCTIONS / "requests"))
    return [line for line in train if normalised(line.text) not in held_out]


def most_frequent(train: Sequence[Request], photos: Photos) -> Majority:
    """What the photo is said to show most often in training, per domain and language."""
    said: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for case in cases([line for line in train if line.photo == "needed"], PhotoChoice(photos, "train")):
        if (domain := photo_domain(case)) is not None:
            said[domain, case.lang][case.exact] += 1
    return {place: counted.most_common(1)[0][0] for place, counted in said.items()}


def mistakes(answers: Sequence[Answered]) -> Iterator[str]:
    """One JSON line for each case whose calls are not the wanted ones."""
    for a in answers:
        wanted = [(c.name, dict(c.arguments), list(c.missing)) for c in a.case.calls if c.name != REFUSAL]
        written = [(c.name, dict(c.arguments), list(c.missing)) for c in a.plan.calls]
        if not same_calls(() if a.meant == REFUSAL else a.case.calls, a.plan.calls):
            row = {
                "id": a.case.id, "text": a.case.text, "role": a.case.role, "wanted": wanted, "written": written,
                "confidence": round(a.plan.confidence, 3), "floor": a.floor,
            }  # fmt: skip
            yield json.dumps(row, ensure_ascii=False) + "\n"


def table(found: Report) -> Iterator[str]:
    """The report for people, in Markdown."""
    languages = [*(lang for lang in found.languages if lang != "all"), "all"]
    yield f"Model {found.model}, {found.cases:,} development cases; a rate that misses its bound is marked ✗."
    yield ""
    yield from _rows(["requests", *languages, "bound"])
    for key, (label, bound) in _ROWS.items():
        rates = [found.languages[lang][key] for lang in languages]
        if any(rate.of for rate in rates):
            yield _row([label, *(_cell(rate, bound) for rate in rates), _bound(bound)])
    yield ""
    yield from _rows(["function", "recall", "linear floor", "cases"])
    for name, own in found.functions.items():
        yield _row([name, _cell(own["recall"]), _cell(own["floor"]), str(own["recall"].of)])
    yield ""
    yield from _rows(["named from the photo", "top-1", "grey picture", "majority", "broader word", "either", "cases"])
    for domain, own in found.photo["all"].items():
        top1 = _cell(own["top1"], _PHOTO_BOUNDS.get(domain))
        others = [_cell(own[key]) for key in ("blind", "majority", "broader", "exact_or_broader")]
        yield _row([domain, top1, *others, str(own["top1"].of)])
    yield ""
    if found.fine_grained is not None:
        yield f"Fine-grained domains on average: {100 * found.fine_grained:.1f} %."
    yield f"Expected calibration error of the function's confidence: {100 * found.calibration_error:.1f} %."
    yield f"Malformed: {found.malformed} of {found.cases:,}."


def _cell(rate: Rate, bound: float | None = None) -> str:
    if rate.share is None:
        return ""
    missed = bound is not None and (rate.share < bound if bound > 0 else rate.share > -bound)
    return f"{100 * rate.share:.1f} %" + (" ✗" if missed else "")


def _bound(bound: float | None) -> str:
    if bound is None:
        return ""
    return f"{'≥' if bound > 0 else '≤'} {100 * abs(bound):.0f} %"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(head: Sequence[str]) -> Iterator[str]:
    yield _row(head)
    yield _row(["---", *["---:"] * (len(head) - 1)])
