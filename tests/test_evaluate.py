"""Evaluation and calibration on hand-made cases and a scripted model: every rate counts what it says it counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from octopus import Agent, MemoryPhone, Registry, ScriptedBackend
from octopus.core import Call, Plan, Timings
from octopus.manifest import Manifest
from octopus.runtime import Floats
from scripted_model import Script, call, scripted_backend, write_model

pytest.importorskip("tqdm")

from octopus.training import calibrate, evaluate
from octopus.training.data import Case, save_cases
from octopus.training.photos import Photos
from octopus.training.requests import parse
from octopus.training.scores import (
    Answered,
    calibration_error,
    malformed,
    normalised,
    photo_domain,
    reliability,
    report,
    same_calls,
)

REGISTRY = Registry.default()
REFUSE = (call("irrelevant_function"),)


def case(text: str, *calls: Call, lang: str = "en", role: str = "none", **seen: str) -> Case:
    """A case; `domain`, `exact`, `broader` where a photo names something. Row 0 of the photos is shown then."""
    names = {"domain": None, "exact": "", "broader": "", **seen}
    return Case(text, lang, text, None if role == "none" else 0, role, calls or REFUSE, **names)  # type: ignore[arg-type]


def plan(*calls: Call, confidence: float = 0.9) -> Plan:
    return Plan(calls, not calls, "Who?" if any(c.missing for c in calls) else None, Timings(), confidence)


MILK = call("instacart_shopping", item="oat milk", quantity=1)
SOFA = call("interior_design", room="living room", style="")
BIN = call("smart_recycling", item="杯子", material="paper")
CASES = [
    case("text mom", call("send_text", to="mom", message="")),
    case("send a text", call("send_text", "to", message="")),
    case("what a day"),
    case("a sofa for the living room", SOFA),
    case("oat milk", MILK),
    case("this in the cart", MILK, role="needed", domain="groceries", exact="oat milk", broader="milk"),
    case("这个怎么扔", BIN, lang="zh", role="needed", domain="waste material", exact="paper", broader="paper"),
    case("牛奶和鸡蛋", call("instacart_shopping", item="牛奶", quantity=1),
         call("instacart_shopping", item="鸡蛋", quantity=1), lang="zh"),
]  # fmt: skip
SCRIPT: Script = {
    "text mom": CASES[0].calls,
    "send a text": CASES[1].calls,
    "what a day": [call("google_search", query="day")],
    "a sofa for the living room": [call("interior_design", room="bedroom", style="")],
    "this in the cart": [call("instacart_shopping", item="milk", quantity=1)],
    "这个怎么扔": [call("smart_recycling", item="杯", material="paper")],
    "牛奶和鸡蛋": CASES[-1].calls[::-1],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `octopus data build` leaves: cases, and three photos of a label each."""
    folder = tmp_path_factory.mktemp("data")
    save_cases(CASES, folder / "dev.jsonl")
    np.save(folder / "photos.npy", np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3))
    columns = {
        "labels": [["tiny", "n01443537"], ["tiny", "n01855672"]],
        "label": [0, 0, 1],
        "source": ["tiny"] * 3,
        "split": ["dev", "train", "train"],
    }
    (folder / "photos.json").write_text(json.dumps(columns), encoding="utf-8")
    return folder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder that answers by the script; what the script does not know it refuses."""
    folder = write_model(tmp_path / "model")
    monkeypatch.setattr("octopus.agent.open_backend", lambda folder, threads: scripted_backend(folder, SCRIPT))
    return folder


def test_the_rates_count_what_they_say() -> None:
    answers = [
        Answered(CASES[0], plan(call("send_text", to="ＭＯＭ ", message="")), floor="send_text"),
        Answered(CASES[1], plan(call("send_text", "to", message="")), floor="send_email"),
        Answered(CASES[2], plan(), floor="google_search"),
        Answered(CASES[3], plan(call("interior_design", room="bedroom", style="")), floor="interior_design"),
        Answered(CASES[4], plan(), floor="instacart_shopping"),
        Answered(CASES[5], plan(call("instacart_shopping", "item", quantity=1)), floor="instacart_shopping"),
    ]
    rates = report(answers, REGISTRY, "nano").languages["all"]
    counted = {name: (rate.count, rate.of) for name, rate in rates.items()}
    assert counted == {
        "function": (5, 6),
        "floor": (4, 6),
        "refusal_recall": (1, 1),
        "floor_refusal_recall": (0, 1),
        "wrong_refusals": (1, 5),
        "arguments": (1, 3),  # the photo and the missing recipient are not in the words
        "arguments_of_right_function": (1, 2),
        "enums": (0, 1),
        "two_calls": (0, 0),
        "missing_asked": (1, 1),
        "needless_questions": (1, 4),
    }


def test_photos_are_compared_with_a_grey_one_the_majority_and_the_broader_word() -> None:
    broad = call("instacart_shopping", item="Milk", quantity=1)
    shown = Answered(CASES[5], plan(broad), blind=plan(call("instacart_shopping", item="oat milk", quantity=1)))
    thrown = Answered(CASES[6], plan(BIN), blind=plan())
    majority = {("groceries", "en"): "bread", ("waste material", "zh"): "paper"}
    photo = report([shown, thrown], REGISTRY, "nano", majority).photo
    groceries = {name: rate.share for name, rate in photo["all"]["groceries"].items()}
    assert groceries == {"top1": 0, "blind": 1, "majority": 0, "broader": 1, "exact_or_broader": 1}
    waste = {name: rate.share for name, rate in photo["zh"]["waste material"].items()}
    assert waste == {"top1": 1, "blind": 0, "majority": 1, "broader": None, "exact_or_broader": 1}


def test_a_thing_to_throw_away_is_not_its_material() -> None:
    told = case("那个纸的", BIN, role="needed", domain="waste material", exact="杯子", broader="餐具")
    assert photo_domain(told) == "waste items"
    assert photo_domain(CASES[6]) == "waste material"
    assert photo_domain(CASES[4]) is None


def test_cats_and_dogs_are_counted_apart() -> None:
    pets = [("cat", "cat"), ("dog", "cat"), ("bird", "bird")]
    answers = [
        Answered(
            case("help", call("pet_care", animal=shown, concern=""), role="needed", domain="pets", exact=shown),
            plan(call("pet_care", animal=said, concern="")),
        )
        for shown, said in pets
    ]
    photo = report(answers, REGISTRY, "nano").photo["all"]
    assert (photo["pets"]["top1"].count, photo["pets"]["top1"].of) == (2, 3)
    assert (photo["cat or dog"]["top1"].count, photo["cat or dog"]["top1"].of) == (1, 2)


def test_values_are_compared_as_people_read_them() -> None:
    assert normalised(" Ａ４　Paper ") == "a4 paper"
    assert same_calls([MILK, SOFA], [SOFA, MILK])
    assert not same_calls([MILK], [call("instacart_shopping", item="oat milk", quantity=2)])
    assert not same_calls([call("send_text", "to", message="")], [call("send_text", to="mom", message="")])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (plan(call("smart_recycling", item="cup", material="gold")), "material"),
        (plan(call("send_text", to="mom", note="x")), "note"),
        (plan(call("dance")), "dance"),
        (Plan((), False, None, Timings(), 0.5), "neither"),
        (Plan((MILK,), False, "Which?", Timings(), 0.5), "question"),
        (Plan((MILK,), False, None, Timings(), float("nan")), "confidence"),
    ],
)
def test_malformed_plans_are_found(bad: Plan, why: str) -> None:
    assert why in str(malformed(bad, REGISTRY))


def test_wellformed_plans_pass() -> None:
    for good in (plan(), plan(MILK, SOFA), plan(call("send_text", "to", message="")), plan(call("pet_care", "animal"))):
        assert malformed(good, REGISTRY) is None


def test_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    bins = reliability([0.95, 0.95, 0.55, 1.0], [True, False, True, True])
    assert [b.answers for b in bins] == [1, 3]
    assert calibration_error(bins) == pytest.approx((1 * 0.45 + 3 * abs(2.9 / 3 - 2 / 3)) / 4)


def test_the_command_prints_one_object(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--model", str(model), "--data", str(data), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "scripted" and found["cases"] == len(CASES) and found["malformed"] == 0
    assert found["languages"]["all"]["function"] == {"share": 0.75, "of": 8}
    assert found["languages"]["zh"]["two_calls"] == {"share": 1.0, "of": 1}
    assert found["photo"]["en"]["groceries"]["broader"]["share"] == 1.0
    assert found["confusion"]["instacart_shopping"] == {"irrelevant_function": 1, "instacart_shopping": 2}


def test_the_table_marks_what_misses_its_bound(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--model", str(model), "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "| right function | 66.7 % ✗ | 100.0 % | 75.0 % ✗ | ≥ 91 % |" in shown
    assert "| waste material | 100.0 % |" in shown
    assert "linear floor | " not in shown.split("| function |")[0]  # nothing was said without --baseline
    assert "Malformed: 0 of 8." in shown


def test_baselines_come_from_lines_that_are_not_in_the_cases(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    rows = ["en\tpet_care\tneeded\thelp this one\tanimal=<photo>"] * 2
    rows += [f"en\tinstacart_shopping\tnone\tadd [item:{thing}]\t" for thing in ("oat milk", "bread", "eggs", "tea")]
    lines = [parse(row, f"test:{n}") for n, row in enumerate(rows)]
    monkeypatch.setattr(evaluate, "training_lines", lambda cases: lines)
    wrong = tmp_path / "wrong.jsonl"
    assert (
        evaluate.main(["--model", str(model), "--data", str(data), "--baseline", "--json", "--wrong", str(wrong)]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["languages"]["all"]["floor"]["of"] == len(CASES)
    assert found["photo"]["all"]["groceries"]["blind"]["of"] == 1
    missed = [json.loads(line)["text"] for line in wrong.read_text(encoding="utf-8").splitlines()]
    assert "what a day" in missed and "text mom" not in missed
    photos = Photos(data, evaluate.FUNCTIONS / "labels.tsv")
    assert evaluate.most_frequent(lines, photos)["pets", "en"] in ("fish", "bird")


def test_a_limit_spreads_over_all_cases() -> None:
    assert [c.text for c in evaluate.spread(CASES, 2)] == ["text mom", "oat milk"]
    assert evaluate.spread(CASES, 99) == CASES and evaluate.spread([], None) == []


def test_training_lines_leave_out_what_a_case_says(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"en\tirrelevant_function\tnone\t{text}\t" for text in ("good morning octopus", "do you like the sea")]
    monkeypatch.setattr(evaluate, "read_requests", lambda folder: [parse(row, f"t:{n}") for n, row in enumerate(rows)])
    monkeypatch.setattr(evaluate, "split", lambda lines: (lines, []))
    assert [line.text for line in evaluate.training_lines([case("Good morning, Octopus!")])] == ["do you like the sea"]


def test_temperature_makes_overconfident_scores_honest() -> None:
    random = np.random.default_rng(0)
    honest_NF = random.normal(0, 2, (4000, 5))
    chances_NF = calibrate.probabilities(honest_NF, 1.0)
    meant_N = np.array([random.choice(5, p=chances_F) for chances_F in chances_NF])
    assert calibrate.fit_temperature(3 * honest_NF, meant_N) == pytest.approx(3, rel=0.1)
    calibration = calibrate.fit(3 * honest_NF, meant_N, refusal=4)
    error = calibrate.effect(3 * honest_NF, meant_N, 4, calibration)["calibration_error"]
    assert error["before"] > 0.15 > 0.05 > error["after"] and error["held_out"] < 0.05


def test_a_threshold_is_taken_where_doubt_means_refusal() -> None:
    sure, unsure = [[0.96, 0.02, 0.02]] * 60, [[0.45, 0.35, 0.2]] * 20
    meant_N = np.array([0] * 60 + [2] * 20)
    assert 0.45 < calibrate.fit_threshold(np.array(sure + unsure), meant_N, refusal=2) <= 0.96
    wanted_N = np.array([0] * 80)  # here the same doubt would refuse a quarter of what is meant
    assert calibrate.fit_threshold(np.array(sure + unsure), wanted_N, refusal=2) == 0


class Hesitant(ScriptedBackend):
    """Right as often as the script, but its scores are closer together."""

    def logits(self, prompt: object, written: object) -> Floats:
        return super().logits(prompt, written) / 10  # type: ignore[arg-type]


def test_calibration_goes_into_the_manifest(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hesitant(folder: Path, threads: int | None) -> ScriptedBackend:
        scripted = scripted_backend(folder, SCRIPT)
        return Hesitant(scripted.answer, scripted.vocab_size, image_id=scripted.image_id)

    monkeypatch.setattr("octopus.agent.open_backend", hesitant)
    before = Manifest.load(model)
    assert calibrate.main(["--model", str(model), "--data", str(data), "--dry-run"]) == 0
    assert Manifest.load(model) == before
    assert calibrate.main(["--model", str(model), "--data", str(data)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    after = Manifest.load(model)
    assert after.calibration.temperature == told["temperature"] != 1
    assert after.functions == before.functions and after.files == before.files
    assert told["cases"] == len(CASES) and told["accuracy"]["without_threshold"] == 0.75


def test_plans_are_made_with_the_photo_of_the_case(model: Path, data: Path) -> None:
    agent = Agent(model, phone=MemoryPhone(":memory:"))
    photos = Photos(data, evaluate.FUNCTIONS / "labels.tsv")
    seen: list[float] = []
    encode = agent.backend.encode_image
    agent.backend.encode_image = lambda pixels: (seen.append(float(pixels.mean())), encode(pixels))[1]  # type: ignore[method-assign]
    evaluate.answer(agent, [CASES[0], CASES[5]], photos)
    assert len(seen) == 1  # one of the two has a photo
