"""How good a set of answers is: development cases with the plans a model made of them go in, rates come out.

Counting only, the same for every model: which function, which arguments, what the photo shows, how far confidence can
be trusted. Knows neither agents nor files; without a floor or a blind plan those rates are simply empty.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from octopus.core import Call, Function, Plan
from octopus.errors import FunctionError
from octopus.registry import Registry
from octopus.training.baseline import REFUSAL
from octopus.training.data import DOMAINS, Case

BINS: Final = 15
"""Of equal width, for the calibration error."""
FINE: Final = ("food", "groceries", "products", "found objects")
"""Domains with many names that are close to each other."""
CAT_OR_DOG: Final = frozenset({"cat", "dog", "猫", "狗"})
_SEEN_SLOTS: Final = ("room", "animal", "material", "query", "dish", "item")  # as training.data says what a photo shows


@dataclass(frozen=True)
class Rate:
    """How many of how many."""

    count: int
    of: int

    @property
    def share(self) -> float | None:
        """0 to 1, or None of nothing."""
        return self.count / self.of if self.of else None

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return {"share": None if self.share is None else round(self.share, 4), "of": self.of}


@dataclass(frozen=True)
class Answered:
    """A case and its plan; `blind` is the plan with a grey picture, `floor` what the linear classifier says."""

    case: Case
    plan: Plan
    blind: Plan | None = None
    floor: str | None = None

    @property
    def meant(self) -> str:
        """The function that was wanted first."""
        return meant(self.case)

    @property
    def chosen(self) -> str:
        """The function that was chosen first."""
        return REFUSAL if self.plan.refused or not self.plan.calls else self.plan.calls[0].name

    @property
    def incomplete(self) -> bool:
        """Whether neither words nor photo give some required argument."""
        return any(call.missing for call in self.case.calls)

    @property
    def told(self) -> bool:
        """Whether words alone give all arguments of the calls that are wanted."""
        return self.case.role != "needed" and not self.incomplete and self.meant != REFUSAL


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence."""

    answers: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Report:
    """Everything `octopus eval` says. Rates are per language ("en", "zh", "all"), photo rates also per domain."""

    model: str
    cases: int
    malformed: int
    calibration_error: float
    languages: Mapping[str, Mapping[str, Rate]]
    functions: Mapping[str, Mapping[str, Rate]]
    photo: Mapping[str, Mapping[str, Mapping[str, Rate]]]
    fine_grained: float | None
    confusion: Mapping[str, Mapping[str, int]]
    reliability: Sequence[Bin]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a rate is `{"share", "of"}`."""
        return {
            "model": self.model,
            "cases": self.cases,
            "malformed": self.malformed,
            "calibration_error": round(self.calibration_error, 4),
            "languages": {lang: _plain(rates) for lang, rates in self.languages.items()},
            "functions": {name: _plain(rates) for name, rates in self.functions.items()},
            "photo": {
                lang: {domain: _plain(rates) for domain, rates in domains.items()}
                for lang, domains in self.photo.items()
            },
            "fine_grained": None if self.fine_grained is None else round(self.fine_grained, 4),
            "confusion": {meant_: dict(row) for meant_, row in self.confusion.items()},
            "reliability": [{key: round(value, 4) for key, value in asdict(bin_).items()} for bin_ in self.reliability],
        }


Majority = Mapping[tuple[str, str], str]
"""The most frequent training answer for each domain and language."""


def report(answers: Sequence[Answered], registry: Registry, model: str, majority: Majority | None = None) -> Report:
    """Count everything. Without `majority` those rates are empty."""
    languages = {lang: [a for a in answers if a.case.lang == lang] for lang in sorted({a.case.lang for a in answers})}
    languages["all"] = list(answers)
    photo = {lang: photo_rates(own, majority or {}) for lang, own in languages.items()}
    shares = [photo["all"][domain]["top1"].share for domain in FINE if domain in photo["all"]]
    known = [share for share in shares if share is not None]
    bins = reliability([a.plan.confidence for a in answers], [a.chosen == a.meant for a in answers])
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        confusion[answer.meant][answer.chosen] += 1
    return Report(
        model=model,
        cases=len(answers),
        malformed=sum(malformed(a.plan, registry) is not None for a in answers),
        calibration_error=calibration_error(bins),
        languages={lang: request_rates(own, registry) for lang, own in languages.items()},
        functions={name: function_rates([a for a in answers if a.meant == name]) for name in sorted(confusion)},
        photo=photo,
        fine_grained=sum(known) / len(known) if known else None,
        confusion=confusion,
        reliability=bins,
    )


def request_rates(answers: Sequence[Answered], registry: Mapping[str, Function]) -> dict[str, Rate]:
    """The rates of one language. `arguments` and `enums` count a wrong function as wrong arguments."""
    told = [a for a in answers if a.told]
    refusals = [a for a in answers if a.meant == REFUSAL]
    wanted = [a for a in answers if a.meant != REFUSAL]
    asked, complete = [a for a in wanted if a.incomplete], [a for a in wanted if not a.incomplete]
    by_floor = [(a.meant, a.floor) for a in answers if a.floor is not None]
    return {
        "function": _rate(a.chosen == a.meant for a in answers),
        "floor": _rate(name == own for own, name in by_floor),
        "refusal_recall": _rate(a.chosen == REFUSAL for a in refusals),
        "floor_refusal_recall": _rate(name == REFUSAL for own, name in by_floor if own == REFUSAL),
        "wrong_refusals": _rate(a.chosen == REFUSAL for a in wanted),
        "arguments": _rate(same_calls(a.case.calls, a.plan.calls) for a in told),
        "arguments_of_right_function": _rate(
            same_calls(a.case.calls, a.plan.calls) for a in told if a.chosen == a.meant
        ),
        "enums": _rate(right for a in told for right in _enums(a, registry)),
        "two_calls": _rate(same_calls(a.case.calls, a.plan.calls) for a in told if len(a.case.calls) > 1),
        "missing_asked": _rate(a.chosen == a.meant and a.plan.question is not None for a in asked),
        "needless_questions": _rate(a.plan.question is not None for a in complete),
    }


def function_rates(answers: Sequence[Answered]) -> dict[str, Rate]:
    """Recall of the function that these cases want, by the model and by the floor."""
    return {
        "recall": _rate(a.chosen == a.meant for a in answers),
        "floor": _rate(a.floor == a.meant for a in answers if a.floor is not None),
    }


def photo_rates(answers: Sequence[Answered], majority: Majority) -> dict[str, dict[str, Rate]]:
    """What was named from photos, per domain: rightly, from a grey picture, by the majority, by the broader word."""
    domains: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        domain = photo_domain(answer.case)
        if domain is not None:
            domains[domain].append(answer)
        if domain == "pets" and answer.case.exact in CAT_OR_DOG:
            domains["cat or dog"].append(answer)
    return {domain: _photo_rates(domains[domain], majority) for domain in sorted(domains)}


def photo_domain(case: Case) -> str | None:
    """The domain that the photo of a case counts for. A thing to throw away is another question than its material."""
    place = seen(case)
    if place is None:
        return None
    return "waste items" if place == ("smart_recycling", "item") else case.domain


def seen(case: Case) -> tuple[str, str] | None:
    """The function and argument that the photo of a case must name, or None."""
    if case.domain is None or case.photo is None:
        return None
    own = [call for call in case.calls if DOMAINS.get(call.name) == case.domain]
    places = [(call, slot) for slot in _SEEN_SLOTS for call in own if slot in call.arguments]
    right = [(call.name, slot) for call, slot in places if _among(call.arguments[slot], case.exact, case.broader)]
    return right[0] if right else None


def named(plan: Plan, function: str, slot: str) -> str:
    """What a plan says for an argument, '' when it does not call the function."""
    values = [call.arguments.get(slot, "") for call in plan.calls if call.name == function]
    return normalised(values[0]) if values else ""


def meant(case: Case) -> str:
    """The function that a case wants first."""
    return case.calls[0].name if case.calls else REFUSAL


def same_calls(meant_: Sequence[Call], written: Sequence[Call]) -> bool:
    """Whether these are the same calls with the same arguments, in any order."""
    return sorted(map(_key, meant_)) == sorted(map(_key, written))


def normalised(value: Any) -> str:
    """A value as it is compared: full-width letters as half-width ones, small letters, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", str(value)).casefold().split())


def malformed(plan: Plan, registry: Registry) -> str | None:
    """What is wrong with the form of a plan, or None: every call validates, and refusal and question fit the calls."""
    if plan.refused == bool(plan.calls):
        return "refused with calls, or neither refused nor calling"
    if (plan.question is None) == any(call.missing for call in plan.calls):
        return "question without a missing argument, or the other way round"
    if not 0.0 <= plan.confidence <= 1.0:
        return f"confidence {plan.confidence}"
    for call in plan.calls:
        try:
            required = {p.name: p for p in registry[call.name].parameters if p.required}
            filler = {name: (*required[name].choices, "1")[0] for name in call.missing}
            registry.validate(call.name, {**call.arguments, **filler})
        except (FunctionError, KeyError) as error:
            return f"{call.name}: {error}"
    return None


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> list[Bin]:
    """The bins of a reliability diagram, lowest confidence first; empty ones are left out."""
    confidence_N, right_N = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    place_N = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    return [
        Bin(int(own.sum()), float(confidence_N[own].mean()), float(right_N[own].mean()))
        for own in (place_N == place for place in range(BINS))
        if own.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, on average over the answers."""
    total = sum(b.answers for b in bins)
    return sum(b.answers * abs(b.confidence - b.accuracy) for b in bins) / max(1, total)


def _photo_rates(answers: Sequence[Answered], majority: Majority) -> dict[str, Rate]:
    rows = []
    for a in answers:
        place = seen(a.case) or ("", "")
        blind = None if a.blind is None else named(a.blind, *place)
        usual = majority.get((photo_domain(a.case) or "", a.case.lang))
        rows.append((named(a.plan, *place), normalised(a.case.exact), normalised(a.case.broader), blind, usual))
    broad = [(said, exact, broader) for said, exact, broader, _, _ in rows if broader != exact]
    return {
        "top1": _rate(said == exact for said, exact, _, _, _ in rows),
        "blind": _rate(blind == exact for _, exact, _, blind, _ in rows if blind is not None),
        "majority": _rate(normalised(usual) == exact for _, exact, _, _, usual in rows if usual is not None),
        "broader": _rate(said == broader for said, _, broader in broad),
        "exact_or_broader": _rate(said in (exact, broader) for said, exact, broader, _, _ in rows),
    }


def _enums(answer: Answered, registry: Mapping[str, Function]) -> Iterable[bool]:
    for call in answer.case.calls:
        for parameter in registry[call.name].parameters:
            if parameter.kind == "enum" and parameter.name in call.arguments:
                written = [c.arguments.get(parameter.name) for c in answer.plan.calls if c.name == call.name]
                yield call.arguments[parameter.name] in written


def _key(call: Call) -> tuple[Any, ...]:
    values = sorted((name, normalised(value)) for name, value in call.arguments.items() if name not in call.missing)
    return call.name, values, sorted(call.missing)


def _among(value: Any, *names: str) -> bool:
    return normalised(value) in [normalised(name) for name in names]


def _rate(found: Iterable[bool]) -> Rate:
    rows = [bool(one) for one in found]
    return Rate(sum(rows), len(rows))


def _plain(rates: Mapping[str, Rate]) -> dict[str, Any]:
    return {name: rate.to_dict() for name, rate in rates.items()}
