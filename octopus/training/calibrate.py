"""How far a model's confidence can be trusted: temperature and threshold, fitted on the development cases.

In: the scores of the functional tokens at the first position, and the function each case means. Out: a `Calibration` in
the model's manifest. One number divides the scores so that confidence says how often the model is right (it changes no
answer); below the other the model refuses. Run as `python -m octopus.training.calibrate --model DIR --data DIR`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from octopus.agent import Agent
from octopus.core import Query
from octopus.decode import encode_photo
from octopus.hub import find_model
from octopus.manifest import Calibration
from octopus.text import clean_text
from octopus.training.baseline import REFUSAL
from octopus.training.data import Case, load_cases
from octopus.training.evaluate import DATA, FUNCTIONS, picture, spread
from octopus.training.photos import Photos
from octopus.training.scores import calibration_error, meant, reliability

Scores = NDArray[np.float64]
Places = NDArray[np.int64]

WRONG_REFUSALS: Final = 0.04
"""Share of requests with a function that may be refused; a threshold that refuses more is not taken."""
_TEMPERATURES: Final = np.exp(np.linspace(np.log(0.05), np.log(20.0), 241))
_THRESHOLDS: Final = np.linspace(0.0, 0.95, 96)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", metavar="DIR", required=True, help="Model folder; its manifest is rewritten.")
@click.option("--data", "folder", type=click.Path(path_type=Path), default=DATA, show_default=True, metavar="DIR")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N cases, spread over all.")
@click.option("--dry-run", is_flag=True, help="Leave the manifest as it is.")
def calibrate(model: str, folder: Path, limit: int | None, dry_run: bool) -> None:
    """Fit temperature and threshold on the development cases and write them into the manifest."""
    agent = Agent(model)
    chosen = spread(load_cases(folder), limit)
    logits_NF, meant_N = first_logits(agent, chosen, Photos(folder, FUNCTIONS / "labels.tsv"))
    refusal = function_names(agent).index(REFUSAL)
    calibration = fit(logits_NF, meant_N, refusal)
    click.echo(json.dumps({**asdict(calibration), **effect(logits_NF, meant_N, refusal, calibration)}))
    if not dry_run:
        replace(agent.tokens.manifest, calibration=calibration).save(find_model(model))


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return int(calibrate.main(list(arguments), prog_name="calibrate", standalone_mode=False) or 0)


def function_names(agent: Agent) -> list[str]:
    """The functions in the order of the columns F."""
    return [entry.name for entry in agent.tokens.manifest.functions]


def first_logits(agent: Agent, chosen: Sequence[Case], photos: Photos) -> tuple[Scores, Places]:
    """Scores `[N, F]` of the functional tokens at the first position, and the place of the wanted function `[N]`."""
    names = function_names(agent)
    ids_F = [entry.id for entry in agent.tokens.manifest.functions]
    rows = []
    for case in tqdm(chosen, desc="calibrate", disable=None):
        query = Query(clean_text(case.text), picture(case, photos))
        embeddings_NH = encode_photo(query, agent.backend, agent.tokens)
        prompt = agent.tokens.encode_prompt(query.text, 0 if embeddings_NH is None else len(embeddings_NH))
        rows.append(agent.backend.prefill(prompt, embeddings_NH).logits_V[ids_F])
    return np.asarray(rows, np.float64), np.asarray([names.index(meant(case)) for case in chosen], np.int64)


def fit(logits_NF: Scores, meant_N: Places, refusal: int) -> Calibration:
    """Temperature by likelihood, then the threshold by accuracy. `refusal` is the column that refuses."""
    temperature = fit_temperature(logits_NF, meant_N)
    return Calibration(temperature, fit_threshold(probabilities(logits_NF, temperature), meant_N, refusal))


def fit_temperature(logits_NF: Scores, meant_N: Places) -> float:
    """The temperature at which the wanted functions are most likely, to about one part in a thousand."""
    grid_T = _TEMPERATURES
    for _ in range(2):  # the likelihood has one maximum, so look closer around the best of a coarse grid
        best = int(np.argmin([_surprise(logits_NF, meant_N, t) for t in grid_T]))
        grid_T = np.linspace(grid_T[max(0, best - 1)], grid_T[min(len(grid_T) - 1, best + 1)], 41)
    return round(float(grid_T[int(np.argmin([_surprise(logits_NF, meant_N, t) for t in grid_T]))]), 4)


def fit_threshold(probabilities_NF: Scores, meant_N: Places, refusal: int) -> float:
    """The lowest threshold with the most right decisions, among those that seldom refuse what is meant."""
    chosen_NT = [_decide(probabilities_NF, refusal, threshold) for threshold in _THRESHOLDS]
    wanted_N = meant_N != refusal
    right = [
        float((chosen_N == meant_N).mean()) if threshold == 0 or _refused(chosen_N, wanted_N, refusal) else -1.0
        for threshold, chosen_N in zip(_THRESHOLDS, chosen_NT, strict=True)
    ]
    return round(float(_THRESHOLDS[int(np.argmax(right))]), 4)


def effect(logits_NF: Scores, meant_N: Places, refusal: int, calibration: Calibration) -> dict[str, Any]:
    """What calibration changes. `held_out` is the error on each half with the temperature of the other half."""
    before, after = (probabilities(logits_NF, t) for t in (1.0, calibration.temperature))
    halves = [np.arange(len(meant_N)) % 2 == side for side in (0, 1)]
    crossed = np.empty_like(logits_NF)
    for own, other in (halves, halves[::-1]):
        crossed[own] = probabilities(logits_NF[own], fit_temperature(logits_NF[other], meant_N[other]))
    decided_N = _decide(after, refusal, calibration.threshold)
    return {
        "cases": len(meant_N),
        "calibration_error": {
            name: round(_error(p_NF, meant_N), 4)
            for name, p_NF in (("before", before), ("after", after), ("held_out", crossed))
        },
        "accuracy": {
            "without_threshold": round(float((after.argmax(1) == meant_N).mean()), 4),
            "with_threshold": round(float((decided_N == meant_N).mean()), 4),
        },
    }


def probabilities(logits_NF: Scores, temperature: float) -> Scores:
    """Softmax `[N, F]` at a temperature."""
    scores_NF = logits_NF / temperature
    weights_NF = np.exp(scores_NF - scores_NF.max(axis=1, keepdims=True))
    return np.asarray(weights_NF / weights_NF.sum(axis=1, keepdims=True), np.float64)


def _surprise(logits_NF: Scores, meant_N: Places, temperature: float) -> float:
    scores_NF = logits_NF / temperature
    largest_N = scores_NF.max(axis=1)
    total_N = largest_N + np.log(np.exp(scores_NF - largest_N[:, None]).sum(axis=1))
    return float((total_N - scores_NF[np.arange(len(meant_N)), meant_N]).mean())


def _decide(probabilities_NF: Scores, refusal: int, threshold: float) -> Places:
    """What decode.plan decides: the best function, or refusal when that is too unsure."""
    return np.where(probabilities_NF.max(axis=1) < threshold, refusal, probabilities_NF.argmax(axis=1))


def _refused(chosen_N: Places, wanted_N: NDArray[np.bool_], refusal: int) -> bool:
    """Whether so few requests that mean a function are refused as may be."""
    return bool((chosen_N[wanted_N] == refusal).sum() <= WRONG_REFUSALS * wanted_N.sum())


def _error(probabilities_NF: Scores, meant_N: Places) -> float:
    right = (probabilities_NF.argmax(axis=1) == meant_N).tolist()
    return calibration_error(reliability(probabilities_NF.max(axis=1).tolist(), right))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
