"""The public names: complete, documented, and each importable from `octopus` itself."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import octopus
from octopus import errors

SOURCE = Path(octopus.__file__)


@pytest.mark.parametrize("name", octopus.__all__)
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    value = getattr(octopus, name)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert value.__module__.startswith("octopus.")


def test_all_is_complete_and_without_doubles() -> None:
    assert len(set(octopus.__all__)) == len(octopus.__all__)
    assert set(octopus.__all__) == {*octopus._HOME_OF, "__version__"}
    assert set(octopus.__all__) <= set(dir(octopus))


def test_type_checkers_see_the_same_names() -> None:
    """`if TYPE_CHECKING` repeats by hand what is loaded lazily; the two must not drift apart."""
    (block,) = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == octopus._HOME_OF


def test_every_error_is_public() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert defined <= set(octopus.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tentacle"):
        octopus.tentacle  # type: ignore[attr-defined]  # noqa: B018
