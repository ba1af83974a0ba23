"""The floor that every model must clear: a linear classifier on character n-grams and words.

In: annotated training lines and the texts of other requests. Out: the function that each text seems to mean. It sees no
photo, no slots and no second call; what a language model adds must show in the distance to it. Needs scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from octopus.training.requests import Request

REFUSAL: Final = "irrelevant_function"
"""The function that means: nothing fits."""

STRENGTH: Final = 1.0
"""C of the support vector machine, chosen once on a tenth of the training lines; 0.3 to 3 differ by half a point."""


@dataclass(frozen=True)
class FloorScore:
    """How the floor does on the requests of one language."""

    requests: int
    accuracy: float
    refusal_recall: float
    wrong_refusals: float  # share of the requests that mean a function


def floor(train: Sequence[Request], texts: Sequence[str]) -> list[str]:
    """The function that each text seems to mean, learnt from the training lines; about half a minute for 25,000.

    A line with two calls counts as its first function.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    if not texts:
        return []
    features = make_union(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 5), min_df=2, sublinear_tf=True, dtype=np.float32),
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True, dtype=np.float32),
    )
    classifier = make_pipeline(features, LinearSVC(C=STRENGTH, random_state=0))
    classifier.fit([request.text for request in train], [request.calls[0].function for request in train])
    return [str(name) for name in classifier.predict(list(texts))]


def score(requests: Sequence[Request], chosen: Sequence[str]) -> dict[str, FloorScore]:
    """Accuracy and refusals per language of the functions chosen for annotated requests."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for request, name in zip(requests, chosen, strict=True):
        pairs.setdefault(request.lang, []).append((request.calls[0].function, name))
    return {lang: _score(found) for lang, found in sorted(pairs.items())}


def confusions(requests: Sequence[Request], chosen: Sequence[str]) -> list[tuple[str, str, str, int]]:
    """Language, function meant, function chosen and how often, the most frequent mistake first."""
    counted = Counter(
        (request.lang, request.calls[0].function, name)
        for request, name in zip(requests, chosen, strict=True)
        if request.calls[0].function != name
    )
    return [(*mistake, count) for mistake, count in counted.most_common()]


def _score(pairs: Sequence[tuple[str, str]]) -> FloorScore:
    refusals = [name for meant, name in pairs if meant == REFUSAL]
    others = [name for meant, name in pairs if meant != REFUSAL]
    return FloorScore(
        requests=len(pairs),
        accuracy=sum(meant == name for meant, name in pairs) / len(pairs),
        refusal_recall=refusals.count(REFUSAL) / max(1, len(refusals)),
        wrong_refusals=others.count(REFUSAL) / max(1, len(others)),
    )
