"""Weights and their cards."""

import dataclasses
import hashlib
import json
import shutil

import pytest

import mrlift
from mrlift.errors import ModelError
from mrlift.inference.card import Card, load_card, save_card
from mrlift.inference.packing import PACKED, pack
from mrlift.inference.zoo import (
    DEFAULTS,
    SHIPPED,
    USUAL,
    find_weights,
    shipped_cards,
    shipped_names,
)


def test_shipped_cards_are_complete_and_true():
    cards = shipped_cards()
    assert [card.name for card in cards] == shipped_names()
    assert len(cards) >= 8
    for card in cards:
        assert find_weights(card.name)[0] == card
        assert card.data
        assert card.licence
        assert card.metrics
        assert 0 < card.spacing[0] < card.spacing[1]
        assert (SHIPPED / f"{card.name}{PACKED}").stat().st_size < 6e6
    named = {card.name: card for card in cards}
    for degradation, by_scale in DEFAULTS.items():
        for scale, name in by_scale.items():
            assert (named[name].degradation, named[name].scale) == (degradation, scale)


def test_a_path_works_as_well_as_a_name(tiny_weights):
    assert mrlift.load_model(tiny_weights).card.name == "tiny"
    assert mrlift.load_model(str(tiny_weights)).card.name == "tiny"
    for by_scale in DEFAULTS.values():
        for name in by_scale.values():
            assert mrlift.load_model(name, engine="onnx").card.name == name


@pytest.fixture
def copy(tiny_weights, tmp_path):
    for suffix in (".onnx", ".json"):
        shutil.copy(tiny_weights.with_suffix(suffix), tmp_path)
    return tmp_path / tiny_weights.name


def test_changed_weights_are_refused(copy):
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="does not match its card"):
        mrlift.load_model(copy)


def test_missing_card_or_weights(copy):
    copy.with_suffix(".json").rename(copy.with_name("elsewhere.json"))
    with pytest.raises(ModelError, match="card"):
        mrlift.load_model(copy)
    copy.with_name("elsewhere.json").rename(copy.with_suffix(".json"))
    copy.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        mrlift.load_model(copy)


@pytest.mark.parametrize(
    "damage",
    [
        {"extra": 1}, {"spacing": [1]}, {"spacing": 3}, {"grid": "foo"}, {"padding": None},
        {"receptive_field": -1}, {"degradation": "blur"},
    ],
)  # fmt: skip
def test_wrong_cards_are_refused(copy, damage):
    card = copy.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | damage))
    with pytest.raises(ModelError, match="not a card"):
        mrlift.load_model(copy)


def test_a_file_that_is_no_network(copy):
    copy.write_bytes(b"nothing")
    card = load_card(copy.with_suffix(".json"))
    digest = hashlib.sha256(b"nothing").hexdigest()
    save_card(dataclasses.replace(card, sha256=digest), copy.with_suffix(".json"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        mrlift.load_model(copy)


def test_unknown_names_and_scales_say_what_there_is():
    with pytest.raises(ModelError, match=DEFAULTS["bicubic"][2]):
        mrlift.load_model("nonsense")
    with pytest.raises(ModelError, match="No weights for scale 5"):
        mrlift.load_model(scale=5)


def test_wrong_scale_for_the_weights(tiny_weights):
    with pytest.raises(ModelError, match="upscales 2 times, but scale 3"):
        mrlift.load_model(tiny_weights, scale=3)


def test_the_degradation_chooses_the_weights():
    for degradation, by_scale in DEFAULTS.items():
        for scale, name in by_scale.items():
            model = mrlift.load_model(scale=scale, degradation=degradation, engine="onnx")
            assert model.card.name == name
    assert mrlift.load_model().card.name == DEFAULTS[USUAL][2]


def test_weights_of_another_degradation(tiny_weights):
    with pytest.raises(ModelError, match="trained for bicubic degradation, but kspace"):
        mrlift.load_model(tiny_weights, degradation="kspace")


def test_damaged_shipped_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("mrlift.inference.zoo.SHIPPED", tmp_path)
    shutil.copy(SHIPPED / "mrl-tiny-x2-bicubic.json", tmp_path)
    whole = (SHIPPED / f"mrl-tiny-x2-bicubic{PACKED}").read_bytes()
    for content in (whole[:-1], whole + b"x", b"", b"nothing"):
        (tmp_path / f"mrl-tiny-x2-bicubic{PACKED}").write_bytes(content)
        with pytest.raises(ModelError, match=r"is damaged: .* Install mrlift again"):
            mrlift.load_model("mrl-tiny-x2-bicubic")
    (tmp_path / f"mrl-tiny-x2-bicubic{PACKED}").write_bytes(pack(b"others"))
    with pytest.raises(ModelError, match="does not match its card"):
        mrlift.load_model("mrl-tiny-x2-bicubic")


def test_card_fields_are_documented():
    for field in dataclasses.fields(Card):
        assert f"{field.name}:" in Card.__doc__
