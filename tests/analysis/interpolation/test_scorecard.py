"""The scorecard of a study: one line per model, pair of digits and control, each recomputable."""

from __future__ import annotations

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis.interpolation.figures import PANELS, draw_scorecard, draw_trade_off
from analysis.interpolation.judge import Judges, RealImages, train_judges
from analysis.interpolation.lines import PAIRS, ImagePairs, image_pairs
from analysis.interpolation.scorecard import (
    INTERPOLATION,
    MEASURES,
    PIXEL_BLEND,
    REAL,
    RECONSTRUCTION,
    Reader,
    _with_model,
    by_replicate,
    scorecard,
)
from analysis.results import Results
from trainables.data import Dataset, pixels


class Constant(torch.nn.Module):
    """A judge for which every picture is a 4."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0] * 4 + [100.0] + [0.0] * 5]).expand(len(pictures), -1)


@pytest.fixture(scope="module")
def table(small_results: Results) -> pd.DataFrame:
    judges = Judges([Constant(), Constant()], [0.1, 0.1], 1.0, 1000)
    return scorecard(small_results, judges, images_per_pair=6)


def test_image_pairs_have_their_digits_and_never_change(small_results: Results) -> None:
    chosen = image_pairs(small_results, (4, 7), 6)
    again = image_pairs(small_results, (4, 7), 6)
    assert torch.equal(chosen.first, again.first)
    fewer = image_pairs(small_results, (4, 7), 3)
    assert torch.equal(chosen.second[:3], fewer.second)
    pixels = small_results.test_images.float() / 255
    for part, digit in ((chosen.first, 4), (chosen.second, 7)):
        for image in part:
            where = (pixels == image).flatten(1).all(dim=1).nonzero()[0]
            assert small_results.test_labels[where].item() == digit
    everything = image_pairs(small_results, (4, 7), 10_000)
    assert len(everything.first) == len(everything.second) == 100


def test_renamed_classes_have_their_new_names(small_results: Results, table: pd.DataFrame) -> None:
    """The models of the table are measured already, under the old names."""
    names = tuple(f"sort {number}" for number in range(10))
    plan = {**small_results.plan, "pairs": [[names[a], names[b]] for a, b in PAIRS]}
    renamed = dataclasses.replace(small_results, plan=plan)
    renamed.__dict__["dataset"] = dataclasses.replace(small_results.dataset, classes=names)
    judges = Judges([Constant(), Constant()], [0.1, 0.1], 1.0, 1000)
    assert "4-7" in set(table["pair"])
    found = scorecard(renamed, judges, images_per_pair=6)["pair"]
    assert set(found) == {f"sort {a}-sort {b}" for a, b in PAIRS}


def test_images_with_labels_need_judges(small_results: Results) -> None:
    with pytest.raises(ValueError, match="the images of mnist-5k have labels: give judges"):
        scorecard(small_results, None)


def test_one_line_per_model_pair_control_and_judge(
    table: pd.DataFrame, small_results: Results
) -> None:
    cells = small_results.cells("autoencoder")
    models = table[table["control"].isin([INTERPOLATION, RECONSTRUCTION])]
    assert len(models) == 2 * 2 * 4 * 6 * 2 * 2  # d, replicates, digits, pairs, controls, judges
    keys = ["cell", "replicate", "pair", "example", "control", "judge"]
    assert not models.duplicated(keys).any()
    assert set(models["cell"]) == set(cells)
    assert set(models["latent_dim"]) == {2, 8}
    without = table[table["control"].isin([PIXEL_BLEND, REAL])]
    assert len(without) == 4 * 6 * 2 * 2
    assert without["latent_dim"].isna().all()
    # To these judges every picture is a 4, so no pair of different digits counts.
    assert (table["counted"] == 0).all()
    assert table["confidence"].to_numpy() == pytest.approx(1)
    outside_by_pair = table.groupby("pair")["outside"].mean()
    assert outside_by_pair["4-7"] == pytest.approx(0)
    assert outside_by_pair["8-9"] == pytest.approx(1)
    between = table[table["control"] == INTERPOLATION]
    applies = ["nearest", "path", "mean_distance", "cycle", "cross_dissolve"]
    assert np.isfinite(between[applies].to_numpy()).all()
    # NaN where both ends have the same nearest real image, as in models that hardly learnt.
    assert between["smoothness"].notna().any()
    assert between["mse"].isna().all()
    blend = table[table["control"] == PIXEL_BLEND]
    assert blend["path"].to_numpy() == pytest.approx(1, abs=1e-4)
    assert blend["relative"].to_numpy() == pytest.approx(1)
    assert (blend["smoothness"] > 0.1).all()  # by the nearest real images a blend is uneven


def test_line_matches_the_stored_weights(table: pd.DataFrame, small_results: Results) -> None:
    cell = small_results.cells("autoencoder")[1]
    network = small_results.autoencoders(cell)[1]
    chosen = image_pairs(small_results, (3, 4), 6)
    with torch.no_grad():
        z1, z2 = network.encoder(chosen.first), network.encoder(chosen.second)
        middle = network.decoder((z1 + z2) / 2)
        ends = network.decoder(z1), network.decoder(z2)
        off = (network.encoder(middle) - (z1 + z2) / 2).norm(dim=1)
        codes = network.encoder(small_results.test_images / 255)
    away = (middle - (ends[0] + ends[1]) / 2).flatten(1).norm(dim=1)
    half = (ends[0] - ends[1]).flatten(1).norm(dim=1) / 2
    error = [
        (end - image).square().mean().item()
        for end, image in zip(ends, (chosen.first, chosen.second), strict=True)
    ]
    rows = table[(table["cell"] == cell) & (table["replicate"] == 1) & (table["pair"] == "3-4")]
    rows = rows.groupby("control")[list(MEASURES)].mean()
    found = rows.loc[INTERPOLATION, "cross_dissolve"]
    assert found == pytest.approx((away / half).mean().item(), rel=1e-4)
    unit = (codes - codes.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    assert rows.loc[INTERPOLATION, "cycle"] == pytest.approx((off / unit).mean().item(), rel=1e-4)
    assert rows.loc[RECONSTRUCTION, "mse"] == pytest.approx(np.mean(error), rel=1e-4)


def test_pairs_count_if_most_judges_see_both_digits(small_results: Results) -> None:
    judges = train_judges(small_results.dataset, count=3, steps=40)
    table = scorecard(small_results, judges, images_per_pair=30)
    table = table[table["pair"] == "4-7"]
    chosen = image_pairs(small_results, (4, 7), 30)
    network = small_results.autoencoders(small_results.cells("autoencoder")[1])[0]
    with torch.no_grad():
        codes = [network.encoder(part) for part in (chosen.first, chosen.second)]
        decoded = network.decoder((codes[0] + codes[1]) / 2)
        restored = [network.decoder(code) for code in codes]
    blended = (chosen.first + chosen.second) / 2
    of_model = table[(table["latent_dim"] == 8) & (table["replicate"] == 0)]
    for rows, control, middle, ends in (
        (of_model, INTERPOLATION, decoded, restored),
        (table, PIXEL_BLEND, blended, [chosen.first, chosen.second]),
    ):
        lines = rows[rows["control"] == control]
        read = [judges.by_judge(end) for end in ends]
        right = [
            (of_end.argmax(axis=2) == digit).sum(axis=0) >= 2
            for of_end, digit in zip(read, (4, 7), strict=True)
        ]
        counted = (right[0] & right[1]).astype(float)
        assert lines["counted"].to_numpy() == pytest.approx(np.tile(counted, 3))
        relative = judges.by_judge(middle).max(axis=2) / np.mean(
            [r.max(axis=2) for r in read], axis=0
        )
        assert lines["relative"].to_numpy() == pytest.approx(relative.ravel(), rel=1e-4)
        (average,) = by_replicate(rows, control).to_dict("records")
        assert average["counted"] == pytest.approx(counted.mean())
        outside = lines[lines["counted"] == 1]["outside"]
        assert average["outside"] == pytest.approx(outside.mean(), nan_ok=True)
    assert 0.5 < counted.mean() < 1  # of the images themselves, so both cases are tested


def test_scorecard_is_drawn(table: pd.DataFrame) -> None:
    drawn = {"scorecard": draw_scorecard(table), "trade-off": draw_trade_off(table)}
    for name, figure in drawn.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        assert buffer.getbuffer().nbytes > 10_000, name
    assert len(drawn["scorecard"].axes) == len(PANELS)


def test_users_own_network_keeps_its_memory_format(digits: Dataset) -> None:
    """Its layers may call `view`, which fails on channels-last tensors."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 3, 3, padding=1)
            self.code = nn.Linear(3 * 784, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.code(self.layer(images).view(len(images), -1))

    class OwnDecoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 3, padding=1)
            self.out = nn.Linear(2 * 784, 784)

        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            features = self.layer(codes[:, :, None, None].expand(-1, -1, 28, 28))
            return self.out(features.view(len(codes), -1)).sigmoid().view(-1, 1, 28, 28)

    model = SimpleNamespace(encoder=Encoder(), decoder=OwnDecoder())
    images = digits.test.on("cpu")[0]
    shown = pixels(images[:4])
    pairs = ImagePairs((0, 0), ("an image", "another"), shown[:2], shown[2:])
    with torch.no_grad():
        tables = _with_model(model, images, [pairs], Reader(None, RealImages(digits)))
    assert [len(table) for table in tables] == [2, 2]
