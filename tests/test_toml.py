"""`mrlift.config`; what training and node read is tested with them."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from mrlift.config import from_table, load_toml
from mrlift.errors import ConfigError


@dataclass(frozen=True)
class Part:
    size: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Whole:
    name: str
    part: Part = Part()
    more: tuple[Part, ...] = ()
    other: Part | None = None
    pairs: dict[str, tuple[int, int]] = field(default_factory=dict)


def test_nested_tables_lists_and_defaults():
    table = {
        "name": "x", "part": {"size": 2}, "more": [{"kind": "b"}, {}], "other": {},
        "pairs": {"k": [1, 2]},
    }  # fmt: skip
    expected = Whole("x", Part(2.0), (Part(kind="b"), Part()), Part(), {"k": (1, 2)})
    assert from_table(Whole, table) == expected
    assert from_table(Whole, {"name": "x"}) == Whole("x")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "'name' is missing in the top level"),
        ({"name": "x", "nmae": 1}, "Did you mean 'name'"),
        ({"name": "x", "zzz": 1}, "Known: name, part"),
        ({"name": 1}, "expected str, found int"),
        ({"name": "x", "part": {"size": True}}, "part.size = True: expected float"),
        ({"name": "x", "more": {}}, "expected a list"),
        ({"name": "x", "more": [{"kind": "c"}]}, "more.kind = 'c': expected one of"),
        ({"name": "x", "other": 1}, r"expected a table, \[other\]"),
        ({"name": "x", "pairs": []}, "expected a table"),
        ({"name": "x", "pairs": {"k": [1.5, 2]}}, "pairs.k = 1.5: expected int"),
    ],
)
def test_mistakes_are_named(table, message):
    with pytest.raises(ConfigError, match=message):
        from_table(Whole, table)


def test_the_file_is_named(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not a text file"):
        load_toml(tmp_path / "a.toml", Whole)
    (tmp_path / "a.toml").write_text("naem = 1")
    with pytest.raises(ConfigError, match=r"a\.toml: Unknown key 'naem'"):
        load_toml(tmp_path / "a.toml", Whole)
