"""Images of any shape and any number of classes: every trainable trains on them, or says in one
line why not."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.interpolation.judge import Judges, train_judges
from analysis.reconstruction import pca_errors
from tests.trainables.helpers import no_report, noise_dataset, weights_by_replicate
from trainables.autoencoder import train as autoencoder
from trainables.contract import ConfigError
from trainables.data import DataError
from trainables.fewshot import train as fewshot
from trainables.rotation import train as rotation
from trainables.supervised import train as supervised

PATIENT = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


shapes = st.tuples(st.integers(1, 4), st.integers(8, 96), st.integers(8, 96), st.integers(2, 40))
networks = st.tuples(
    st.integers(1, 5), st.sampled_from(["convolutional", "resnet", "mlp"]), st.sampled_from([3, 5])
)


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@given(shapes, networks, st.sampled_from(["fixed", "full", "scratch", "svm", "propagation"]))
@PATIENT
def test_every_trainable_takes_images_of_any_shape(shape, network, freeze):
    data = noise_dataset(*shape)
    depth, kind, kernel = network
    common = {"depth": depth, "width": 2, "network": kind, "kernel": kernel}
    encoder = autoencoder.Config(3, batch_size=4, epochs=1, **common)
    classes = len(data.classes)
    head = fewshot.Config(3, classes, freeze, epochs=2, pseudo_epochs=1, **common)
    control = supervised.Config(classes, epochs=2, views=2, width=2)
    if kind != "mlp" and 2 ** (depth - 1) >= min(data.image_shape[1:]):
        with pytest.raises(ConfigError, match="depth"):
            encoder.check_data(data)
        return
    for config in (encoder, head, control):
        config.check_data(data)
    trained = autoencoder.train(encoder, range(2), data, no_report)
    assert all(0 < row["test_mse"] < 1 for row in trained.rows)
    for module, config in ((fewshot, head), (supervised, control)):
        outcome = module.train(config, range(2), data, no_report, weights_by_replicate(trained))
        assert outcome.predictions.shape == (2, len(data.test))
        assert outcome.predictions.max() < classes


@given(shapes)
@PATIENT
def test_views_and_turns_keep_the_shape(shape):
    data = noise_dataset(*shape)
    config = autoencoder.Config(
        2,
        depth=2,
        width=2,
        batch_size=4,
        epochs=1,
        augment=1.0,
        noise=0.1,
        objective="contrastive",
        contrastive_updates=1,
    )
    autoencoder.train(config, range(1), data, no_report)
    turned = rotation.Config("cosine", depth=2, width=2, batch_size=4, epochs=1)
    outcome = rotation.train(turned, range(1), data, no_report)
    assert outcome.predictions.shape == (1, len(data.test))


@given(shapes)
@settings(PATIENT, max_examples=6)  # a second each
def test_judges_and_principal_components_take_any_shape(shape):
    data = noise_dataset(*shape)
    judges: Judges = train_judges(data, count=2, steps=2)
    images = data.test.on("cpu")[0]
    assert judges.by_judge(images).shape == (2, len(images), len(data.classes))
    errors = pca_errors(data, [1, 2, 8])["pca_mse"]
    assert errors.is_monotonic_decreasing and errors.iloc[-1] > 0


def test_pca_of_large_images_matches_the_covariance(monkeypatch):
    from analysis.reconstruction import errors

    data = noise_dataset(3, 12, 10, 4, images=20)
    exact = pca_errors(data, [1, 3, 20])["pca_mse"]
    monkeypatch.setattr(errors, "MAX_COVARIANCE_SIDE", 10)
    assert pca_errors(data, [1, 3, 20])["pca_mse"].to_numpy() == pytest.approx(exact.to_numpy())
    assert errors.pca_images(data) == "the same training images"
    monkeypatch.setattr(errors, "PCA_IMAGES", 7)
    assert errors.pca_images(data) == "the first 7 training images"


def test_images_without_labels_have_no_classifier():
    data = noise_dataset(1, 8, 8, 0)
    with pytest.raises(ConfigError, match="the images of noise have none"):
        fewshot.Config(3, 10, "fixed").check_data(data)
    with pytest.raises(ConfigError, match="the images of noise have none"):
        supervised.Config(10).check_data(data)
    assert autoencoder.train(
        autoencoder.Config(2, depth=2, width=2, batch_size=2, epochs=1), range(1), data, no_report
    ).rows


def test_turn_of_a_wide_image_is_no_shear():
    """In the coordinates of `affine_grid` a wide image is square, and a turn would bend it."""
    from trainables.augment import rotate

    wide = torch.zeros(1, 1, 21, 63)
    wide[..., 10, 22:41] = 1.0  # a bar along the middle row
    tall = rotate(wide, torch.tensor([90.0]))[0, 0]
    rows, columns = torch.nonzero(tall > 0.5, as_tuple=True)
    assert columns.unique().tolist() == [31]
    assert rows.max() - rows.min() == 18


def test_label_subset_of_too_many_is_refused():
    data = noise_dataset(1, 8, 8, 5)
    from trainables.data import label_subset

    with pytest.raises(DataError, match="give a multiple of 5 from 5 to 15"):
        label_subset(data.train.labels, 20, 0, 0, classes=5)
