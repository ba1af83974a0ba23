"""The functions octopus may call, by name: their JSON schemas, the check of arguments, and carrying a call out.

In: functions declared with `function`, then calls. Out: schemas, complete arguments, Outcomes.
Knows nothing of tokens (the manifest does), of the model, or of consent (policy.py).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from octopus.core import Call, Function, Outcome, Parameter
from octopus.declaration import INTEGERS, declared, function
from octopus.device import Device, Receipt
from octopus.errors import FunctionError
from octopus.journal import Action

__all__ = ["Registry", "function"]

CATALOGUE = "octopus.functions.catalogue"
"""Where the functions that come with octopus are declared; looked up by name because it lies in a higher layer."""


class _UnknownFunctionError(FunctionError, KeyError):
    """Also a KeyError, so that `in` and `.get` of a Mapping work."""


class Registry(Mapping[str, Function]):
    """Functions by name, in the order in which they were declared. `a | b` adds b's to a's; b wins equal names."""

    def __init__(self, functions: Iterable[Function | Callable[..., Any]]) -> None:
        """Take Functions or Python functions declared with `function`.

        Raises:
            FunctionError: One of them was not declared, or two have the same name.
        """
        self._functions: dict[str, Function] = {}
        for given in functions:
            known = given if isinstance(given, Function) else declared(given)
            if known is None:
                raise FunctionError(f"{given!r} is not declared", "put @function(effect=...) above it")
            if known.name in self._functions:
                raise FunctionError(f"two functions have the name {known.name!r}", "rename one of them")
            self._functions[known.name] = known

    @classmethod
    def default(cls) -> Registry:
        """The eleven functions that come with octopus."""
        return cls(_declared_in(importlib.import_module(CATALOGUE)))

    @classmethod
    def from_file(cls, path: str | Path) -> Registry:
        """The functions declared in a Python file; the file is run to find them.

        Raises:
            FunctionError: The file is missing, fails, or declares no (usable) function.
        """
        functions = _declared_in(_run_file(Path(path)))
        if not functions:
            raise FunctionError(f"{path}: no function is declared", "put @function(effect=...) above a def")
        return cls(functions)

    def __getitem__(self, name: str) -> Function:
        if name not in self._functions:
            raise _UnknownFunctionError(f"there is no function {name!r}", "`octopus functions` lists them")
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __or__(self, other: Registry) -> Registry:
        return Registry({**self._functions, **other._functions}.values())

    def schema(self, name: str) -> dict[str, Any]:
        """The JSON schema of the function's arguments: an object, no other properties allowed."""
        return _model(self[name]).model_json_schema(schema_generator=_PlainSchema)

    def validate(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments in the order of the signature, checked and with defaults filled in.

        Raises:
            FunctionError: Unknown function or argument, one is missing, or a value does not fit.
        """
        model = _model(self[name])
        try:
            checked = model.model_validate(dict(arguments))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            message = f"{name}: {place}: {first['msg']}"
            raise FunctionError(message, f"the function is {self[name].signature}") from None
        return checked.model_dump(by_alias=True)

    def execute(self, call: Call, phone: Device, action: Action | None = None) -> Outcome:
        """Carry one call out on the phone; the Outcome's status is "done" or "failed".

        Args:
            call: What to do.
            phone: Where.
            action: The call's line in the journal, already started; None: one is made.

        Raises:
            FunctionError: The arguments do not fit; nothing was carried out.
        """
        arguments = self.validate(call.name, call.arguments)
        try:
            with phone.underway(call.name, arguments, action):
                receipt = _receipt(call.name, self[call.name].body(phone, **arguments))
        except (Exception, SystemExit) as error:  # functions come from users and may raise anything
            return Outcome(call, "failed", f"{call.name} failed: {_one_line(str(error)) or type(error).__name__}")
        return Outcome(call, "done", _one_line(str(receipt.summary)), receipt.data)


class _PlainSchema(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _receipt(name: str, returned: Any) -> Receipt:
    """A function may return a Receipt, a mapping (data), or anything else, whose text is the summary."""
    if isinstance(returned, Receipt):
        return returned
    if isinstance(returned, Mapping):
        return Receipt(f"{name} done", {str(key): value for key, value in returned.items()})
    return Receipt(f"{name} done" if returned is None else str(returned))


def _one_line(text: str) -> str:
    return " ".join(text.split())


@lru_cache(maxsize=256)
def _model(described: Function) -> type[BaseModel]:
    # Fields are numbered and the argument's name is an alias: any name is possible then, even `copy` or `json`.
    fields: dict[str, Any] = {f"argument_{n}": _field(p) for n, p in enumerate(described.parameters)}
    config = ConfigDict(extra="forbid", title=described.name)
    return create_model(described.name, __config__=config, __doc__=described.description, **fields)


def _field(parameter: Parameter) -> tuple[Any, FieldInfo]:
    default = ... if parameter.required else parameter.default
    info: FieldInfo = Field(default, alias=parameter.name, description=parameter.description)
    return _type(parameter), info


def _type(parameter: Parameter) -> Any:
    literal: Any = Literal
    if parameter.kind == "enum":
        return literal[parameter.choices]
    if parameter.kind == "integer":
        return Annotated[int, Field(ge=INTEGERS[0], le=INTEGERS[-1]), BeforeValidator(_no_boolean)]
    if parameter.required:
        return Annotated[str, Field(pattern=r"\S")]  # says something
    return str


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number is needed")
    return value


def _declared_in(module: ModuleType) -> list[Function]:
    """The module's own declared functions, in order; imported ones belong to the module they come from."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    return [described for described in map(declared, own) if described is not None]


def _run_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):  # False, not an error, for an impossible path
        raise FunctionError(f"{path}: no such file", "give a Python file with declared functions")
    name = f"octopus_function_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FunctionError(f"{path}: not a Python file", "its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up here
    try:
        spec.loader.exec_module(module)
    except FunctionError:
        sys.modules.pop(name, None)
        raise
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        message = f"{path}:{_line(error, path)}: {type(error).__name__}: {_one_line(str(error))}"
        raise FunctionError(message, "the file must run without errors") from error
    return module


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    return (own[-1] if own else 0) or 0
