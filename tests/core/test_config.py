"""Tests of the configuration and its presets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdp_core import config


@pytest.mark.parametrize("name", sorted(config.PRESETS))
def test_presets_survive_json(name):
    preset = config.preset(name)
    assert config.Config.from_json(preset.to_json()) == preset
    assert list(json.loads(preset.to_json())) == sorted(field.name for field in dataclasses.fields(preset))


def test_default_is_the_better_choice_and_paper_compat_the_released_one():
    default, compat = config.preset("default"), config.preset("paper_compat")
    for name, better, released in [
        ("fit", "letterbox", "centre_crop"),
        ("position_resize", "2d", "flat_nearest"),
        ("shift_heads", "per_image", "released_order"),
        ("distraction_target", "temperature", "inverse"),
        ("target_pool", "area", "nearest"),
        ("loc_balance", "image", "batch"),
        ("positives", "multi", "single"),
        ("mask_padding", True, False),
        ("drop_true_distractors", True, False),
    ]:
        assert (getattr(default, name), getattr(compat, name)) == (better, released)


def test_the_released_code_crops_in_training_and_pads_in_retrieval():
    assert config.preset("default").retrieval_fit == "letterbox"
    assert config.preset("default", fit="centre_crop").retrieval_fit == "centre_crop"
    compat = config.preset("paper_compat")
    assert (compat.fit, compat.retrieval_fit) == ("centre_crop", "letterbox")


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Config().epochs = 3
    assert config.Config().replace(epochs=3).epochs == 3


def test_misspelt_switches_are_errors():
    with pytest.raises(ValueError, match="Config.probe is 'spatail'; expected one of spatial, official, off"):
        config.Config(probe="spatail")
    with pytest.raises(ValueError, match="Config has no field 'epoch'. Did you mean 'epochs'"):
        config.Config().replace(epoch=3)
    with pytest.raises(ValueError, match="no field 'epoch'. Did you mean 'epochs'"):
        config.Config.from_json('{"epoch": 3}')
    with pytest.raises(ValueError, match="Unknown preset 'papre'"):
        config.preset("papre")
    with pytest.raises(ValueError, match="multiple of 32"):
        config.Config(image_size=600)


ODD = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=3),
    st.none(),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([b"x", 10**400, {}, float("nan"), float("-inf"), "3", "true"]),
)
FIELDS = {field.name: field for field in dataclasses.fields(config.Config)}


@settings(deadline=None)
@given(st.sampled_from(sorted(FIELDS)), ODD)
def test_a_field_takes_its_type_and_range_or_says_what_it_takes(name, value):
    try:
        made = config.Config(**{name: value})
    except ValueError as error:
        told = str(error)
        assert told.startswith(f"Config.{name} is {value!r}; expected ") and told.endswith(".")
        return
    kept, default = getattr(made, name), FIELDS[name].default
    assert kept == value and (type(value) is type(default) or (type(value), type(default)) == (int, float))
    assert not isinstance(value, (int, float)) or 0 <= value < float("inf")
    assert config.Config.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("epochs", -1, "a whole number, 0 or more"),
        ("epochs", "3", "a whole number, 0 or more"),
        ("lr_new", float("nan"), "a finite number, 0 or more"),
        ("batch_size", 2.5, "a whole number, 1 or more"),
        ("batch_size", True, "a whole number, 1 or more"),
        ("validation_share", 1.0, "a number from 0 to below 1"),
        ("shuffle", 1, "true or false"),
        ("probe_text", " ", "a text that is not empty"),
        ("seed", -1, "a whole number, 0 or more"),
    ],
)
def test_field_value_type_and_range_are_named(field, value, expected):
    with pytest.raises(ValueError, match=re.escape(f"Config.{field} is {value!r}; expected {expected}")):
        config.preset("default", **{field: value})


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '{"a":' * 5_000, "null", b"\xff", '{"epochs": 1e999}', ""])
def test_what_is_no_configuration_is_a_value_error(text):
    with pytest.raises(ValueError, match="recursion|expected|object|JSON"):
        config.Config.from_json(text)


@settings(deadline=None)
@given(st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner)))
def test_any_json_is_a_configuration_or_a_value_error(value):
    with contextlib.suppress(ValueError):
        config.Config.from_json(json.dumps(value, default=repr))


def test_a_slip_is_answered_with_the_nearest_name():
    for slip, meant in [("shft", "shift"), ("epoch", "epochs"), ("lr_knew", "lr_new")]:
        with pytest.raises(ValueError, match=f"Config has no field '{slip}'. Did you mean '{meant}'"):
            config.preset("default", **{slip: 1})
    with pytest.raises(ValueError, match="no field 'nosuch'[.]$"):
        config.preset("default", nosuch=1)
    with pytest.raises(ValueError, match="Did you mean 'default'"):
        config.preset("defualt")
