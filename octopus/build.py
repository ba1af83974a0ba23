"""`octopus build`: a vision tower and a language model become one LLaVA checkpoint that speaks functional tokens.

In: two specs (towers.py) and the functions. Out: a folder with a stock checkpoint, tokenizer, processor and manifest,
ready for the training stages. Every functional token begins as the mean of the words that describe its function. The
projector is new: without training the model does not know what it sees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import torch
from tokenizers import AddedToken, Tokenizer
from transformers import (
    CLIPImageProcessor,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from octopus.core import Function
from octopus.errors import ModelError, UsageError
from octopus.manifest import FILE_NAME, Manifest
from octopus.model import build_llava, decoder_spec
from octopus.registry import Registry
from octopus.staging import staged
from octopus.tokens import ARG, END, FUNCTION_TOKENS, IMAGE, MISSING_TOKEN, new_manifest
from octopus.towers import Language, Vision, load_language, load_vision

LARGEST = 1_000_000_000
TEMPLATE = (
    "Below is the query from the users, please call the correct function and generate the parameters to call the "
    "function.\n\n<image>\nQuery: {query} \n\nResponse:"
)
"""Octopus v2's prompt; models whose tokenizer has a token for the beginning get it in front."""
_WORDS = {
    IMAGE: "image photo picture",
    ARG: ", next value",
    MISSING_TOKEN: "missing unknown not given",
    END: "end stop",
}


def build(
    vision_spec: str,
    language_spec: str,
    folder: Path,
    *,
    name: str | None = None,
    random: bool = False,
    allow_large: bool = False,
    registry: Mapping[str, Function] | None = None,
) -> Manifest:
    """Fuse the two and write the checkpoint; its manifest.

    Raises:
        ModelError: One of them cannot be loaded, or together they have more than 1,000 million parameters.
        UsageError: There is something in the folder already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "name a new folder")
    registry = Registry.default() if registry is None else registry
    largest = None if allow_large else LARGEST
    language, vision = load_language(language_spec, random, largest), load_vision(vision_spec, random)
    with staged(folder, FILE_NAME) as staging:
        first = add_tokens(language.tokenizer)
        grow(language, registry, first)
        model = fuse(vision, language)
        count = sum(parameter.numel() for parameter in model.parameters())
        if largest is not None and count > largest:
            raise ModelError(f"together they have {count / 1e6:,.0f} million parameters", "--allow-large builds it")
        template = ("<s>" if language.bos >= 0 and not random else "") + TEMPLATE
        functions = dict(zip(FUNCTION_TOKENS, registry.values(), strict=False))
        manifest = new_manifest(
            language.tokenizer,
            functions,
            name=name or folder.absolute().name,
            template=template,
            image=vision.image,
            decoder=decoder_spec(model.config.text_config),
            pad=language.pad,
            bos=language.bos,
        )
        save(model, language.tokenizer, manifest, staging.folder)
    return manifest


def add_tokens(tokenizer: Tokenizer) -> set[int]:
    """Add whatever functional token is not there yet; the ids of the new ones."""
    before = set(tokenizer.get_vocab().values())
    names = (IMAGE, ARG, MISSING_TOKEN, END, *FUNCTION_TOKENS)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in names])
    return {tokenizer.token_to_id(token) for token in names} - before


def grow(language: Language, registry: Mapping[str, Function], new: set[int]) -> None:
    """Give the new ids rows of embedding table and head: the mean of the rows of the words that describe them."""
    model, tokenizer = language.model, language.tokenizer
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > model.config.vocab_size:
        model.resize_token_embeddings(needed, pad_to_multiple_of=64, mean_resizing=False)
    described = dict(zip(FUNCTION_TOKENS, registry.values(), strict=False))
    tables = [model.get_input_embeddings().weight]
    if not model.config.tie_word_embeddings:
        tables.append(model.get_output_embeddings().weight)
    with torch.no_grad():
        means = [table[: min(needed, len(table))].mean(0) for table in tables]
        for token_id in sorted(new):
            token = tokenizer.id_to_token(token_id)
            function = described.get(token)
            words = _WORDS.get(token, "") if function is None else f"{function.name} {function.description}"
            ids = [i for i in tokenizer.encode(words, add_special_tokens=False).ids if i not in new]
            for table, mean in zip(tables, means, strict=True):
                table[token_id] = table[ids].mean(0) if ids else mean


def fuse(vision: Vision, language: Language) -> LlavaForConditionalGeneration:
    """The stock LLaVA of both, with a fresh projector."""
    image_id = language.tokenizer.token_to_id(IMAGE)
    end_id = language.tokenizer.token_to_id(END)
    model = build_llava(
        vision.model, language.model, image_token_id=image_id, pad_token_id=language.pad, eos_token_id=end_id
    )
    return model.eval()


def save(model: PreTrainedModel, tokenizer: Tokenizer, manifest: Manifest, folder: Path) -> None:
    """Everything that octopus, stock transformers and other engines look for in a checkpoint folder."""
    model.generation_config.eos_token_id = manifest.special.end
    model.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        eos_token=END,
        pad_token=tokenizer.id_to_token(manifest.special.pad),
        bos_token=tokenizer.id_to_token(manifest.special.bos) if manifest.special.bos >= 0 else None,
        extra_special_tokens={"image_token": IMAGE},
    )
    side = round(manifest.image.tokens**0.5)
    skipped = 1 if model.config.vision_feature_select_strategy == "default" else 0
    size, crop = manifest.image.size, manifest.image.fit == "crop"
    processor = LlavaProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": size} if crop else {"height": size, "width": size},
            do_center_crop=crop,
            crop_size={"height": size, "width": size},
            image_mean=list(manifest.image.mean),
            image_std=list(manifest.image.std),
        ),
        wrapped,
        patch_size=size // side,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
        num_additional_image_tokens=skipped,
    )
    processor.save_pretrained(folder)
    manifest.save(folder)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--vision", required=True, metavar="SPEC", help="open_clip:NAME/TAG, Hugging Face id, or folder.")
@click.option("--lm", "language", required=True, metavar="SPEC", help="Hugging Face id, or folder.")
@click.option("-o", "out", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option("--name", metavar="NAME", help="The model's name; default: the folder's.")
@click.option("--random", is_flag=True, help="Shapes only, with random weights: for benchmarks.")
@click.option("--allow-large", is_flag=True, help="More than 1,000 million parameters are meant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    vision: str, language: str, out: Path, name: str | None, random: bool, allow_large: bool, as_json: bool
) -> None:
    """Fuse a vision tower and a language model into a LLaVA checkpoint with functional tokens.

    Vision towers: SigLIP, CLIP, and any timm trunk of open_clip. Language models: Llama, SmolLM, Qwen2, Qwen2.5, Qwen3,
    Gemma 3.
    """
    manifest = build(vision, language, out, name=name, random=random, allow_large=allow_large)
    parameters = _count(out)
    found = {
        "model": manifest.name,
        "folder": str(out),
        "parameters": parameters,
        "image_tokens": manifest.image.tokens,
        "vocabulary": manifest.decoder.vocab,
    }
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo(f"{manifest.name}: {parameters / 1e6:,.1f} million parameters, {manifest.image.tokens} image tokens")
        click.echo(f"in {out}; the projector is new, so train it: octopus train align", err=True)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit code."""
    command.main(list(arguments), prog_name="octopus build", standalone_mode=False)
    return 0


def _count(folder: Path) -> int:
    """Parameters in the saved weights; tied ones are stored once."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(str(path), framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118  (not a dictionary)
                size: Sequence[int] = weights.get_slice(key).get_shape()
                product = 1
                for side in size:
                    product *= side
                total += product
    return total


__all__ = ["LARGEST", "TEMPLATE", "add_tokens", "build", "fuse", "grow", "save"]
