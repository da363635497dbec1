"""Properties of all settings, and the replicates that a divergence names."""

from dataclasses import dataclass

import pytest
import torch

from trainables.autoencoder import settings as autoencoder
from trainables.contract import Diverged, Settings, added_defaults, added_field, require_finite
from trainables.fewshot import settings as fewshot
from trainables.rotation import settings as rotation


@dataclass(frozen=True)
class Later(Settings):
    """Settings, one of which was added later."""

    width: int = 16
    tied: bool = added_field(False)


def test_added_setting_is_known_with_its_default():
    assert added_defaults(Later) == {"tied": False}
    assert Later(tied=True).tied


@pytest.mark.parametrize("module", [autoencoder, fewshot, rotation])
def test_cell_has_no_number_of_replicates(module):
    assert "replicates" not in module.Config.__dataclass_fields__


def test_replicate_builds_on_the_one_of_its_number():
    assert [Later().parent_replicate(replicate) for replicate in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("freeze", "encoders", "sources"),
    [("fixed", 0, [0, 1, 2, 3, 4]), ("full", 2, [0, 1, 0, 1, 0]), ("scratch", 2, [0, 1, 2, 3, 4])],
)
def test_classifiers_share_the_encoders_asked_for(freeze, encoders, sources):
    config = fewshot.Config(2, 20, freeze, encoders=encoders)
    assert [config.parent_replicate(replicate) for replicate in range(5)] == sources


def test_diverged_replicates_are_named_by_number():
    require_finite(torch.ones(3), range(7, 10), "a loss")
    values = torch.tensor([1.0, torch.nan, torch.inf])
    with pytest.raises(Diverged, match="a loss of replicate 8, 9 is not a finite number"):
        require_finite(values, range(7, 10), "a loss")
