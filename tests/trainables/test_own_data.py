"""A user's own images: every source, every form of an image, and refusals in one line."""

import io
import json
import math

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
import torchvision.datasets
from PIL import Image
from pyarrow import parquet

from tests.names import NASTY_NAMES
from tests.phrases import phrase
from trainables.data import (
    DataError,
    Options,
    cache,
    collection,
    is_source,
    label_subset,
    load,
    sources,
    vision,
)

H, W = 4, 6


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    """Decoded images are kept in a folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("STUDY_DATA_DIR", str(folder))
    return folder


def picture(number, colour=True, size=(H, W)):
    """A different image for every number."""
    draw = np.random.default_rng(number)
    return draw.integers(0, 256, (*size, 3) if colour else size).astype(np.uint8)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(path, classes=("cat", "dog", "owl"), count=10, colour=True, **kw):
    for offset, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for number in range(count):
            array = picture(100 * offset + number, colour, **kw)
            (path / name / f"{number}.png").write_bytes(png(array))
    return path


def classes_by_image(data):
    """All images of a dataset by their bytes, with the names of their classes."""
    return {
        image.tobytes(): data.classes[label] if data.classes else None
        for split in data.splits
        for image, label in zip(split.images, split.labels, strict=True)
    }


def sizes(data):
    return [len(split) for split in data.splits]


# --- sources ---------------------------------------------------------------------------------


def test_subfolders_of_a_folder_are_classes(tmp_path):
    data = load(str(write_folder(tmp_path / "pets")))
    assert data.image_shape == (3, H, W)
    assert data.classes == ("cat", "dog", "owl")
    assert sizes(data) == [21, 3, 6]  # a fifth, then a tenth of what is left, of each class
    found = classes_by_image(data)
    assert len(found) == 30
    assert found[picture(103).transpose(2, 0, 1).tobytes()] == "dog"
    assert load(str(tmp_path / "pets")).fingerprint == data.fingerprint


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_folders_of_images_and_classes_may_have_any_name(name, tmp_path, monkeypatch):
    """A `~` in front is the home folder, and `./~` is a folder of that name."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / name, classes=(name, "dog"))
    data = load(f"./{name}")
    assert data.name == str(tmp_path / name)
    assert data.classes == tuple(sorted([name, "dog"]))
    assert load(data.name).fingerprint == data.fingerprint


def test_unknown_users_home_is_not_there():
    with pytest.raises(DataError, match="nobody-has-this-name/pets is not there"):
        load("~nobody-has-this-name/pets")


def test_grey_folder_has_one_channel_and_skips_non_images(tmp_path):
    folder = write_folder(tmp_path / "grey", colour=False)
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    (folder / "cat" / ".0.png").write_bytes(b"no image")
    below = folder / "dog" / "more"
    below.mkdir()
    (below / "x.PNG").write_bytes(png(picture(999, colour=False)))
    data = load(str(folder))
    assert data.image_shape == (1, H, W)
    assert classes_by_image(data)[picture(999, colour=False).tobytes()] == "dog"


@pytest.mark.parametrize("form", ["{split}/{label}", "{label}/{split}"])
@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "dev", "testing")])
def test_splits_of_folders_stay(tmp_path, names, form):
    for offset, name in enumerate(names):
        for number, label in enumerate(("a", "b")):
            folder = tmp_path / form.format(split=name, label=label)
            folder.mkdir(parents=True)
            for each in range(5 - offset):
                array = picture(100 * offset + 10 * number + each)
                (folder / f"{each}.png").write_bytes(png(array))
    data = load(str(tmp_path))
    assert data.classes == ("a", "b")
    assert sizes(data) == [10, 8, 6]
    first = picture(0).transpose(2, 0, 1)
    assert any(np.array_equal(image, first) for image in data.train.images)


def test_part_of_a_class_may_be_called_train(tmp_path):
    folder = write_folder(tmp_path / "all", classes=("animals", "vehicles"))
    (folder / "vehicles" / "train").mkdir()
    (folder / "vehicles" / "train" / "1.png").write_bytes(png(picture(999)))
    data = load(str(folder))
    assert data.classes == ("animals", "vehicles") and sizes(data) == [15, 2, 4]


def test_classes_with_test_images_only_are_split(tmp_path):
    for name in ("cat", "dog"):
        (write_folder(tmp_path / name, classes=("test",)) / "test").rename(tmp_path / name / "dev")
    assert sizes(load(str(tmp_path))) == [14, 2, 4]


def test_linked_folders_are_read_once(tmp_path):
    elsewhere = write_folder(tmp_path / "elsewhere", classes=("a", "b", "c", "more"), count=4)
    folder = write_folder(tmp_path / "pets")
    (folder / "owl" / "linked").symlink_to(elsewhere / "more")
    (folder / "owl" / "again").symlink_to(elsewhere / "more")
    (folder / "owl" / "above").symlink_to(folder / "owl")
    data = load(str(folder))
    assert sum(sizes(data)) == 34
    assert classes_by_image(data)[picture(303).transpose(2, 0, 1).tobytes()] == "owl"


def test_flat_folder_has_no_labels(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(png(picture(number)))
    data = load(str(tmp_path))
    assert data.classes == () and sizes(data) == [14, 2, 4]
    assert set(data.train.labels) == {0}


@pytest.mark.parametrize(
    "images",
    [
        np.stack([picture(n, colour=False) for n in range(20)]),
        np.stack([picture(n) for n in range(20)]),
        np.stack([picture(n).transpose(2, 0, 1) for n in range(20)]),
        np.stack([picture(n, colour=False) for n in range(20)]) / 255,
        np.stack([picture(n, colour=False) for n in range(20)]).astype(np.int64),
    ],
    ids=["grey", "channels last", "channels first", "fractions", "integers"],
)
def test_arrays_of_any_layout_are_read(images, tmp_path):
    labels = np.arange(20) % 2 + 1
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    np.save(tmp_path / "x.npy", images)
    data = load(str(tmp_path / "x.npz"))
    assert data.classes == ("1", "2")
    colour = images.ndim == 4
    each = [picture(n).transpose(2, 0, 1) if colour else picture(n, False) for n in range(20)]
    expected = {image.tobytes() for image in each}
    assert set(classes_by_image(data)) == expected
    without = load(str(tmp_path / "x.npy"))
    assert without.classes == () and set(classes_by_image(without)) == expected


def test_splits_of_an_array_file_stay(tmp_path):
    split = np.array(["train"] * 12 + ["test"] * 8)
    images = np.stack([picture(n) for n in range(20)])
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(20) % 2, split=split)
    data = load(str(tmp_path / "x.npz"))
    assert len(data.test) == 8 and len(data.train) + len(data.validation) == 12


def pixel_table(count=20, side=4):
    """A line per image, as competitions for digit recognisers hand them out."""
    pixels = np.stack([picture(n, False, (side, side)).ravel() for n in range(count)])
    table = pd.DataFrame(pixels, columns=[f"pixel{n}" for n in range(side * side)])
    table.insert(0, "label", [10 * (n % 2) for n in range(count)])
    return table


@pytest.mark.parametrize("name", ["digits.csv", "digits.CSV.gz"])
def test_csv_of_pixels_is_read(name, tmp_path):
    compression = "gzip" if name.endswith("gz") else None
    pixel_table().to_csv(tmp_path / name, index=False, compression=compression)
    data = load(str(tmp_path / name))
    assert data.image_shape == (1, 4, 4) and data.classes == ("0", "10")
    assert classes_by_image(data)[picture(3, False, (4, 4)).tobytes()] == "10"
    wide = load(str(tmp_path / name), options=Options(image_size=(2, 8)))
    assert wide.image_shape == (1, 2, 8)
    pixel_table().drop(columns="label").to_csv(tmp_path / "test.csv", index=False)
    assert load(str(tmp_path / "test.csv")).classes == ()


def test_groups_are_never_in_two_splits(tmp_path):
    table = pixel_table(60)
    table["writer"] = [f"w{n // 5}" for n in range(60)]
    table.to_csv(tmp_path / "x.csv", index=False)
    data = load(str(tmp_path / "x.csv"), options=Options(group_by="writer"))
    writer = {picture(n, False, (4, 4)).tobytes(): n // 5 for n in range(60)}
    writers = [{writer[image.tobytes()] for image in split.images} for split in data.splits]
    assert sum(map(len, writers)) == 12 and len(set.union(*writers)) == 12
    assert all(writers)


def test_parquet_of_image_files_is_read(tmp_path):
    images = [{"bytes": png(picture(n)), "path": None} for n in range(20)]
    labels = [n % 2 for n in range(20)]
    table = pyarrow.table({"image": images, "label": labels})
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    (tmp_path / "data").mkdir()
    table = table.replace_schema_metadata(metadata)
    parquet.write_table(table.slice(0, 14), tmp_path / "data" / "train-00000-of-00001.parquet")
    parquet.write_table(table.slice(14), tmp_path / "data" / "test-00000-of-00001.parquet")
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog") and len(data.test) == 6
    assert classes_by_image(data)[picture(3).transpose(2, 0, 1).tobytes()] == "dog"
    parquet.write_table(
        pyarrow.table({"image": [i["bytes"] for i in images]}), tmp_path / "y.parquet"
    )
    assert load(str(tmp_path / "y.parquet")).classes == ()


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, theirs = load("digits"), load_digits()
    images = np.concatenate([split.images for split in data.splits])[:, 0]
    assert sizes(data) == [1257, 180, 360]
    assert sorted(i.tobytes() for i in images) == sorted(
        np.rint(i * 255 / 16).astype(np.uint8).tobytes() for i in theirs.images
    )


def test_torchvision_class_is_read_by_name():
    options = Options(image_size=(8, 10), limit=200)
    data = load("torchvision:FakeData", options=options)
    assert data.image_shape == (3, 8, 10) and sum(sizes(data)) == 200 and len(data.classes) == 10


class EMNIST:
    """As torchvision has it: the images lie on their side."""

    classes = ("N/A", "a", "b")

    def __init__(self, root, split, **kwargs):
        assert split == "letters" and kwargs.pop("download") and set(kwargs) == {"train"}
        first = 0 if kwargs["train"] else 50
        images = [picture(n, False, (5, 4)) for n in range(first, first + 20)]
        self.data = torch.from_numpy(np.stack(images))
        self.targets = torch.arange(20) % 2 + 1


class CIFAR10:
    classes = ("cat", "dog")

    def __init__(self, root, train=True, download=False):
        self.data = np.stack([picture(n + 50 * (not train)) for n in range(20)])
        self.targets = [n % 2 for n in range(20)]


class SVHN:
    def __init__(self, root, split="train", download=False):
        images = [picture(n + 50 * (split == "test")).transpose(2, 0, 1) for n in range(20)]
        self.data, self.labels = np.stack(images), np.arange(20) % 2


@pytest.mark.parametrize(
    ("name", "theirs", "classes"),
    [("emnist-letters", EMNIST, ("a", "b")), ("cifar10", CIFAR10, ("cat", "dog")),
     ("svhn", SVHN, ("0", "1"))],
)  # fmt: skip
def test_torchvision_arrays_of_any_layout_are_read(name, theirs, classes, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, theirs.__name__, theirs)
    data = load(name)
    assert data.classes == classes and len(data.test) == 20
    assert sizes(data) == [16, 2, 20] or sum(sizes(data)) == 40
    if theirs is EMNIST:
        assert data.image_shape == (1, 4, 5)
        expected = picture(50, False, (5, 4)).T
    else:
        assert data.image_shape == (3, H, W)
        expected = picture(50).transpose(2, 0, 1)
    assert classes_by_image(data)[expected.tobytes()] == classes[0]


def test_torchvision_names_have_their_classes():
    for class_name, _ in vision.NAMED.values():
        assert hasattr(torchvision.datasets, class_name)


# --- the form of an image --------------------------------------------------------------------


def read_first(tmp_path):
    return sources.collection(tmp_path, Options()).images[0]


def test_sixteen_bits_become_the_upper_eight(tmp_path):
    values = np.array([[0, 257, 65535], [128 * 257, 1, 300]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert read_first(tmp_path)[0].tolist() == [[0, 1, 255], [128, 0, 1]]


def test_transparent_pixels_are_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = [10, 20, 30, 255]
    Image.fromarray(rgba).save(tmp_path / "x.png")
    shown = read_first(tmp_path)
    assert shown[:, 0, 0].tolist() == [10, 20, 30] and shown[:, 1, 1].tolist() == [255] * 3


def test_palettes_and_cmyk_are_colours(tmp_path):
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    red.convert("P").save(tmp_path / "a.gif")
    red.convert("CMYK").save(tmp_path / "b.tif")
    images = sources.collection(tmp_path, Options()).images
    assert images.shape == (2, 3, 2, 3)
    assert (images[:, 0] > 200).all() and (images[:, 1:] < 60).all()


def test_images_are_turned_as_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    tall = np.zeros((2, 3), np.uint8)
    tall[0, 0] = 255
    Image.fromarray(tall).save(tmp_path / "x.png", exif=exif)
    shown = read_first(tmp_path)[0]
    assert shown.shape == (3, 2) and shown[0, 1] == 255


def test_size_and_grey_follow_the_options(tmp_path):
    folder = write_folder(tmp_path / "x", size=(9, 7))
    data = load(str(folder), options=Options(image_size=(5, 8), grey=True))
    assert data.image_shape == (1, 5, 8)
    colour = load(str(folder))
    assert Options(grey=True).apply(colour).image_shape == (1, 9, 7)


def test_options_choose_classes_and_limit_images():
    data = load("digits", options=Options(classes=("7", "3", "1")))
    assert data.classes == ("7", "3", "1")
    assert set(data.train.labels) == {0, 1, 2}
    assert classes_by_image(data).items() <= classes_by_image(load("digits")).items()
    few = load("digits", options=Options(limit=300))
    assert sum(sizes(few)) == 300 and np.bincount(few.train.labels).min() >= 19


def test_options_are_kept_as_json():
    options = Options((4, 6), True, ("a", "b"), 12, "person")
    assert Options.from_record(json.loads(json.dumps(options.record()))) == options
    assert Options().record() == {}


def test_natural_order_of_classes(tmp_path):
    names = [f"class {n}" for n in (10, 9, 1)]
    data = load(str(write_folder(tmp_path / "x", names)))
    assert data.classes == ("class 1", "class 9", "class 10")


def test_labels_are_balanced_over_any_number_of_classes():
    labels = np.repeat(np.arange(100, dtype=np.uint8), 5)
    chosen = label_subset(labels, 200, 0, 3, classes=100)
    assert np.bincount(labels[chosen]).tolist() == [2] * 100
    assert np.array_equal(chosen[:100], label_subset(labels, 100, 0, 3, classes=100))


# --- decoded images are kept -----------------------------------------------------------------


def test_second_load_decodes_nothing(tmp_path, monkeypatch, cache_folder):
    folder = write_folder(tmp_path / "x")
    first = load(str(folder))
    assert len(list((cache_folder / "decoded").glob("*.npy"))) == 1

    def broken(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr("trainables.data.folder.decode_images", broken)
    assert load(str(folder)).fingerprint == first.fingerprint
    (folder / "cat" / "0.png").write_bytes(png(picture(7777)))
    with pytest.raises(AssertionError, match="decoded again"):
        load(str(folder))


def test_unwritable_or_damaged_cache_costs_no_result(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "x")
    (tmp_path / "file").touch()
    monkeypatch.setenv("STUDY_DATA_DIR", str(tmp_path / "file"))
    assert sum(sizes(load(str(folder)))) == 30
    (tmp_path / "damaged").mkdir()
    monkeypatch.setattr(cache, "default_data_dir", lambda: tmp_path / "damaged")
    load(str(folder))
    (path,) = (tmp_path / "damaged" / "decoded").glob("*.npy")
    path.write_bytes(b"no array")
    assert sum(sizes(load(str(folder)))) == 30


# --- refusals --------------------------------------------------------------------------------


def broken_image(path):
    write_folder(path)
    (path / "cat" / "3.png").write_bytes(b"\x89PNG no image")


def truncated_image(path):
    write_folder(path)
    whole = (path / "cat" / "3.png").read_bytes()
    (path / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])


def one_image_of_a_class(path):
    write_folder(path, ("cat", "dog"))
    (path / "owl").mkdir()
    (path / "owl" / "0.png").write_bytes(png(picture(0)))


def mixed_sizes(path):
    write_folder(path)
    (path / "cat" / "3.png").write_bytes(png(picture(0, size=(5, 5))))


def beside_classes(path):
    write_folder(path)
    (path / "x.png").write_bytes(png(picture(0)))


def beside_splits(path):
    write_folder(path / "train")
    write_folder(path / "more")


def floats_in_a_tiff(path):
    path.mkdir()
    Image.fromarray(np.ones((3, 3), np.float32)).save(path / "x.tif")


def empty(path):
    path.mkdir()


def empty_class(path):
    write_folder(path, ("a",))


FOLDERS = {
    broken_image: "cat/3.png: can't be read as an image …; replace or remove it",
    truncated_image: "cat/3.png: can't be read as an image",
    one_image_of_a_class: "the class 'owl' has 1 image; at least 3 are needed",
    mixed_sizes: "differ in size: … is 4 × 6, …cat/3.png is 5 × 5 …--image-size HxW",
    beside_classes: "x.png: lies beside folders of classes",
    beside_splits: "more: lies beside train; move it into one of them",
    floats_in_a_tiff: "its pixels are fractions",
    empty: "no image in it",
    empty_class: "one class only (a)",
}


@pytest.mark.parametrize("make", FOLDERS)
def test_unusable_folder_is_refused(make, tmp_path, cache_folder):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=phrase(FOLDERS[make])) as caught:
        load(str(tmp_path / "data"))
    assert "\n" not in str(caught.value)
    assert not list(cache_folder.rglob("*.npy"))  # nothing half-read is kept


IMAGES = np.zeros((9, 4, 4), np.uint8)

ARRAYS = {
    "no images": ({"pictures": IMAGES}, "no array `images`; there is pictures"),
    "five dimensions": ({"images": IMAGES[None, None]}, "images of shape"),
    "two channels": ({"images": np.zeros((9, 4, 4, 2))}, "1 or 3 channels"),
    "beyond bytes": ({"images": IMAGES + np.uint16(300)}, "pixels from 300 to 300"),
    "below zero": ({"images": IMAGES - 1.0}, "pixels from -1"),
    "not a number": ({"images": IMAGES * math.nan}, "pixels from nan"),
    "words": ({"images": np.full((9, 4, 4), "a")}, "pixels of type <U1"),
    "labels for some": ({"images": IMAGES, "labels": np.arange(5)}, "labels of shape"),
    "a negative label": ({"images": IMAGES, "labels": np.arange(9) - 3}, "label 0 is -3"),
    "half a label": ({"images": IMAGES, "labels": np.arange(9) / 2}, "label 1 is 0.5"),
    "a missing label": ({"images": IMAGES, "labels": np.array(["a", "", *"abcdefg"])}, "label 1"),
    "one class": ({"images": IMAGES, "labels": np.zeros(9, int)}, "one class only (0)"),
    "many classes": (
        {"images": np.zeros((900, 2, 2), np.uint8), "labels": np.arange(900) // 3},
        "300 classes; at most 256",
    ),
    "an unknown split": (
        {"images": IMAGES, "split": np.array(["train"] * 8 + ["later"])}, "split 'later'",
    ),
    "an empty array": ({"images": IMAGES[:0]}, "there is no image in it"),
    "objects": ({"images": np.array([None, {}], dtype=object)}, "can't be read as NumPy's"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_unusable_array_file_is_refused(name, tmp_path):
    arrays, problem = ARRAYS[name]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=phrase(problem)) as caught:
        load(str(tmp_path / "x.npz"))
    assert "\n" not in str(caught.value)


def with_value(column, row, value):
    def made(table):
        table = table.astype(object)
        table.loc[row, column] = value
        return table

    return made


TABLES = {
    "a word among pixels": (with_value("pixel3", 2, "dark"), "'pixel3' holds words"),
    "a pixel is missing": (with_value("pixel3", 2, None), "line 4 has fewer than the 16 pixel"),
    "a class is missing": (with_value("label", 2, None), "line 4 has no value for 'label'"),
    "a negative class": (with_value("label", 2, -1), "is -1"),
    "a pixel too bright": (with_value("pixel3", 2, 256), "pixels from 0 to 256"),
    "no square": (lambda table: table.drop(columns="pixel3"), "15 pixels a line are no square"),
    "nothing but classes": (lambda table: table[["label"]], "0 pixels a line"),
    "no line": (lambda table: table[:0], "there is no image in it"),
}


@pytest.mark.parametrize("name", TABLES)
def test_unusable_csv_is_refused(name, tmp_path):
    make, problem = TABLES[name]
    make(pixel_table()).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(DataError, match=phrase(problem)) as caught:
        load(str(tmp_path / "x.csv"))
    assert "\n" not in str(caught.value)


def test_csv_with_a_line_too_long_is_refused(tmp_path):
    text = pixel_table().to_csv(index=False)
    (tmp_path / "x.csv").write_text(text.replace("\n", ",1,2\n", 5).replace(",1,2\n", "\n", 1))
    with pytest.raises(DataError, match=phrase("x.csv")):
        load(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"picture2": [b"x"]}, "no column image or img"),
        ({"image": ["words"]}, "row 0 of 'image' holds no bytes"),
        ({"image": [b"no image"] * 9, "label": [0, 1, 2] * 3}, "row 0: can't be read as an image"),
    ],
)
def test_unusable_parquet_is_refused(content, problem, tmp_path):
    parquet.write_table(pyarrow.table(content), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=phrase(problem)):
        load(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("./nowhere", Options(), "nowhere is not there; give a folder of images, or a file"),
        ("torchvision:Nothing", Options(), "has no class 'Nothing'"),
        ("digits", Options(classes=("1", "x")), "no class 'x'; … 0, 1, 2"),
        ("digits", Options(classes=("1",)), "one class only is asked for"),
        ("digits", Options(limit=5), "--limit 5 leaves 3 images of a split with 10 classes"),
        ("digits", Options(group_by="person"), "no column 'person'"),
    ],
)
def test_unusable_options_are_refused(name, options, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=phrase(problem)):
        load(name, options=options)


def test_unknown_class_of_a_folder_is_named(tmp_path):
    write_folder(tmp_path / "x")
    with pytest.raises(DataError, match=phrase("no class 'dgo'; … cat, dog, owl")):
        load(str(tmp_path / "x"), options=Options(classes=("cat", "dgo")))


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_cut_off_compressed_csv_is_refused(cut, tmp_path):
    path = tmp_path / "x.csv.gz"
    pixel_table().to_csv(path, index=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(DataError, match=phrase("x.csv.gz: can't be read as CSV")):
        load(str(path))


@pytest.mark.parametrize("suffix", [".txt", ".npz", ".npy", ".csv", ".csv.gz", ".parquet"])
def test_random_bytes_are_refused(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    for seed in range(5):
        path.write_bytes(np.random.default_rng(seed).bytes(2000))
        with pytest.raises(DataError) as caught:
            load(str(path))
        assert str(path) in str(caught.value)


def test_images_too_large_for_memory_are_refused(monkeypatch):
    monkeypatch.setattr(collection, "memory", lambda: 4 * 2**30)  # as a container's limit
    with pytest.raises(DataError, match=phrase("take 2.1 GiB of 4.0 GiB of memory; take a")):
        collection.require_memory("x", 3_000_000, (32, 24))


def test_sources_are_told_from_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for text in ("mnist", "torchvision:X", "a/b", "x.csv", "x.csv.gz", "~/x", "./x", "here"):
        assert is_source(text)
    for text in ("bogus", "", " "):
        assert not is_source(text)
    with pytest.raises(DataError, match="no dataset 'bogus'"):
        load("bogus")


# --- unusual files and columns -----------------------------------------------------------------


def write_parquet(path, numbers, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(picture(number)) for number in numbers]
    parquet.write_table(pyarrow.table({"image": images, **columns}), path)


def test_parquet_file_lacking_labels_is_refused(tmp_path):
    write_parquet(tmp_path / "a.parquet", range(9))
    write_parquet(tmp_path / "b.parquet", range(9, 18), label=[0, 1, 2] * 3)
    with pytest.raises(DataError, match=phrase("a.parquet: has no labels, other files have")):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("first", "second"),
    [("train.parquet", "test.parquet"), ("train/0.parquet", "test/0.parquet"),
     ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
     ("data.parquet/train_0.parquet", "data.parquet/test_0.parquet")],
)  # fmt: skip
def test_splits_of_parquet_files_stay(first, second, tmp_path):
    write_parquet(tmp_path / first, range(20), label=[0, 1] * 10)
    write_parquet(tmp_path / second, range(20, 30), label=[0, 1] * 5)
    write_parquet(tmp_path / ".hidden" / "x.parquet", range(30, 40), label=[0, 1] * 5)
    data = load(str(tmp_path))
    assert len(data.test) == 10 and sum(sizes(data)) == 30
    expected = {picture(number).transpose(2, 0, 1).tobytes() for number in range(20, 30)}
    assert {image.tobytes() for image in data.test.images} == expected


def test_split_of_only_some_parquet_files_is_refused(tmp_path):
    for name in ("train", "test", "more"):
        write_parquet(tmp_path / f"{name}.parquet", range(9), label=[0, 1, 2] * 3)
    with pytest.raises(DataError, match=phrase("more.parquet: has no splits, other files have")):
        load(str(tmp_path))


def test_groups_in_two_splits_of_a_file_are_refused(tmp_path):
    table = pixel_table(40).assign(split=["train", "test"] * 20, person=[n // 4 for n in range(40)])
    table.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(DataError, match="the group '0' is in two of its splits"):
        load(str(tmp_path / "x.csv"), options=Options(group_by="person"))


@pytest.mark.parametrize("largest", range(4))
def test_large_group_stays_in_training(largest, tmp_path):
    person = [largest] * 150 + [p for p in range(4) if p != largest for _ in range(5)]
    pixel_table(165).assign(person=person).to_csv(tmp_path / "x.csv", index=False)
    data = load(str(tmp_path / "x.csv"), options=Options(group_by="person"))
    assert len(data.train) >= 150


@pytest.mark.parametrize("least", [0.0, -1e-7])
def test_fractions_may_be_rounded(least, tmp_path):
    images = np.stack([picture(n, False) for n in range(20)]) / np.float32(255)
    images[0, 0, :2] = least, 1 + 1e-6
    np.save(tmp_path / "x.npy", images)
    assert load(str(tmp_path / "x.npy")).train.images.max() > 200


@pytest.mark.parametrize("kind", [np.uint8, np.int64, float, bool])
def test_masks_are_black_and_white(kind, tmp_path):
    images = np.stack([picture(n, False) > 127 for n in range(20)]).astype(kind)
    np.save(tmp_path / "x.npy", images)
    assert set(np.unique(load(str(tmp_path / "x.npy")).train.images)) == {0, 255}


def test_pixels_of_another_scale_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.stack([picture(n, False) % 17 for n in range(20)]) * 1.0)
    with pytest.raises(DataError, match=phrase("the brightest pixel is 16; … scale them")):
        load(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (lambda table: table.to_csv(), "the column '' is no pixel"),
        (lambda table: table.to_csv(index=False, header=False), "the first line"),
        (lambda table: table.assign(y=0).to_csv(index=False), "label and y could both be"),
        (lambda table: table.rename(columns={"pixel3": "pixel2"}).to_csv(index=False), "twice"),
    ],
)
def test_csv_with_wrong_columns_is_refused(text, problem, tmp_path):
    (tmp_path / "x.csv").write_text(text(pixel_table()))
    with pytest.raises(DataError, match=phrase(problem)):
        load(str(tmp_path / "x.csv"))


def test_csv_may_have_words_and_a_spaced_header(tmp_path):
    table = pixel_table()
    table["label"] = ["NA", "01"] * 10
    first, rest = table.to_csv(index=False).split("\n", 1)
    (tmp_path / "x.csv").write_text(first.replace(",", ", ") + "\n" + rest)
    assert load(str(tmp_path / "x.csv")).classes == ("01", "NA")


def test_parts_without_a_class_are_refused(tmp_path):
    for split, classes in (("train", "abcd"), ("test", "ab")):
        write_folder(tmp_path / split, classes, count=4)
    assert sum(sizes(load(str(tmp_path), options=Options(classes=("c", "d"))))) == 8
    write_folder(tmp_path / "other", "a", count=300)
    write_folder(tmp_path / "few", "b", count=3)
    (tmp_path / "few" / "b").rename(tmp_path / "other" / "b")
    with pytest.raises(DataError, match="no training image is of the class 'b'"):
        load(str(tmp_path / "other"), options=Options(limit=50))


def test_unchosen_classes_are_not_read(tmp_path):
    write_folder(tmp_path / "x")
    (tmp_path / "x" / "one").mkdir()
    (tmp_path / "x" / "one" / "0.png").write_bytes(png(picture(0, size=(9, 9))))
    assert load(str(tmp_path / "x"), options=Options(classes=("cat", "owl"))).classes == (
        "cat",
        "owl",
    )


@pytest.mark.parametrize("name", ["²", "5²", "9" * 100])
def test_class_names_may_look_like_numbers(name, tmp_path):
    assert name in load(str(write_folder(tmp_path / "x", ("a", name), count=4))).classes


def test_all_of_256_classes_may_be_named(tmp_path):
    labels = np.repeat(np.arange(256), 5)
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", images=draw.integers(0, 256, (1280, 3, 3)), labels=labels)
    wanted = tuple(map(str, range(256)))
    assert load(str(tmp_path / "x.npz"), options=Options(classes=wanted)).classes == wanted


def test_byte_strings_are_words(tmp_path):
    images = np.stack([picture(n) for n in range(20)])
    labels, split = np.array([b"cat", b"dog"] * 10), np.array([b"train"] * 12 + [b"test"] * 8)
    np.savez(tmp_path / "x.npz", images=images, labels=labels, split=split)
    assert load(str(tmp_path / "x.npz")).classes == ("cat", "dog")


def test_grey_palette_is_grey(tmp_path):
    for number in range(20):
        array = picture(number, False)
        Image.fromarray(array).convert("P").save(tmp_path / f"{number}.gif")
    assert load(str(tmp_path)).image_shape == (1, H, W)


def test_damaged_cache_is_written_anew(tmp_path, cache_folder):
    folder = write_folder(tmp_path / "x")
    load(str(folder))
    (path,) = (cache_folder / "decoded").glob("*.npy")
    whole = path.read_bytes()
    for damage in (b"", whole[:60], whole[:-50], whole.replace(b"|u1", b"|u9", 1)):
        path.write_bytes(damage)
        assert sum(sizes(load(str(folder)))) == 30
        assert path.read_bytes() == whole


def test_error_of_random_damage_is_one_line(tmp_path):
    write_folder(tmp_path / "x", count=4)
    np.savez_compressed(tmp_path / "x.npz", images=np.stack([picture(n) for n in range(20)]))
    np.save(tmp_path / "x.npy", np.stack([picture(n) for n in range(20)]))
    draw = np.random.default_rng(0)
    for name in ("x.npz", "x.npy"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
            (tmp_path / name).write_bytes(bytes(content))
            try:
                load(str(tmp_path / name))
            except DataError as error:
                problem = str(error)
                if "\n" in problem:
                    pytest.fail(problem)


def test_name_longer_than_any_files_is_no_source():
    assert not is_source("x" * 300)
