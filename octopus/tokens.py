"""The words of the model: text and calls become token ids, and ids become calls again.

Two forms of the same calls, both round-trip: ids, `<nexa_1> mom<nexa_arg> on my way<nexa_end>` with raw text between
special tokens and trailing defaults dropped; and text for people, `<nexa_1>('mom', 'on my way')<nexa_end>`. What a user
types never becomes a special token. It knows nothing of logits, backends or how a call is chosen or executed.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from octopus.core import Call, Function, Parameter
from octopus.declaration import INTEGERS, MAX_DIGITS
from octopus.errors import FunctionError, ModelError
from octopus.manifest import DecoderSpec, FunctionToken, ImageSpec, Manifest, SpecialIds, signature_hash
from octopus.spans import Names, Pieces
from octopus.text import clean_value, is_spaced

PAD = "<pad>"
BOS = "<s>"
IMAGE = "<image>"
ARG = "<nexa_arg>"
MISSING_TOKEN = "<nexa_missing>"
END = "<nexa_end>"
FUNCTION_TOKENS = tuple(f"<nexa_{index}>" for index in range(64))
SPECIAL_TOKENS = (PAD, BOS, IMAGE, ARG, MISSING_TOKEN, END, *FUNCTION_TOKENS)

FILE_NAME = "tokenizer.json"
NANO_TEMPLATE = "<image>{query}\nResponse:"

_TEMPLATE_PIECE = re.compile(f"({'|'.join(map(re.escape, SPECIAL_TOKENS))}|\\{{query\\}})")
_TEXT_CALL = re.compile(r"(<nexa_\d+>)\(")
_VARIABLE = re.compile(f"{IMAGE}|\\{{query\\}}")
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
_TEXT_VALUE = re.compile(rf"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[0-9]+|{MISSING_TOKEN})\s*(,|(?=\)))""")


class Tokens:
    """A tokenizer and the manifest that gives its special tokens their meaning."""

    def __init__(self, tokenizer: Tokenizer, manifest: Manifest) -> None:
        self.manifest = manifest
        # A copy, because splitting special tokens typed by users must not change the caller's tokenizer.
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocab_size = max(self._tokenizer.get_vocab_size(), manifest.decoder.vocab)
        self.pieces = Pieces(_token_bytes(self._tokenizer, self.vocab_size))
        self.function_ids = {entry.id: entry for entry in manifest.functions}
        self._check_ids()

    @classmethod
    def load(cls, folder: str | Path) -> Tokens:
        """Read `tokenizer.json` and `manifest.json` of a model folder."""
        manifest = Manifest.load(folder)
        path = Path(folder) / FILE_NAME
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every kind of trouble
            raise ModelError(f"{path} cannot be read as a tokenizer", "install or export the model again") from error
        return cls(tokenizer, manifest)

    def save(self, folder: str | Path) -> Path:
        """Write `tokenizer.json`, as `load` reads it; the path."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.encode_special_tokens = False
        path = Path(folder) / FILE_NAME
        tokenizer.save(str(path))
        return path

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; a special token written out in it is split into ordinary ones."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no bytes
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_query(self, text: str) -> list[int]:
        """Ids of the request as it stands in the prompt: one space, then the trimmed sentence."""
        return self.encode_text(" " + text.strip())

    def encode_prompt(self, query_text: str, image_tokens: int) -> list[int]:
        """Ids of the manifest's template around a request; the image id repeated `image_tokens` times, maybe 0.

        Every piece is encoded by itself, so that no merge crosses a border. Without an image its line goes as well.
        """
        template = self.manifest.template
        if image_tokens == 0:
            template = template.replace(IMAGE + "\n", "").replace(IMAGE, "")
        template = template.replace(" {query}", "{query}")  # the request brings its own space
        ids: list[int] = []
        for piece in _TEMPLATE_PIECE.split(template):
            if piece == "{query}":
                ids += self.encode_query(query_text)
            elif piece == IMAGE:
                ids += [self.manifest.special.image] * image_tokens
            elif piece in (BOS, PAD):  # a language model brings its own, by whatever name
                ids.append(self.manifest.special.bos if piece == BOS else self.manifest.special.pad)
            elif piece in SPECIAL_TOKENS:
                ids.append(self._tokenizer.token_to_id(piece))
            elif piece:
                ids += self.encode_text(piece)
        return ids

    def prompt_start(self, has_image: bool) -> list[int]:
        """The ids every prompt begins with, up to the image or the request; maybe none."""
        image_tokens = 1 if has_image else 0
        ids = self.encode_prompt("", image_tokens)
        template = self.manifest.template.replace(" {query}", "{query}")
        head = _VARIABLE.split(template if has_image else template.replace(IMAGE + "\n", "").replace(IMAGE, ""))[0]
        pieces = [piece for piece in _TEMPLATE_PIECE.split(head) if piece]
        count = sum(1 if piece in SPECIAL_TOKENS else len(self.encode_text(piece)) for piece in pieces)
        return ids[:count]

    def encode_value(self, value: str | int, query: str) -> list[int]:
        """Ids of an argument in copy form: the same ids that the value has inside the request, where it is there."""
        if isinstance(value, int):
            return self.encode_text(str(value))
        value, query = clean_value(value), query.strip()
        return self.encode_text((" " if is_spaced(value, query) else "") + value)

    def decode_value(self, ids: Iterable[int]) -> str:
        """Text of an argument, trimmed; special ids and bytes that form no character are left out."""
        return b"".join(self.pieces.bytes[i] or b"" for i in ids).decode("utf-8", "ignore").strip()

    @cached_property
    def names(self) -> Names:
        """What a photo can show, as the model writes it."""
        return Names(self.manifest.names, self.pieces)

    def encode_choice(self, choice: str) -> list[int]:
        """Ids of an enum value: always a space and the value, wherever it comes from."""
        return self.encode_text(" " + choice)

    def encode_calls(self, calls: Sequence[Call], query: str, registry: Mapping[str, Function]) -> list[int]:
        """Calls as the model writes them, `<nexa_end>` included. `query` is the request the values are copied from."""
        ids: list[int] = []
        for call in calls:
            ids.append(self.manifest.by_name(call.name).id)
            for place, (parameter, value) in enumerate(_written(call, registry[call.name])):
                if place:
                    ids.append(self.manifest.special.arg)
                if parameter.name in call.missing:
                    ids.append(self.manifest.special.missing)
                elif value is not None:  # a default in front of a given value: nothing between the separators
                    enum = parameter.kind == "enum"
                    ids += self.encode_choice(value) if enum else self.encode_value(value, query)
        return [*ids, self.manifest.special.end]

    def decode_calls(self, ids: Sequence[int], registry: Mapping[str, Function]) -> list[Call]:
        """Ids up to and with `<nexa_end>` as calls, defaults filled in; ModelError when they are not well formed."""
        special = self.manifest.special
        if not ids or ids[-1] != special.end or special.end in ids[:-1]:
            raise _malformed(f"it must end with one {END}")
        calls: list[Call] = []
        for token_id, rest in _split_at(ids[:-1], self.function_ids):
            entry = self.function_ids[token_id]
            pieces = [piece for _, piece in _split_at([special.arg, *rest], {special.arg})] if rest else []
            given = [None if piece == [special.missing] else piece for piece in pieces]
            if any(self.pieces.bytes[i] is None for piece in given for i in piece or ()):
                raise _malformed("a special token stands inside a value")
            values = [None if piece is None else self.decode_value(piece) for piece in given]
            calls.append(_call(entry, registry[entry.name], values))
        return calls

    def format_calls(self, calls: Iterable[Call], registry: Mapping[str, Function]) -> str:
        """Calls for people: `<nexa_1>('mom', '')<nexa_end>`, every argument written out, no letter escaped."""
        parts = []
        for call in calls:
            values = []
            for parameter in registry[call.name].parameters:
                value = call.arguments.get(parameter.name, parameter.default)
                values.append(MISSING_TOKEN if parameter.name in call.missing else _quote(value))
            parts.append(f"{self.manifest.by_name(call.name).token}({', '.join(values)})")
        return "".join(parts) + END

    def parse_calls(self, text: str, registry: Mapping[str, Function]) -> list[Call]:
        """The other direction of `format_calls`; ModelError when the text is not well formed."""
        entries = {entry.token: entry for entry in self.manifest.functions}
        calls: list[Call] = []
        text, position = text.strip(), 0
        while match := _TEXT_CALL.match(text, position):
            entry = entries.get(match[1])
            if entry is None:
                raise _malformed(f"{match[1]} is no function of model '{self.manifest.name}'")
            position = match.end()
            values: list[str | None] = []
            while value := _TEXT_VALUE.match(text, position):
                values.append(None if value[1] == MISSING_TOKEN else _unquote(value[1]))
                position = value.end()
            if text[position : position + 1] != ")":
                raise _malformed(f"cannot read the arguments at {text[position : position + 20]!r}")
            position += 1
            calls.append(_call(entry, registry[entry.name], values))
        if text[position:] != END:
            raise _malformed(f"it must end with {END}, not {text[position : position + 20]!r}")
        return calls

    def _check_ids(self) -> None:
        special = self.manifest.special
        named = {ARG: special.arg, MISSING_TOKEN: special.missing, END: special.end, IMAGE: special.image}
        for token, token_id in {**named, **{entry.token: entry.id for entry in self.manifest.functions}}.items():
            if self._tokenizer.token_to_id(token) != token_id:
                raise ModelError(
                    f"manifest and tokenizer of model '{self.manifest.name}' disagree about {token}",
                    "both must come from the same training; install the model again",
                )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train the byte-level BPE of octopus: a border at every Han character and digit, specials first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def new_manifest(
    tokenizer: Tokenizer,
    functions: Mapping[str, Function],
    *,
    name: str = "nano",
    template: str = NANO_TEMPLATE,
    image: ImageSpec | None = None,
    decoder: DecoderSpec | None = None,
    pad: int | None = None,
    bos: int | None = None,
    copies: bool = False,
    names: Sequence[str] = (),
) -> Manifest:
    """The manifest of a model about to be trained. `functions` maps a functional token to what it stands for.

    `pad` and `bos` are ids of a tokenizer that has other names for them.
    """
    vocab = tokenizer.get_vocab_size()
    ids = tokenizer.get_vocab()
    return Manifest(
        name=name,
        template=template,
        functions=tuple(
            FunctionToken(token, ids[token], function.name, signature_hash(function))
            for token, function in functions.items()
        ),
        special=SpecialIds(
            arg=ids[ARG],
            missing=ids[MISSING_TOKEN],
            end=ids[END],
            image=ids[IMAGE],
            pad=ids[PAD] if pad is None else pad,
            bos=ids[BOS] if bos is None else bos,
        ),
        image=image or ImageSpec(),
        decoder=decoder or DecoderSpec(layers=0, kv_heads=0, head_dim=0, hidden=0, vocab=vocab, context=512),
        copies=copies,
        names=tuple(names),
    )


def _written(call: Call, function: Function) -> Iterator[tuple[Parameter, Any]]:
    """The parameters that are written out, with None for a default: all up to the last one that says something."""
    pairs: list[tuple[Parameter, Any]] = []
    length = 0
    for parameter in function.parameters:
        value = call.arguments.get(parameter.name, parameter.default)
        if isinstance(value, str):
            value = clean_value(value)
        if not parameter.required and value == parameter.default:
            value = None
        elif parameter.name not in call.missing:
            value = _checked(value, parameter, function)
        pairs.append((parameter, value))
        if value is not None or parameter.name in call.missing:
            length = len(pairs)
    return iter(pairs[:length])


def _call(entry: FunctionToken, function: Function, values: Sequence[str | None]) -> Call:
    """A call from argument texts in order: None is missing, an empty text of an optional parameter its default."""
    if len(values) > len(function.parameters):
        raise _malformed(f"{function.name} takes {len(function.parameters)} arguments, not {len(values)}")
    values = [*values, *[""] * (len(function.parameters) - len(values))]
    arguments: dict[str, Any] = {}
    missing: list[str] = []
    for parameter, value in zip(function.parameters, values, strict=True):
        if value is None and not parameter.required:
            raise _malformed(f"{parameter.name} of {function.name} has a default and cannot be missing")
        if value is None:
            missing.append(parameter.name)
        elif not value and not parameter.required:
            arguments[parameter.name] = parameter.default
        else:
            arguments[parameter.name] = _checked(value, parameter, function)
    return Call(function.name, arguments, entry.token, confidence=1.0, missing=tuple(missing))


def _checked(value: Any, parameter: Parameter, function: Function) -> str | int:
    """The value in the type of its parameter, or FunctionError: it could not be written or read as tokens."""
    text = clean_value(str(value)) if isinstance(value, (str, int)) else ""
    if parameter.kind == "integer":
        if re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", text) and int(text) in INTEGERS:
            return int(text)
        raise FunctionError(f"{function.name}: {parameter.name} must be 1 to {INTEGERS[-1]}, not {value!r}")
    if parameter.kind == "enum" and text not in parameter.choices:
        choices = ", ".join(parameter.choices)
        raise FunctionError(f"{function.name}: {parameter.name} cannot be {value!r}", f"one of {choices}")
    if not text:
        raise FunctionError(f"{function.name}: {parameter.name} has no value")
    return text


def _quote(value: str | int) -> str:
    """A Python literal; only the quote, the backslash and control characters are escaped."""
    if isinstance(value, int):
        return str(value)
    quote = '"' if "'" in value and '"' not in value else "'"
    value = value.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return quote + "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" else c for c in value) + quote


def _unquote(literal: str) -> str:
    try:
        return str(ast.literal_eval(literal)) if literal[0] in "'\"" else literal
    except SyntaxError as error:
        raise _malformed(f"cannot read {literal}") from error


def _split_at(ids: Sequence[int], heads: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    """Cut ids in front of each head: (head, the ids behind it)."""
    wanted = set(heads)
    starts = [place for place, token_id in enumerate(ids) if token_id in wanted]
    if ids and (not starts or starts[0] != 0):
        raise _malformed("it must begin with a functional token")
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        yield ids[start], list(ids[start + 1 : stop])


def _malformed(why: str) -> ModelError:
    return ModelError(f"this is not a list of calls: {why}")


def _token_bytes(tokenizer: Tokenizer, vocab_size: int) -> tuple[bytes | None, ...]:
    """The bytes each id stands for; None for special and unused ids.

    Byte-level BPE (GPT-2, Qwen, SmolLM) writes each byte as one letter; SentencePiece with byte fallback (Gemma) writes
    text, a space as one low line, and single bytes as `<0x0A>`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(rest)}
    sentencepiece = tokenizer.token_to_id("<0x0A>") is not None and tokenizer.token_to_id("\u2581") is not None
    table: list[bytes | None] = [None] * vocab_size
    added = tokenizer.get_added_tokens_decoder()
    for token, token_id in tokenizer.get_vocab().items():
        if token_id in added and added[token_id].special:
            continue
        if sentencepiece:
            byte = _BYTE_PIECE.fullmatch(token)
            table[token_id] = bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode()
        elif token_id not in added:
            try:
                table[token_id] = bytes(letters[letter] for letter in token)
            except KeyError as error:
                raise ModelError(
                    f"token {token!r} is not byte-level",
                    "octopus needs a byte-level BPE tokenizer, as GPT-2, Qwen and SmolLM have",
                ) from error
    return tuple(table)
