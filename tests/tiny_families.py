"""Tiny language models of every family that octopus builds on, saved as their makers save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

TEXTS = [
    "send this photo to mom please, the kitchen",
    "buy 2 cartons of oat milk and 12 eggs",
    "给妈妈发短信说我马上到",
]
FAMILIES = ("llama", "smollm", "qwen2", "qwen3", "gemma3")


def byte_level() -> Tokenizer:
    """As Qwen, Llama 3 and SmolLM have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|endoftext|>", "<|begin|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As Gemma has it: text with low lines for spaces, single bytes for what is unknown."""
    alphabet = sorted({letter for text in TEXTS for letter in text.replace(" ", "\u2581")} | set("0123456789:&"))
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    merges = [("\u2581", "m"), ("\u2581m", "o"), ("\u2581mo", "m"), ("e", "g"), ("eg", "g")]
    pieces += [a + b for a, b in merges]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    return tokenizer


def text_config(family: str, vocab: int, **changes: Any) -> Any:
    """Two layers that have every part of the family: grouped heads, biases, norms, windows."""
    sizes: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 0,
    }
    if family == "gemma3":
        kinds = ["sliding_attention", "full_attention"]
        own = {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 16, "layer_types": kinds}
        return Gemma3TextConfig(**{**sizes, **own, "rope_theta": 1e6, "rope_local_base_freq": 1e4, **changes})
    if family == "qwen3":
        return Qwen3Config(**sizes, head_dim=32, tie_word_embeddings=True)
    if family == "qwen2":
        return Qwen2Config(**{**sizes, **changes}, rope_theta=1e6, tie_word_embeddings=True)
    return LlamaConfig(**sizes, tie_word_embeddings=family == "smollm")


def save_language(family: str, folder: Path, **changes: Any) -> Path:
    """Weights, config and tokenizer in Hugging Face's format."""
    gemma = family == "gemma3"
    tokenizer = sentencepiece() if gemma else byte_level()
    vocab = tokenizer.get_vocab_size() + (100 if family == "qwen2" else 0)  # Qwen has rows to spare
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(text_config(family, vocab, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter += 0.3 * torch.randn_like(parameter)  # ones and zeros would hide mistakes
    model.save_pretrained(folder)
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"} if gemma else {}
    special = special or {"eos_token": "<|endoftext|>"} | ({"bos_token": "<|begin|>"} if family == "llama" else {})
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder
