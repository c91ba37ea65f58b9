"""The measured choice of an engine: sound, kept, and never in the way."""

import json
import logging
import tempfile

import numpy as np
import pytest

import mrlift
from mrlift.errors import ModelError
from mrlift.inference import choice, zoo
from mrlift.inference.choice import cache_file, choose, measure
from mrlift.inference.engines import onnx_engine
from mrlift.inference.zoo import find_weights

TINY = "mrl-tiny-x2-bicubic"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def engines(monkeypatch):
    """Stands in for ncnn an engine of the test's making, called through the real choice."""
    made = {}

    def stand_in(change):
        reference = onnx_engine(find_weights(TINY)[1], 1)
        made["ncnn"] = lambda slices: change(reference(slices))
        real = choice.open_engine

        def opened(name, *arguments):
            return made[name] if name in made else real(name, *arguments)

        monkeypatch.setattr(choice, "open_engine", opened)
        monkeypatch.setattr(choice, "SIDES", (32, 48))
        monkeypatch.setattr(choice, "installed", lambda: {"onnx": "1", "ncnn": "1"})

    return stand_in


@pytest.mark.parametrize(
    "change",
    [lambda sr: sr + 2e-4, lambda sr: sr * np.nan, lambda sr: sr[:, 1:], lambda sr: 1 / 0],
)
def test_an_engine_that_is_wrong_here_is_not_used_and_says_so(engines, change, caplog):
    engines(change)
    with caplog.at_level(logging.WARNING, "mrlift"):
        first, last = choose(*find_weights(TINY), 1)
    assert (first.engine, first.problem) == ("onnx", "")
    assert last.engine == "ncnn"
    assert last.problem
    assert "ncnn is not used" in caplog.text


def test_the_faster_sound_engine_comes_first(engines):
    engines(lambda sr: sr)
    trials = measure(find_weights(TINY)[1], 1, ["onnx", "ncnn"])
    assert trials[0].seconds <= trials[1].seconds
    assert {t.problem for t in trials} == {""}


def test_the_choice_is_kept(engines, monkeypatch):
    engines(lambda sr: sr)
    first = choose(*find_weights(TINY), 1)
    monkeypatch.setattr(choice, "measure", lambda *_: pytest.fail("measured again"))
    assert choose(*find_weights(TINY), 1) == first


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": 1}'])
def test_a_damaged_cache_is_measured_anew(engines, content):
    engines(lambda sr: sr)
    card, weights = find_weights(TINY)
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(content)
    assert choose(card, weights, 1)[0].seconds > 0
    key = choice._key(card, 1)
    for entry in (1, [], [{"engine": "onnx"}], {"a": 2}):
        cache_file().write_text(json.dumps({key: entry}))
        assert choose(card, weights, 1)[0].seconds > 0


def test_a_cache_that_cannot_be_written_is_no_matter(engines, cache):
    engines(lambda sr: sr)
    cache.write_text("a file where the folder should be")
    assert choose(*find_weights(TINY), 1)[0].seconds > 0


def test_without_another_engine_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(choice, "installed", lambda: {"onnx": "1"})
    monkeypatch.setattr(choice, "measure", lambda *_: pytest.fail("measured"))
    assert [t.engine for t in choose(*find_weights(TINY))] == ["onnx"]
    assert mrlift.load_model(TINY).name == "onnx"


def test_a_chosen_engine_that_cannot_be_opened_gives_way(monkeypatch, tmp_path, caplog):
    """ncnn reads its weights from a temporary file: a full disk must not stop what needs none."""
    pytest.importorskip("ncnn")
    choice.open_engine.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(zoo, "choose", lambda *_: [choice.Trial("ncnn", 0.1, 0.0)])
    assert mrlift.load_model(TINY).name == "onnx"
    assert "ncnn is not used: ncnn needs a temporary file" in caplog.text
    with pytest.raises(ModelError, match="temporary file"):
        mrlift.load_model(TINY, engine="ncnn")
