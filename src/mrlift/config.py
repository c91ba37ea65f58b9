"""TOML files read into frozen dataclasses.

An unknown key is an error that names the nearest known one; a missing key takes the default that
the dataclass states, and a key without a default is asked for.
"""

import dataclasses
import difflib
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mrlift.errors import ConfigError

T = TypeVar("T")


def load_toml(path: Path, kind: type[T]) -> T:
    """Read a file as the dataclass `kind`.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown, missing or ill-typed
            entry.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    try:
        return from_table(kind, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def from_table(kind: type[T], table: object, section: str = "") -> T:
    """The dataclass `kind` from the nested dictionary that TOML holds.

    Fields may be str, bool, int, float, Literal, dataclasses, tuples and dictionaries of these,
    and any of them or None. `section` is the name of the table in messages. A class with a static
    method `variant` is asked by it which of its subclasses the table is for.

    Raises:
        ConfigError: an unknown, missing or ill-typed entry.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{section} = {table!r}: expected a table, [{section}].")
    variant = getattr(kind, "variant", None)
    kind = variant(table) if variant else kind
    where = f"[{section}]" if section else "the top level"
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(fields)}."
            raise ConfigError(f"Unknown key {key!r} in {where}. {hint}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise ConfigError(f"The key {name!r} is missing in {where}.")
    hints = get_type_hints(kind)
    prefix = f"{section}." if section else ""
    return kind(**{k: _value(hints[k], value, prefix + k) for k, value in table.items()})


def _value(hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401
    """`value` as the type `hint`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:  # X | None; TOML has no null, but a checkpoint has
        return None if value is None else _value(inner[0], value, key)
    if dataclasses.is_dataclass(hint):
        return from_table(hint, value, key)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in inner:
            words = ", ".join(map(repr, inner))
            raise ConfigError(f"{key} = {value!r}: expected one of {words}.")
        return value
    if origin is tuple:
        return _items(inner, value, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{key} = {value!r}: expected a table, [{key}].")
        return {name: _value(inner[1], item, f"{key}.{name}") for name, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(
            f"{key} = {value!r}: expected {hint.__name__}, found {type(value).__name__}."
        )
    return value


def _items(kinds: tuple[Any, ...], values: object, key: str) -> tuple[Any, ...]:
    """A list as tuple[X, ...] or as a tuple of fixed length; checkpoints hold tuples already."""
    if not isinstance(values, list | tuple):
        raise ConfigError(f"{key} = {values!r}: expected a list, found {type(values).__name__}.")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(values)
    elif len(values) != len(kinds):
        raise ConfigError(f"{key} = {values!r}: expected {len(kinds)} values, found {len(values)}.")
    return tuple(_value(kind, v, key) for kind, v in zip(kinds, values, strict=True))
