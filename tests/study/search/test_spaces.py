"""The registry of search spaces: each dimension is a setting, and contains its default."""

from dataclasses import fields

import pytest

from study.experiments import EXPERIMENTS
from study.grid import override, settings_of
from study.search.spaces import SPACES, Choice, Real, Space, Steps
from trainables.fewshot.settings import HEADS

DIMENSIONS = [(name, dimension) for name, space in SPACES.items() for dimension in space.dimensions]


def config_of(experiment):
    """The configuration at a space's own place on the grid."""
    place = {axis: (value,) for axis, value in SPACES[experiment].defaults.items()}
    return vars(settings_of(override(EXPERIMENTS[experiment], place, {}))[0])


@pytest.mark.parametrize(("experiment", "dimension"), DIMENSIONS)
def test_dimension_is_a_setting_and_holds_its_start(experiment, dimension):
    names = {known.name for known in fields(EXPERIMENTS[experiment].settings_module().Config)}
    assert dimension.name in names
    start = config_of(experiment)[dimension.name]
    assert dimension.contains(start)
    assert (
        dimension.distribution().to_external_repr(dimension.distribution().to_internal_repr(start))
        == start
    )


@pytest.mark.parametrize("experiment", SPACES)
def test_every_corner_of_a_space_is_a_configuration(experiment, digits):
    module = EXPERIMENTS[experiment].settings_module()
    for dimension in SPACES[experiment].dimensions:
        ends = (
            dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        )
        for value in ends:
            assert dimension.contains(value)
            module.Config(**{**config_of(experiment), dimension.name: value}).check_data(digits)


@pytest.mark.parametrize("experiment", SPACES)
def test_place_gives_every_axis_not_searched_a_value(experiment):
    searched = {dimension.name for dimension in SPACES[experiment].dimensions}
    assert set(EXPERIMENTS[experiment].axes) <= searched | set(SPACES[experiment].defaults)


def test_fixed_and_unused_settings_are_not_searched():
    space = Space((Real("a", 1, 2), Steps("b", 1, 3), Choice("c", (1,), applies=lambda s: s["on"])))
    assert [d.name for d in space.at({"on": True}, {})] == ["a", "b", "c"]
    assert [d.name for d in space.at({"on": False}, {"a": 1})] == ["b"]


COMMON = {"learning_rate", "weight_decay"}


@pytest.mark.parametrize(
    ("freeze", "pretraining", "more"),
    [("fixed", "plain", set()),
     ("fixed", "augmented", {"view_strength"}),
     ("full", "plain", {"encoder_learning_rate"}),
     ("scratch", "plain", {"encoder_learning_rate", "width", "kernel", "activation"}),
     ("lp-ft", "augmented", {"tuning_learning_rate", "view_strength"}),
     ("propagation", "augmented", {"alpha", "neighbours"}),  # no views, though augmented
     ("consistency", "plain", {"alpha", "neighbours", "view_strength"}),
     ("svm", "plain", set()),
     ("logistic", "plain", set()),
     ("neighbours", "plain", set())],
)  # fmt: skip
def test_few_shot_arms_search_the_settings_they_use(freeze, pretraining, more):
    settings = {**config_of("fewshot"), "freeze": freeze, "pretraining": pretraining}
    found = {d.name for d in SPACES["fewshot"].at(settings, {})}
    if freeze in HEADS:  # scikit-learn's, without settings
        assert found == more
    else:
        assert found == COMMON | more | (set() if freeze == "consistency" else {"hidden"})
