"""Settings out of bounds are refused with their name, their value and what is allowed."""

import dataclasses

import pytest

from trainables.autoencoder import settings as autoencoder
from trainables.contract import ConfigError
from trainables.fewshot import settings as fewshot
from trainables.rotation import settings as rotation
from trainables.shape import Shape
from trainables.supervised import settings as supervised

VALID = {
    "autoencoder": autoencoder.Config(latent_dim=2),
    "fewshot": fewshot.Config(latent_dim=3, labels=20, freeze="fixed"),
    "rotation": rotation.Config("cosine"),
    "shape": Shape(latent_dim=2, depth=2, width=4),
    "supervised": supervised.Config(labels=20),
}
BAD = [
    ("autoencoder", "latent_dim", 0, "at least 1"),
    ("autoencoder", "depth", 0, "1 … 8"),
    ("autoencoder", "depth", 9, "1 … 8"),
    ("autoencoder", "batch_size", 0, "at least 1"),
    ("autoencoder", "epochs", 0, "at least 1"),
    ("autoencoder", "learning_rate", 0.0, "above 0"),
    ("autoencoder", "learning_rate", float("nan"), "above 0"),
    ("autoencoder", "weight_decay", -0.1, "0 or"),
    ("autoencoder", "width", 0, "at least 1"),
    ("autoencoder", "kernel", 4, "3, 5 or 7"),
    ("autoencoder", "activation", "tanh", "gelu"),
    ("autoencoder", "augment", -1.0, "from 0 to 4"),
    ("autoencoder", "noise", 5.0, "from 0 to 4"),
    ("autoencoder", "target", "other", "clean or view"),
    ("autoencoder", "optimiser", "sgd", "adamw or muon"),
    ("autoencoder", "seed", -1, "at least 0"),
    ("autoencoder", "objective", "fame", "reconstruction"),
    ("autoencoder", "beta", -1.0, "from 0 to 1000"),
    ("autoencoder", "temperature", 0.0, "above 0"),
    ("autoencoder", "precision", "float8", "float32 or tf32 or bfloat16"),
    ("fewshot", "latent_dim", 0, "at least 1"),
    ("fewshot", "labels", 0, "at least 1"),
    ("fewshot", "labels", -20, "at least 1"),
    ("fewshot", "freeze", "half", "fixed or full or scratch"),
    ("fewshot", "depth", 9, "1 … 8"),
    ("fewshot", "batch_size", 21, "up to 20"),
    ("fewshot", "batch_size", -1, "up to 20"),
    ("fewshot", "epochs", 0, "at least 1"),
    ("fewshot", "learning_rate", 0.0, "above 0"),
    ("fewshot", "encoder_learning_rate", -1.0, "above 0"),
    ("fewshot", "weight_decay", -1.0, "0 or"),
    ("fewshot", "hidden", 0, "at least 1"),
    ("fewshot", "pretraining", "much", "plain or augmented"),
    ("fewshot", "tuning_learning_rate", 0.0, "above 0"),
    ("fewshot", "views", 0, "at least 1"),
    ("fewshot", "view_strength", -1.0, "from 0 to 4"),
    ("fewshot", "neighbours", 0, "at least 1"),
    ("fewshot", "alpha", 1.0, "below 1"),
    ("fewshot", "pseudo_epochs", 0, "at least 1"),
    ("fewshot", "pseudo_batch_size", 0, "at least 1"),
    ("fewshot", "kernel", 2, "3, 5 or 7"),
    ("fewshot", "encoders", -1, "at least 0"),
    ("fewshot", "seed", -1, "at least 0"),
    ("rotation", "loss", "squared", "absolute or wrapped"),
    ("rotation", "depth", 9, "1 … 8"),
    ("rotation", "batch_size", 0, "at least 1"),
    ("rotation", "epochs", 0, "at least 1"),
    ("rotation", "learning_rate", 0.0, "above 0"),
    ("rotation", "weight_decay", -1.0, "0 or"),
    ("rotation", "seed", -1, "at least 0"),
    ("supervised", "labels", 0, "at least 1"),
    ("supervised", "augment", -1.0, "from 0 to 4"),
    ("supervised", "batch_size", 21, "up to 20"),
    ("supervised", "epochs", 0, "at least 1"),
    ("supervised", "learning_rate", 0.0, "above 0"),
    ("shape", "latent_dim", 0, "at least 1"),
    ("shape", "latent_dim", -1, "at least 1"),
    ("shape", "depth", 0, "1 … 8"),
    ("shape", "depth", 9, "1 … 8"),
    ("shape", "width", 0, "at least 1"),
    ("shape", "kernel", 4, "3, 5 or 7"),
    ("shape", "kernel", 1, "3, 5 or 7"),
    ("shape", "activation", "tanh", "gelu"),
]


@pytest.mark.parametrize(("kind", "name", "value", "allowed"), BAD)
def test_setting_out_of_bounds_is_named(kind, name, value, allowed):
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(VALID[kind], **{name: value})
    error = caught.value
    assert error.field_name == name and error.value is value  # which may be NaN
    assert allowed in error.allowed
    assert str(error).startswith(f"{name} = {value!r}: ")


@pytest.mark.parametrize("kind", ["autoencoder", "rotation"])
def test_batch_larger_than_the_data_is_named(kind, few_digits):
    dataclasses.replace(VALID[kind], batch_size=100).check_data(few_digits)
    with pytest.raises(ConfigError, match="batch_size = 101: at most 100 images"):
        dataclasses.replace(VALID[kind], batch_size=101).check_data(few_digits)


def test_first_objective_is_the_default():
    assert VALID["autoencoder"].objective == autoencoder.OBJECTIVES[0] == "reconstruction"
