"""All stages on tiny data: a run folder begins with photos and texts and ends with a model that answers."""

from __future__ import annotations

import contextlib
import io
import json
import random
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("transformers", "open_clip", "timm", "gensim", "accelerate", "matplotlib", "pyarrow", "onnx"):
    pytest.importorskip(needed)

from torch import Tensor  # noqa: E402
from transformers import LlavaForConditionalGeneration  # noqa: E402

import octopus.model  # noqa: E402, F401  (registers the vision tower with transformers)
from octopus import Agent, MemoryPhone, Registry  # noqa: E402
from octopus.core import Call  # noqa: E402
from octopus.errors import OctopusError  # noqa: E402
from octopus.export.to_onnx import export_onnx  # noqa: E402
from octopus.image import preprocess  # noqa: E402
from octopus.manifest import Manifest  # noqa: E402
from octopus.tokens import Tokens  # noqa: E402
from octopus.training import align, build, clip, functions, lm, train  # noqa: E402
from octopus.training.data import CAPTION, Captions, Case, PhotoChoice, load_cases  # noqa: E402
from octopus.training.stage import Stage, precision, read_curve  # noqa: E402
from tiny_data import LABELS, RECIPE, some_labels, write_images, write_requests, write_texts  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of five libraries; what octopus itself does wrong is an error


class Killed(BaseException):
    """What ends a stage at an arbitrary moment."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data, a recipe and a built run; few requests, few held-out documents, one thread."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    write_images(folder / "data" / "images", some_labels(2), train=4, dev=2)
    write_texts(folder / "data" / "text")
    (folder / "data" / "labels.tsv").write_bytes(LABELS.read_bytes())
    write_requests(folder / "requests", every=60)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "REQUESTS", folder / "requests")
        patch.setattr(train, "HELD_OUT_DOCUMENTS", 60)
        patch.setattr(torch.nn.Module, "compile", forbidden)
        recipe = ["--recipe", str(folder / "tiny.toml"), "--data", str(folder / "data")]
        build.main([*recipe, "--out", str(folder / "run" / "data")])
        yield folder
    torch.set_num_threads(threads)


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("compiled, though the recipe does not say so")


def octopus_train(base: Path, stage: str, *options: str) -> None:
    """`octopus train STAGE`."""
    recipe = ["--recipe", str(base / "tiny.toml"), "--data", str(base / "data")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train.main([stage, *recipe, "--run", str(base / "run"), "--threads", "1", *options])


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """The run folder, all stages done."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        octopus_train(base, "all")
    assert [json.loads(line)["stage"] for line in out.getvalue().splitlines()] == list(train.STAGES)  # data only
    return base / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> LlavaForConditionalGeneration:
    """The result, loaded as anybody would."""
    return LlavaForConditionalGeneration.from_pretrained(run / "functions" / "model").eval()


def the_run(base: Path) -> train.Run:
    return train.Run(base / "run", base / "data", build.recipe(str(base / "tiny.toml")))


def test_building_writes_what_training_reads(base: Path) -> None:
    counts = json.loads((base / "run/data/built.json").read_text(encoding="utf-8"))
    found = load_cases(base / "run/data")
    assert counts["cases"] == len(found) and counts["train_photos"] == 4 * len(some_labels(2))
    assert {case.lang for case in found} == {"en", "zh"} and any(case.domain for case in found)
    before = (base / "run/data/photos.npy").stat().st_mtime_ns
    assert build.build(base / "data", base / "run/data", build.recipe("nano")) == counts
    assert (base / "run/data/photos.npy").stat().st_mtime_ns == before  # packed once


def test_a_stage_says_which_one_comes_before(base: Path, tmp_path: Path) -> None:
    begun = train.Run(tmp_path, base / "data", build.recipe(str(base / "tiny.toml")))
    with pytest.raises(OctopusError) as caught:
        train.train_functions(begun)
    assert "data build" in caught.value.hint
    (tmp_path / "data").symlink_to(base / "run/data")
    with pytest.raises(OctopusError) as caught:
        train.train_functions(begun)
    assert "octopus train align" in caught.value.hint
    with pytest.raises(OctopusError) as caught:
        train.train_calls(begun)
    assert "octopus train lm" in caught.value.hint


def test_every_stage_leaves_its_results_and_its_curve(run: Path) -> None:
    for stage in train.STAGES:
        done = json.loads((run / stage / "done.json").read_text(encoding="utf-8"))
        assert done["stage"] == stage and done["results"] and done["versions"]["torch"]
        parts = ("projector", "all") if stage == "align" else (".",)
        for part in parts:
            assert read_curve(run / stage / part / "curve.jsonl")
            assert (run / stage / part / "curve.png").stat().st_size > 1000
    scores = json.loads((run / "functions/done.json").read_text(encoding="utf-8"))["results"]["held_out"]
    assert {"function/en", "function/zh", "answer/en", "refusal"} <= set(scores)
    assert all(0 <= score <= 1 for score in scores.values())


def test_what_is_done_is_not_done_again(base: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written() -> dict[str, int]:
        files = (path for path in run.rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = written()
    octopus_train(base, "all")
    ended = capsys.readouterr()
    assert written() == before
    assert ended.err.count("already done") == len(train.STAGES)
    assert [json.loads(line)["stage"] for line in ended.out.splitlines()] == list(train.STAGES)


def test_another_recipe_is_another_stage(base: Path, run: Path) -> None:
    config = build.recipe(str(base / "tiny.toml"))
    config["functions"]["rate"] = 0.5
    assert not train.Run(run, base / "data", config).stage("functions").is_done()
    assert the_run(base).stage("functions", "align/model/model.safetensors").is_done()


def test_the_tower_is_the_one_that_clip_trained(run: Path, model: LlavaForConditionalGeneration) -> None:
    prefix, state = "model.visual.trunk.", clip.load_state(run / "clip")
    trained = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    own = model.model.vision_tower.trunk.state_dict()
    assert all(torch.equal(own[key], trained[key]) for key in own)


def test_the_model_reads_photos_as_it_was_trained_to(
    base: Path, run: Path, model: LlavaForConditionalGeneration
) -> None:
    """Packed photos, as training reads them, against the pixels of the photo, as `from_pretrained` users do."""
    photos, tokens = the_run(base).built.photos, Tokens.load(run / "functions" / "model")
    spec = tokens.manifest.image
    stored = clip.store(photos, torch.device("cpu"))
    encoder = functions.Encoder(tokens, Registry.default(), spec.tokens, photos)
    case = next(case for case in load_cases(run / "data") if case.domain)
    batch = functions.collate([encoder.row(case.text, case.calls, case.photo, case.lang)], encoder)
    pixels_HWC = np.asarray(photos.pixels_NHWC[case.photo])
    pixels_1CHW = torch.from_numpy(preprocess(pixels_HWC, spec))[None]
    assert torch.allclose(pixels_1CHW, clip.plain(torch.from_numpy(pixels_HWC)[None], spec.size), atol=0.05)
    with torch.no_grad():
        expected, target = functions.answer_states(model, batch, stored)
        logits = model(input_ids=batch["ids"], pixel_values=pixels_1CHW).logits[0, :-1]
    found = logits[batch["labels"][0, 1:] != functions.IGNORED]
    assert len(target) >= 2 and torch.nn.functional.cosine_similarity(found, expected).min() > 0.999


def test_the_result_leaves_torch_and_answers(run: Path, tmp_path: Path) -> None:
    paths = export_onnx(run / "functions" / "model", tmp_path / "nano", "int8")
    assert len(paths) == 3 and Manifest.load(tmp_path / "nano").image.tokens == 4
    agent = Agent(tmp_path / "nano", phone=MemoryPhone(":memory:"))
    for text, image in (("text mom that I am late", None), ("这个怎么回收", np.full((40, 50, 3), 99, dtype=np.uint8))):
        plan = agent.plan(text, image)
        assert plan.refused or plan.calls
        for call in plan.calls:
            if not call.missing:
                assert agent.registry.validate(call.name, call.arguments) == call.arguments
        assert agent.run(plan, dry_run=True).executed is False


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / "checkpoint.pt", weights_only=False)["model"]
    return state


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(value, other[name]) for name, value in one.items())


def test_clip_killed_and_resumed_ends_with_the_same_weights(
    base: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = the_run(base)
    photos, tokenizer = tiny.built.photos, tiny.built.tokenizer
    stage = Stage("clip", tmp_path, tiny.config["clip"])
    for steps in (1, 2):  # no minutes: a step each
        clip.train(stage, photos, tokenizer, minutes=0)
        assert torch.load(tmp_path / "checkpoint.pt", weights_only=False)["step"] == steps
    assert not stage.is_done()
    augment, seen = clip.augment, []

    def killing(*arguments: Any) -> Tensor:
        seen.append(arguments)
        if len(seen) == 2:  # the fourth step: the third is lost with it
            raise Killed
        images: Tensor = augment(*arguments)
        return images

    monkeypatch.setattr(clip, "augment", killing)
    with pytest.raises(Killed):
        clip.train(stage, photos, tokenizer)
    monkeypatch.undo()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=False)["step"] == 2
    clip.train(stage, photos, tokenizer)
    assert stage.is_done()
    assert same(weights(tmp_path), weights(run / "clip"))


def test_a_trainer_stage_killed_and_resumed_ends_with_the_same_weights(
    base: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = the_run(base)
    photos = tiny.built.photos
    examples, held_out = tiny.mixture(PhotoChoice(photos, "train"))
    encoder = functions.Encoder(tiny.tokens(), tiny.registry, 0, photos)
    config = {**tiny.config["calls"], "steps": 5, "check_every": 3}
    plain = functions.arguments
    monkeypatch.setattr(functions, "arguments", lambda *a, **more: plain(*a, **more, save_steps=2))

    def tuned(name: str) -> dict[str, Tensor]:
        model = lm.load(run / "lm")
        functions.tune(Stage(name, tmp_path / name, config), model, examples, encoder, held_out[:5], config)
        return dict(model.state_dict())

    uninterrupted = tuned("one")
    score = functions.score

    def killed(*_: Any) -> dict[str, float]:
        raise Killed

    monkeypatch.setattr(functions, "score", killed)
    with pytest.raises(Killed):
        tuned("other")
    monkeypatch.setattr(functions, "score", score)
    assert lm.resume_point(Stage("other", tmp_path / "other", config))
    assert same(tuned("other"), uninterrupted)


def test_a_pool_of_batches_is_made_once(base: Path, run: Path, tmp_path: Path) -> None:
    """Examples come in the order of their numbers: making a pool is dear, and mixes enough."""
    tiny = the_run(base)
    examples, _ = tiny.mixture(PhotoChoice(tiny.built.photos, "train"))
    encoder = functions.Encoder(tiny.tokens(), tiny.registry, 0, tiny.built.photos)
    asked: list[int] = []

    class Counted:
        def example(self, index: int) -> Any:
            asked.append(index)
            return examples.example(index)

    config = {**tiny.config["calls"], "steps": 2 * functions.Batches.POOL}
    functions.tune(Stage("calls", tmp_path, config), lm.load(run / "lm"), Counted(), encoder, (), config)
    assert asked == list(range(len(asked))) and len(asked) == 2 * (16 * config["tokens"] // 40)


def test_compiling_is_the_recipes_choice(
    base: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = the_run(base)
    photos, tokenizer = tiny.built.photos, tiny.built.tokenizer
    choice = PhotoChoice(photos, "train")
    encoder = functions.Encoder(tiny.tokens(), tiny.registry, 0, photos)
    compiled: list[str] = []

    def instead(module: torch.nn.Module, **_: object) -> None:
        compiled.append(type(module).__name__)
        raise Killed

    def stage(name: str) -> Stage:
        return Stage(name, tmp_path / name, {**tiny.config[name], "compile": True})

    monkeypatch.setattr(torch.nn.Module, "compile", instead)
    texts, calls = ["see you at home"] * 50, stage("calls")
    with pytest.raises(Killed):
        lm.train(stage("lm"), tokenizer, texts, texts)
    with pytest.raises(Killed):
        clip.train(stage("clip"), photos, tokenizer)
    with pytest.raises(Killed):
        functions.tune(calls, lm.load(run / "lm"), Captions(choice), encoder, (), calls.config)
    assert len(compiled) == 3
    nano = build.recipe("nano")
    sections = [nano[name] for name in ("lm", "calls", "functions")] + [nano["align"]["all"]]
    assert all(section["compile"] is True for section in sections)


def test_a_stage_may_start_from_a_checkpoint(
    base: Path, run: Path, tmp_path: Path, model: LlavaForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, start = the_run(base), run / "functions" / "model"
    photos, tokenizer = tiny.built.photos, tiny.built.tokenizer
    taken: list[Mapping[str, Tensor]] = []

    def go_on(trainer: Any, _: Stage) -> None:
        taken.append(trainer.model.model.state_dict())
        raise Killed

    def loop(_: Stage, __: Any, ___: Any, objective: clip.Contrast, *____: Any) -> None:
        taken.append(objective.model.visual.trunk.state_dict())
        raise Killed

    monkeypatch.setattr(lm, "go_on", go_on)
    monkeypatch.setattr(clip, "loop", loop)
    texts = ["see you at home"] * 50
    with pytest.raises(Killed):
        lm.train(Stage("lm", tmp_path / "lm", tiny.config["lm"]), tokenizer, texts, texts, start)
    with pytest.raises(Killed):
        clip.train(Stage("clip", tmp_path / "clip", tiny.config["clip"]), photos, tokenizer, start=start)
    assert same(taken[0], model.model.language_model.state_dict())
    assert same(taken[1], model.model.vision_tower.trunk.state_dict())
    larger = {**tiny.config["lm"], "width": 2 * tiny.config["lm"]["width"]}
    with pytest.raises(OctopusError, match="does not fit the recipe"):
        lm.train(Stage("lm", tmp_path / "larger", larger), tokenizer, texts, texts, start)


def test_functions_may_go_on_from_a_whole_checkpoint(
    base: Path, run: Path, tmp_path: Path, model: LlavaForConditionalGeneration
) -> None:
    begun = train.Run(tmp_path, base / "data", the_run(base).config)
    (tmp_path / "data").symlink_to(run / "data")
    train.train_functions(begun, start=run / "functions" / "model")
    trained = LlavaForConditionalGeneration.from_pretrained(tmp_path / "functions" / "model")
    assert same(trained.model.vision_tower.state_dict(), model.model.vision_tower.state_dict())
    assert not same(trained.model.language_model.state_dict(), model.model.language_model.state_dict())
    done = json.loads((tmp_path / "functions" / "done.json").read_text(encoding="utf-8"))
    assert "model.safetensors" in done["inputs"]  # another start is another stage
    with pytest.raises(OctopusError, match=r"tokenizer\.json is missing"):
        train.train_functions(begun, start=tmp_path / "nowhere")
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OctopusError, match="another tokenizer"):
        train.train_functions(begun, start=other)


def test_words_are_blanked_but_none_that_the_answer_says(base: Path) -> None:
    tokens = the_run(base).tokens()
    special = tokens.manifest.special
    encoder = functions.Encoder(tokens, the_run(base).registry, 1, the_run(base).built.photos)
    text = "would you be so kind as to let my dear old neighbour know by email about it this very afternoon"
    row = encoder.row(text, [Call("send_email", {"to": "neighbour", "subject": "", "body": ""}, "", 1.0)], 0, "en")
    assert tokens.decode_value(row.ids[place] for place in row.words) == text
    seen = [functions.forget(row, tokens, random.Random(seed)) for seed in range(300)]
    left = [[i for i in row.words if found.ids[i] != special.pad] for found in seen]
    assert all(found.ids[i] == row.ids[i] for found in seen for i in range(len(row.ids)) if i not in row.words)
    texts = [tokens.decode_value(row.ids[i] for i in kept) for kept in left]
    assert all("neighbour" in said and set(said.split()) <= set(text.split()) for said in texts)  # whole words go
    assert 100 < texts.count(text) < 250 and 4 < max(len(row.words) - len(kept) for kept in left) < 40


def test_what_is_read_and_not_copied_is_never_blanked(base: Path) -> None:
    encoder = functions.Encoder(the_run(base).tokens(), the_run(base).registry, 1, the_run(base).built.photos)

    def words(name: str, arguments: dict[str, str | int], photo: int | None = None) -> range:
        return encoder.row("two of them", [Call(name, arguments, "", 1.0)], photo, "en").words

    assert not words("amazon_purchase", {"item": "them", "quantity": 2})
    assert not words("interior_design", {"room": "kitchen", "style": ""})
    assert not words(CAPTION, {"words": "cat"}, 0)
    assert words("amazon_purchase", {"item": "them", "quantity": 1})
    assert words("interior_design", {"room": "kitchen", "style": ""}, 0)


def test_the_tower_is_surer_of_what_it_tells_apart(base: Path, run: Path) -> None:
    photos = the_run(base).built.photos
    clear = np.eye(len(photos.labels), dtype=np.float16)[photos.label_N]
    noise = np.random.default_rng(0).standard_normal((len(clear), 400)).astype(np.float16)
    rows = align.trained_rows(photos)
    assert align.certainty(noise, photos)[rows].mean() < 4 / len(photos.labels)  # what was learnt by heart is no sight
    seen = {tuple(label) for label in clear[rows]}
    if len(rows) > 2 * len(seen):  # else a half may lack a label
        assert align.certainty(clear, photos)[rows].mean() > 0.5


def test_loader_processes_fill_whole_pools() -> None:
    order = functions.spread(24, workers=2, pool=4)
    assert functions.spread(5, workers=0) == list(range(5))
    assert order[0::2] == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    assert order[1::2] == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]


def test_precision_is_what_the_machine_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated bfloat16 trains many times slower than float32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for able, found in (({}, "no"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert precision() == found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision() == "bf16"


def test_features_are_made_again_for_another_tower(base: Path, run: Path, tmp_path: Path) -> None:
    tiny = the_run(base)
    tower, path = align.tower(run / "clip", tiny.config["clip"]).train(), tmp_path / "features.npy"
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    first = np.array(align.features(tower, tiny.built.photos, path))
    written = path.stat().st_mtime_ns
    align.features(tower, tiny.built.photos, path)
    assert path.stat().st_mtime_ns == written
    assert same(before, tower.state_dict())  # looking does not change it, not even its batch statistics
    tower.load_state_dict({name: 1.5 * value for name, value in before.items()})
    assert not np.allclose(first, align.features(tower, tiny.built.photos, path), atol=1e-2)


def test_a_tower_that_sees_nothing_is_not_aligned(tmp_path: Path) -> None:
    stage = Stage("align", tmp_path, {})
    align.gate(stage, {"probe": 0.5, "chance": 0.02})
    with pytest.raises(OctopusError, match="chance"):
        align.gate(stage, {"probe": 0.1, "chance": 0.02})


def test_a_share_keeps_whole_groups(base: Path) -> None:
    lines, _ = the_run(base).built.requests()
    half, more = train.thinned(lines, 0.5), train.thinned(lines, 0.75)
    groups = {request.group for request in half}
    assert 0.4 < len(half) / len(lines) < 0.6 and train.thinned(lines, 1.0) == lines
    assert half == [request for request in lines if request.group in groups]
    assert groups <= {request.group for request in more}


def test_scores_tell_right_from_wrong(base: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows the answers is right everywhere, one that knows none is right nowhere."""
    tiny = the_run(base)
    found: list[Case] = load_cases(run / "data")
    encoder = functions.Encoder(tiny.tokens(), tiny.registry, 0, tiny.built.photos)
    model = lm.load(run / "lm")

    def answering(right: bool) -> Any:
        def states(_: Any, batch: Mapping[str, Tensor], __: Any) -> tuple[Tensor, Tensor]:
            target = batch["labels"][:, 1:][batch["labels"][:, 1:] != functions.IGNORED]
            said = target if right else target * 0
            return torch.nn.functional.one_hot(said, encoder.tokens.vocab_size).float(), target

        return states

    monkeypatch.setattr(functions, "answer_states", answering(True))
    scores = functions.score(model, encoder, found, None)
    assert set(scores.values()) == {1.0} and any(name.startswith("photo/") for name in scores)
    monkeypatch.setattr(functions, "answer_states", answering(False))
    scores = functions.score(model, encoder, found, None)
    assert scores["answer/en"] == scores["answer/zh"] == 0.0
