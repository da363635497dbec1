"""Splits, label subsets and fingerprints; reading, downloading and refusing files."""

import functools
import gzip
import hashlib
import itertools
import pickle
import threading
import warnings
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets.mnist
from sklearn.model_selection import train_test_split

from tests.phrases import phrase
from tests.trainables.helpers import no_report
from trainables.autoencoder import train as autoencoder
from trainables.data import DataError, Dataset, Split, label_subset, load, pixels, stratified
from trainables.data import mnist as data

CLASS_NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


# --- mnist-5k --------------------------------------------------------------------------------


def test_mnist_5k_has_its_sizes_and_shapes(digits):
    sizes = [(digits.train, 3600), (digits.validation, 400), (digits.test, 1000)]
    for split, size in sizes:
        assert len(split) == size
        assert split.images.shape == (size, 1, 28, 28)
        assert split.labels.shape == (size,)
        assert split.images.dtype == split.labels.dtype == np.uint8
    assert digits.train.images.min() == 0
    assert digits.train.images.max() == 255


def test_mnist_5k_is_stratified(digits):
    assert np.bincount(digits.train.labels).tolist() == [360] * 10
    assert np.bincount(digits.validation.labels).tolist() == [40] * 10
    assert np.bincount(digits.test.labels).tolist() == [100] * 10


def test_mnist_5k_splits_are_disjoint(digits):
    splits = (digits.train, digits.validation, digits.test)
    found = [image.tobytes() for split in splits for image in split.images]
    assert len(set(found)) == len(found) == 5000


def test_split_of_mnist_5k_never_changes(digits):
    """Results are stored under this: another split must not be taken for this one."""
    assert digits.fingerprint == "3bd80a0590567460"
    assert load("mnist-5k").fingerprint == digits.fingerprint


def test_images_of_mnist_5k_belong_to_their_labels(digits):
    """The nearest class mean is right for four digits in five; in a wrong pairing, for one in
    ten."""
    flat = digits.train.images.reshape(3600, -1).astype(float)
    means = np.stack([flat[digits.train.labels == digit].mean(axis=0) for digit in range(10)])
    test = digits.test.images.reshape(1000, -1).astype(float)
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == digits.test.labels).mean() > 0.75


def test_splits_match_scikit_learn():
    """Results on disk are named by them; class counts have every kind of remainder."""
    draw = np.random.default_rng(0)
    for seed in range(40):
        labels = np.arange(draw.integers(100, 300)) ** 2 % draw.integers(2, 10)
        labels = np.concatenate([labels, labels]).astype(np.uint8)
        held_out = int(draw.integers(20, 60))
        theirs = train_test_split(
            np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=seed
        )
        for mine, other in zip(stratified(labels, held_out, seed), theirs, strict=True):
            assert np.array_equal(mine, other)


@pytest.mark.parametrize("changed", ["image", "label", "order", "boundary"])
def test_fingerprint_changes_with_the_data(few_digits, changed):
    train, validation = few_digits.train, few_digits.validation
    images, labels = train.images.copy(), train.labels.copy()
    if changed == "image":
        images[7, 0, 14, 14] ^= 1
    elif changed == "label":
        labels[7] = (labels[7] + 1) % 10
    elif changed == "order":
        images, labels = images[::-1], labels[::-1]
    else:  # the same images and labels, but one of the training split in the validation split
        joined_images = np.concatenate([images[-1:], validation.images])
        joined_labels = np.concatenate([labels[-1:], validation.labels])
        validation = Split(joined_images, joined_labels)
        images, labels = images[:-1], labels[:-1]
    other = Dataset("other", Split(images, labels), validation, few_digits.test)
    assert other.fingerprint != few_digits.fingerprint


def test_fingerprint_does_not_depend_on_the_name(few_digits):
    same = Dataset("other", few_digits.train, few_digits.validation, few_digits.test)
    assert same.fingerprint == few_digits.fingerprint


def test_split_becomes_tensors_without_a_warning(few_digits):
    images, labels = few_digits.train.images.copy(), few_digits.train.labels.copy()
    images.flags.writeable = labels.flags.writeable = False  # as from Ray's object store
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_tensor, label_tensor = Split(images, labels).on("cpu")
    assert image_tensor.shape == (100, 1, 28, 28)
    assert image_tensor.dtype == torch.uint8
    assert label_tensor.dtype == torch.int64
    assert np.array_equal(image_tensor.numpy(), images)
    assert np.array_equal(label_tensor.numpy(), labels)


def test_pixels_are_from_0_to_1():
    assert pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )


# --- label subsets ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 20, 40, 80, 160, 3600])
def test_label_subsets_are_balanced_and_distinct(digits, size):
    for subset in range(3):
        indices = label_subset(digits.train.labels, size, seed=0, subset=subset)
        assert indices.shape == (size,)
        assert len(set(indices.tolist())) == size
        assert np.bincount(digits.train.labels[indices]).tolist() == [size // 10] * 10


def test_label_subsets_are_nested(digits):
    for seed in (0, 1):
        for subset in range(3):
            subsets = [
                label_subset(digits.train.labels, size, seed, subset) for size in (20, 40, 80, 160)
            ]
            for smaller, larger in itertools.pairwise(subsets):
                assert np.array_equal(larger[: len(smaller)], smaller)


def test_subsets_of_other_numbers_and_seeds_differ(digits):
    subsets = {
        tuple(sorted(label_subset(digits.train.labels, 20, seed, subset).tolist()))
        for seed in range(5)
        for subset in range(5)
    }
    assert len(subsets) == 25


def test_label_subset_never_changes(digits):
    assert label_subset(digits.train.labels, 20, seed=0, subset=0).tolist() == [
        3042, 1774, 2431, 3384, 2575, 1799, 2158, 3577, 1690, 1275,
        2483, 7, 586, 1424, 1694, 611, 2355, 1721, 1252, 1129,
    ]  # fmt: skip


@pytest.mark.parametrize("size", [15, 0, -10, 5, 3610, 5000])
def test_impossible_label_subset_names_possible_sizes(digits, size):
    with pytest.raises(DataError, match=phrase(f"{size} labels … multiple of 10 from 10 to 3600")):
        label_subset(digits.train.labels, size, seed=0, subset=0)


def test_rarest_class_limits_the_label_subsets():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 8)[:-5]  # three nines
    images = np.zeros((len(labels), 28, 28), np.uint8)
    split = Split(images, labels)
    assert Dataset("few nines", split, split, split).most_labels == 30
    assert len(label_subset(labels, 30, seed=0, subset=0)) == 30
    with pytest.raises(DataError, match="40 labels"):
        label_subset(labels, 40, seed=0, subset=0)


# --- datasets in files -----------------------------------------------------------------------


def write_raw_files(folder):
    """The four files of a drop-in replacement of MNIST: nearly black images (sparse files, which
    take no space), labels 0 … 9 in turn. The first pixel of image n is n modulo 251."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, count, 28, 28))
        images = folder / f"{prefix}-images-idx3-ubyte"
        images.write_bytes(header)
        with images.open("r+b") as file:
            file.truncate(16 + 784 * count)
        on_disk = np.memmap(images, np.uint8, "r+", offset=16, shape=(count, 784))
        on_disk[:1000, 0] = np.arange(1000) % 251
        on_disk.flush()
        header = b"".join(number.to_bytes(4, "big") for number in (0x801, count))
        labels = bytes(range(10)) * (count // 10)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels)
    return folder


def accept_labels(folder, monkeypatch):
    """Make the labels of these files count as Fashion-MNIST's."""
    for name in data.FASHION_LABELS:
        monkeypatch.setitem(data.FASHION_LABELS, name, (folder / name).read_bytes()[8:18])


@pytest.fixture
def fake_mnist(tmp_path, monkeypatch, no_network):
    """Files in the place of MNIST's, with matching checksums."""
    folder = write_raw_files(tmp_path / "MNIST" / "raw")
    for name in data.MNIST_MD5:
        digest = hashlib.md5((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(data.MNIST_MD5, name, digest)
    return folder


def test_unknown_dataset_names_the_known_ones():
    with pytest.raises(DataError, match=phrase("'emnist'… mnist-5k, digits, mnist, … or a path")):
        load("emnist")


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_files_on_disk_are_read_and_split(name, tmp_path, no_network, monkeypatch):
    raw = write_raw_files(tmp_path / CLASS_NAMES[name] / "raw")
    if name == "fashion-mnist":
        accept_labels(raw, monkeypatch)
    dataset = load(name, tmp_path)
    assert dataset.name == name
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    assert np.bincount(dataset.train.labels).tolist() == [5500] * 10
    assert np.bincount(dataset.validation.labels).tolist() == [500] * 10
    assert dataset.train.images.shape == (55_000, 1, 28, 28)
    assert dataset.train.images.dtype == dataset.train.labels.dtype == np.uint8
    # The test files are the test split, in their order.
    assert dataset.test.images[:1000, 0, 0, 0].tolist() == [n % 251 for n in range(1000)]
    assert dataset.test.labels[:12].tolist() == [*range(10), 0, 1]
    assert load(name, tmp_path).fingerprint == dataset.fingerprint


def test_data_folder_comes_from_the_environment(tmp_path, monkeypatch, no_network):
    write_raw_files(tmp_path / "KMNIST" / "raw")
    monkeypatch.setenv("STUDY_DATA_DIR", str(tmp_path))
    assert len(load("kmnist").train) == 55_000


def test_mnist_with_the_published_checksums_is_read(fake_mnist):
    assert len(load("mnist", fake_mnist.parents[1]).test) == 10_000


def test_mnist_in_place_of_another_dataset_is_refused(fake_mnist, tmp_path):
    (tmp_path / "FashionMNIST").mkdir()
    fake_mnist.rename(tmp_path / "FashionMNIST" / "raw")
    with pytest.raises(DataError, match="this is MNIST's file, not fashion-mnist's"):
        load("fashion-mnist", tmp_path)


@pytest.mark.parametrize("file", list(data.FASHION_LABELS))
def test_labels_of_fashion_mnist_belong_to_it_alone(file, tmp_path, no_network, monkeypatch):
    raw = write_raw_files(tmp_path / "KMNIST" / "raw")
    monkeypatch.setitem(data.FASHION_LABELS, file, bytes(range(10)))
    with pytest.raises(DataError, match=f"{file}: these are fashion-mnist's labels, not kmnist's"):
        load("kmnist", tmp_path)
    monkeypatch.undo()
    raw.parent.rename(tmp_path / "FashionMNIST")
    with pytest.raises(DataError, match="labels-idx1-ubyte: these are not fashion-mnist's labels"):
        load("fashion-mnist", tmp_path)


def test_labels_of_more_classes_are_refused(tmp_path, no_network):
    raw = write_raw_files(tmp_path / "KMNIST" / "raw")
    with (raw / "t10k-labels-idx1-ubyte").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x1a")
    with pytest.raises(DataError, match=phrase("t10k-labels…: damaged: a label is 26; ")):
        load("kmnist", tmp_path)


@pytest.mark.parametrize("name", list(data.RAW_SIZES))
def test_truncated_file_is_named(name, fake_mnist):
    size = data.RAW_SIZES[name]
    with (fake_mnist / name).open("r+b") as file:
        file.truncate(size - 100)
    with pytest.raises(DataError) as caught:
        load("mnist", fake_mnist.parents[1])
    message = str(caught.value)
    assert message.startswith(f"{fake_mnist / name}: damaged")
    assert f"expected {size:,} bytes, found {size - 100:,}" in message
    assert "run again" in message


@pytest.mark.parametrize("name", list(data.RAW_SIZES))
def test_flipped_byte_is_found_by_the_checksum(name, fake_mnist):
    expected = data.MNIST_MD5[name]
    with (fake_mnist / name).open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(DataError) as caught:
        load("mnist", fake_mnist.parents[1])
    message = str(caught.value)
    assert message.startswith(f"{fake_mnist / name}: damaged")
    assert f"expected MD5 {expected}" in message


def test_checksums_are_those_of_mnist():
    assert data.MNIST_MD5["train-images-idx3-ubyte"] == "6bbc9ace898e44ae57da46a324031adb"


@pytest.mark.parametrize("name", list(data.RAW_SIZES))
def test_one_missing_file_of_four_is_named(name, fake_mnist):
    (fake_mnist / name).unlink()
    with pytest.raises(DataError) as caught:
        load("mnist", fake_mnist.parents[1])
    assert str(fake_mnist / name) in str(caught.value)
    assert "run again" in str(caught.value) or "network" in str(caught.value)


def test_damaged_header_is_a_data_error(tmp_path, no_network):
    """Fashion-MNIST and KMNIST have no checksums here, but a wrong header is seen."""
    folder = write_raw_files(tmp_path / "KMNIST" / "raw")
    with (folder / "train-images-idx3-ubyte").open("r+b") as file:
        file.write(b"\xff" * 16)
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load("kmnist", tmp_path)


@pytest.mark.parametrize("name", list(CLASS_NAMES))
def test_missing_data_error_names_folder_and_remedy(name, tmp_path, no_network):
    with pytest.raises(DataError) as caught:
        load(name, tmp_path / "nowhere")
    (message,) = str(caught.value).splitlines()
    assert str(tmp_path / "nowhere") in message
    assert f"has no {name}" in message
    assert "Name or service not known" in message
    assert "--data-dir" in message
    assert "connect to the network" in message


def test_failed_download_leaves_no_empty_folder(tmp_path, no_network):
    with pytest.raises(DataError):
        load("mnist", tmp_path / "nowhere" / "data")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(DataError):
        load("mnist", tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "MNIST"]


@pytest.mark.parametrize("name", ["mnist", "emnist-letters", "usps", "svhn", "torchvision:GTSRB"])
def test_no_fetch_downloads_and_makes_nothing(name, tmp_path, no_network):
    with pytest.raises(DataError, match=f"nowhere has no {name} ") as caught:
        load(name, tmp_path / "nowhere", fetch=False)
    assert ";" not in str(caught.value)  # what to do is the caller's to say
    assert list(tmp_path.iterdir()) == []


def test_data_folder_that_is_a_file_is_a_data_error(tmp_path, no_network):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file"):
        load("mnist", tmp_path / "file")


# --- downloading -----------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of KMNIST on this machine; the fixture's value lists the paths asked of it."""
    folder = write_raw_files(tmp_path / "mirror")
    resources = []
    for name in data.RAW_SIZES:
        packed = gzip.compress((folder / name).read_bytes(), compresslevel=1, mtime=0)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args):
            pass  # torchvision's first request looks for a redirection and hangs up

    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [address])
    monkeypatch.setattr(torchvision.datasets.KMNIST, "resources", resources)
    yield asked
    server.shutdown()
    server.server_close()


def test_missing_files_are_downloaded_once(mirror, tmp_path):
    dataset = load("kmnist", tmp_path / "data")
    assert set(mirror) == {f"/{name}.gz" for name in data.RAW_SIZES}
    asked = len(mirror)
    assert len(dataset.train) == 55_000
    folder = tmp_path / "data" / "KMNIST" / "raw"
    for name, size in data.RAW_SIZES.items():
        assert (folder / name).stat().st_size == size
    again = load("kmnist", tmp_path / "data")
    assert len(mirror) == asked
    assert again.fingerprint == dataset.fingerprint


def test_damaged_file_is_repaired_as_its_error_says(mirror, tmp_path):
    load("kmnist", tmp_path)
    path = tmp_path / "KMNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="delete it and run again to download it"):
        load("kmnist", tmp_path)
    path.unlink()
    assert len(load("kmnist", tmp_path).train) == 55_000


# --- the real MNIST --------------------------------------------------------------------------


@pytest.mark.skipif(
    not (REAL_DATA / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file(),
    reason="full MNIST is not in ../shared/data",
)
def test_full_mnist_is_read(no_network):
    dataset = load("mnist", REAL_DATA)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    # Counts and mean pixel of the published test set.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(dataset.test.labels).tolist() == counts
    assert dataset.test.images.mean() / 255 == pytest.approx(0.1325, abs=1e-4)
    assert dataset.most_labels > 40_000


def test_pickled_images_train_to_the_same_bits(digits):
    """Their arrays have other strides there, by which PyTorch chooses a convolution."""
    sent = pickle.loads(pickle.dumps(digits, protocol=5))
    assert sent.train.images.strides != digits.train.images.strides
    config = autoencoder.Config(latent_dim=2, depth=2, width=16, epochs=1)
    here, there = (
        autoencoder.train(config, range(1), images, no_report).rows[0]["val_mse"]
        for images in (digits, sent)
    )
    assert here == there
