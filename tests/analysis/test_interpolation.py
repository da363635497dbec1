"""Measures of interpolation return what is known beforehand; conclusions follow the numbers."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import interpolation
from analysis.interpolation import (
    ALPHAS,
    INTERPOLATION,
    MEASURES,
    PIXEL_BLEND,
    REAL,
    RECONSTRUCTION,
    conclusion,
    conclusions,
    cycle_error,
    distance_from_cross_dissolve,
    image_pairs,
    interpolate,
    judged,
    paired,
    path_over_chord,
    pixel_blend,
    scorecard,
    smoothness,
    spread,
    strips,
    summary,
)
from analysis.judge import Judge, RealImages, both, entropy, outside, train_judge
from analysis.results import Results
from trainables.data import Dataset, Split
from trainables.networks import Autoencoder, Shape


def model(activation: str, latent_dim: int = 3) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(Shape(latent_dim, depth=2, width=3, activation=activation)).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def dataset(train: int = 60, test: int = 30) -> Dataset:
    """Noise with every digit in every split."""
    draw = np.random.default_rng(0)
    parts = [
        Split(
            draw.integers(0, 256, (size, 28, 28), dtype=np.uint8),
            np.arange(size, dtype=np.uint8) % 10,
        )
        for size in (train, 10, test)
    ]
    return Dataset("noise", *parts)


# --- lines -------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_ends_are_reconstructions_and_the_codes_lie_between() -> None:
    network, first, second = model("gelu"), images(4), images(4, seed=1)
    codes, path = interpolate(network, first, second)
    assert path.shape == (4, 11, 1, 28, 28)
    assert codes.shape == (4, 11, 3)
    torch.testing.assert_close(path[:, -1], network(first))
    torch.testing.assert_close(path[:, 0], network(second))
    weighted = 0.3 * network.encoder(first) + 0.7 * network.encoder(second)
    torch.testing.assert_close(codes[:, 3], weighted)


def test_an_affine_decoder_does_nothing_but_cross_dissolve() -> None:
    _, path = interpolate(model("none"), images(4), images(4, seed=1))
    middle = len(ALPHAS) // 2
    torch.testing.assert_close(path[:, middle], (path[:, 0] + path[:, -1]) / 2)
    assert distance_from_cross_dissolve(path).tolist() == pytest.approx([0] * 4, abs=1e-4)
    assert path_over_chord(path).tolist() == pytest.approx([1] * 4, abs=1e-4)
    assert smoothness(path).tolist() == pytest.approx([0] * 4, abs=1e-4)


def test_a_nonlinear_decoder_does_more_than_cross_dissolve() -> None:
    _, path = interpolate(model("gelu"), images(4), images(4, seed=1))
    assert (distance_from_cross_dissolve(path) > 1e-4).all()
    assert (path_over_chord(path) >= 1).all()


def test_measures_of_a_path_with_known_lengths() -> None:
    """Two pixels: from (0, 0) up to (0, 1), then across to (1, 1)."""
    path = torch.zeros(1, 3, 1, 28, 28)
    path[0, 1:, 0, 0, 0] = 1
    path[0, 2, 0, 0, 1] = 1
    assert path_over_chord(path).item() == pytest.approx(math.sqrt(2))
    assert smoothness(path).item() == pytest.approx(1 / math.sqrt(2) - 1 / 2)
    # The corner is as far from the middle of the chord as its ends are.
    assert distance_from_cross_dissolve(path).item() == pytest.approx(1)


def test_a_path_that_goes_nowhere_has_no_measure() -> None:
    path = torch.ones(1, 3, 1, 28, 28)
    for measure in (path_over_chord, smoothness, distance_from_cross_dissolve):
        assert measure(path).isnan().all()


def test_a_pixel_blend_is_a_straight_line() -> None:
    path = pixel_blend(images(2), images(2, seed=1))
    torch.testing.assert_close(path[:, 0], images(2, seed=1))
    torch.testing.assert_close(path[:, -1], images(2))
    assert path_over_chord(path).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_spread_and_cycle_error() -> None:
    codes = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    assert spread(codes) == pytest.approx(5)
    network = model("gelu", latent_dim=2)
    with torch.no_grad():
        found = network.encoder(images(2))
    wanted = (found + torch.tensor([[0.0, 2.0], [1.5, 0.0]])).detach()
    errors = cycle_error(network, wanted, images(2), unit=0.5)
    assert errors.tolist() == pytest.approx([4, 3], abs=1e-4)


# --- judges ------------------------------------------------------------------------------------


def test_entropy_outside_and_both_of_known_probabilities() -> None:
    probabilities = np.zeros((3, 10))
    probabilities[0, 4] = 1
    probabilities[1, [4, 7]] = 0.5
    probabilities[2] = 0.1
    assert entropy(probabilities) == pytest.approx([0, math.log(2), math.log(10)])
    assert outside(probabilities, 4, 7) == pytest.approx([0, 0, 0.8])
    assert both(probabilities, 4, 7) == pytest.approx([0, 1, 0.2])
    means = judged(lambda _: probabilities, images(3), (4, 7))
    assert means["confidence"] == pytest.approx((1 + 0.5 + 0.1) / 3)
    assert means["outside"] == pytest.approx(0.8 / 3)


def test_training_images_are_nearest_to_themselves() -> None:
    data = dataset()
    real = RealImages(data)
    known = torch.from_numpy(data.train.images[:5]).unsqueeze(1) / 255
    assert real.distances(known).tolist() == [0] * 5
    assert real.cosine_distances(known).tolist() == pytest.approx([0] * 5, abs=1e-6)
    unseen = torch.from_numpy(data.test.images).unsqueeze(1) / 255
    assert float(real.distances(unseen).quantile(0.5, interpolation="lower")) == pytest.approx(1)
    # Euclid by hand.
    flat = data.train.images.reshape(60, -1) / 255
    by_hand = np.linalg.norm(flat - data.test.images[0].reshape(-1) / 255, axis=1).min()
    assert real.distances(unseen[:1]).item() * real.typical == pytest.approx(by_hand, rel=1e-5)
    assert real.cosine_distances(3 * known).tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_the_judge_learns_from_the_training_split_alone(small_results: Results) -> None:
    judge = train_judge(small_results.dataset, steps=60)
    assert judge.accuracy > 0.85
    # Other test images and labels, the same judge.
    data = small_results.dataset
    swapped = Dataset("swapped", data.train, data.test, data.validation)
    again = train_judge(swapped, steps=60)
    for one, other in zip(judge.network.parameters(), again.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert f"{100 * judge.accuracy:.1f} % of the 1,000 test images" in judge.description()
    read = judge(images(3))
    assert read.sum(axis=1) == pytest.approx([1, 1, 1])


# --- the scorecard of a study ------------------------------------------------------------------


class Constant(torch.nn.Module):
    """A judge for which every picture is the same digit."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0] * 4 + [100.0] + [0.0] * 5]).expand(len(pictures), -1)


@pytest.fixture(scope="module")
def table(small_results: Results) -> pd.DataFrame:
    judge = Judge(Constant(), 0.1, 1.0, 1000, 0, 0.0)
    return scorecard(small_results, images_per_pair=6, judge=judge)


def test_image_pairs_are_of_their_digits_and_always_the_same(small_results: Results) -> None:
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


def test_one_line_a_model_pair_and_control(table: pd.DataFrame, small_results: Results) -> None:
    cells = small_results.cells("autoencoder")
    models = table[table["control"].isin([INTERPOLATION, RECONSTRUCTION])]
    assert len(models) == 2 * 2 * 4 * 2  # dimensions, replicates, pairs, controls
    assert not models.duplicated(["cell", "replicate", "pair", "control"]).any()
    assert set(models["cell"]) == set(cells)
    assert set(models["latent_dim"]) == {2, 8}
    without = table[table["control"].isin([PIXEL_BLEND, REAL])]
    assert len(without) == 4 * 2
    assert without["latent_dim"].isna().all()
    assert (table["image_pairs"] == 6).all()
    # To this judge every picture is a 4.
    assert table["confidence"].to_numpy() == pytest.approx(1)
    outside_by_pair = table.groupby("pair")["outside"].mean()
    assert outside_by_pair["4-7"] == pytest.approx(0)
    assert outside_by_pair["8-9"] == pytest.approx(1)
    between = table[table["control"] == INTERPOLATION]
    applies = ["nearest", "path", "smoothness", "mean_distance", "cycle", "cross_dissolve"]
    assert np.isfinite(between[applies].to_numpy()).all()
    assert between["mse"].isna().all()
    blend = table[table["control"] == PIXEL_BLEND]
    assert blend["path"].to_numpy() == pytest.approx(1, abs=1e-4)


def test_a_line_recomputed_from_the_stored_weights(
    table: pd.DataFrame, small_results: Results
) -> None:
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
    error = [(end - image).square().mean().item()
             for end, image in zip(ends, (chosen.first, chosen.second), strict=True)]  # fmt: skip
    rows = table[(table["cell"] == cell) & (table["replicate"] == 1) & (table["pair"] == "3-4")]
    rows = rows.set_index("control")
    found = rows.loc[INTERPOLATION, "cross_dissolve"]
    assert found == pytest.approx((away / half).mean().item(), rel=1e-4)
    unit = (codes - codes.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    assert rows.loc[INTERPOLATION, "cycle"] == pytest.approx((off / unit).mean().item(), rel=1e-4)
    assert rows.loc[RECONSTRUCTION, "mse"] == pytest.approx(np.mean(error), rel=1e-4)


def test_strips_have_the_finished_dimensions(small_results: Results) -> None:
    shown = strips(small_results, (5, 1))
    assert list(shown.decoded) == [2, 8]
    assert shown.decoded[8].shape == (11, 28, 28)
    assert shown.blend[0] == pytest.approx(shown.second)
    assert shown.blend[-1] == pytest.approx(shown.first)
    network = small_results.autoencoders(shown.cells[8])[0]
    with torch.no_grad():
        restored = network(torch.from_numpy(shown.first)[None, None])[0, 0].numpy()
    assert shown.decoded[8][-1] == pytest.approx(restored, abs=1e-5)


def test_a_missing_digit_is_named(small_results: Results) -> None:
    with pytest.raises(ValueError, match="has no 12"):
        strips(small_results, (4, 12))


# --- summaries and conclusions -----------------------------------------------------------------


def synthetic(
    confidence: dict[int, float],
    cross_dissolve: dict[int, float],
    both_digits: dict[int, float],
    noise: float = 0.005,
    replicates: int = 4,
) -> pd.DataFrame:
    """A scorecard with these means at each d, and replicates ± `noise` around them."""
    draw = np.random.default_rng(0)
    lines = []
    for latent_dim, value in confidence.items():
        for replicate in range(replicates):
            for pair in ("4-7", "8-9"):
                about = {"cell": f"{latent_dim:016x}", "replicate": replicate,
                         "latent_dim": latent_dim, "pair": pair, "image_pairs": 9}  # fmt: skip
                jitter = noise * draw.standard_normal(4)
                lines.append({**about, "control": INTERPOLATION,
                              "confidence": value + jitter[0],
                              "cross_dissolve": cross_dissolve[latent_dim] + jitter[1],
                              "both": both_digits[latent_dim] + jitter[2]})  # fmt: skip
                lines.append({**about, "control": RECONSTRUCTION, "confidence": 0.95,
                              "mse": 0.05 / latent_dim + noise * jitter[3]})  # fmt: skip
    lines += [
        {"cell": "", "pair": pair, "control": control, "image_pairs": 9,
         "confidence": 0.6, "both": 0.2}
        for pair in ("4-7", "8-9") for control in (PIXEL_BLEND, REAL)
    ]  # fmt: skip
    table = pd.DataFrame(lines).reindex(
        columns=["cell", "replicate", "latent_dim", "pair", "control", "image_pairs", *MEASURES]
    )
    return table.astype({"replicate": "Int64", "latent_dim": "Int64"})


RISING, FALLING, FLAT = {2: 0.5, 30: 0.8}, {2: 0.8, 30: 0.5}, {2: 0.65, 30: 0.65}


def test_summary_has_means_and_intervals_over_replicates() -> None:
    table = synthetic(RISING, FALLING, FLAT)
    found = summary(table).set_index(["latent_dim", "control", "measure"])
    line = found.loc[(2, INTERPOLATION, "confidence")]
    rows = table[(table["latent_dim"] == 2) & (table["control"] == INTERPOLATION)]
    means = rows.groupby("replicate")["confidence"].mean().to_numpy(float)
    assert line["mean"] == pytest.approx(means.mean())
    # t(0.975, 3) = 3.1824
    assert line["high"] - line["mean"] == pytest.approx(3.1824 * means.std(ddof=1) / 2, rel=1e-4)
    assert line["n"] == 4
    assert line["interval"] == "95 % Student t"
    assert line["cells"] == f"{2:016x}"


def test_paired_difference_over_replicates() -> None:
    interval = paired(synthetic(RISING, FALLING, FLAT, noise=0), "confidence", 2, 30)
    assert interval.estimate == pytest.approx(0.3)
    assert interval.n == 4


def test_conclusions_turn_with_the_numbers() -> None:
    up = conclusion(synthetic(RISING, FALLING, RISING))
    assert "The larger d is better: midpoints are more plausible at d = 30" in up
    assert "closer to mere cross-dissolve, which is the price" in up
    assert "its end points are more faithful" in up
    assert "most plausible midpoints are those of d = 30" in up
    assert "Both digits are seen at once more at d = 30 than at d = 2" in up
    down = conclusion(synthetic(FALLING, RISING, FALLING))
    assert "The smaller d is better: midpoints are more plausible at d = 2" in down
    assert "closer to mere cross-dissolve, which is the price" in down
    assert "its end points are less faithful" in down
    assert "most plausible midpoints are those of d = 2" in down
    assert "Both digits are seen at once less at d = 30 than at d = 2" in down


def test_conclusions_can_be_undecided() -> None:
    found = conclusions(synthetic(FLAT, FLAT, FLAT, noise=0.05))
    assert found[0].startswith("Whether d = 2 or d = 30 interpolates better is undecided")
    assert "not told apart from it" in found[1]
    assert sum("ndecided" in sentence for sentence in found) >= 4
    # One replicate has no interval, however large the difference.
    single = conclusion(synthetic(RISING, FALLING, RISING, replicates=1))
    assert "Whether d = 2 or d = 30 interpolates better is undecided" in single


def test_the_pixel_blend_is_the_control() -> None:
    def against(blend: float) -> str:
        table = synthetic(RISING, FALLING, FLAT)
        table.loc[table["control"] == PIXEL_BLEND, "confidence"] = blend
        return conclusions(table)[1]

    assert "more than in a blend of pixels (0.600)" in against(0.6)
    assert "less than in a blend of pixels (0.950)" in against(0.95)


def test_too_little_to_conclude() -> None:
    assert "only d = 8 is finished" in conclusion(synthetic({8: 0.5}, {8: 0.5}, {8: 0.1}))
    nothing = synthetic({}, {}, {})
    assert "no autoencoder is finished" in conclusion(nothing)
    with pytest.raises(ValueError, match="no autoencoder is finished"):
        interpolation.draw_scorecard(nothing)


# --- figures -----------------------------------------------------------------------------------


def test_figures_can_be_drawn(table: pd.DataFrame, small_results: Results) -> None:
    drawn = {
        "strip": interpolation.draw_strip(strips(small_results, (4, 7))),
        "scorecard": interpolation.draw_scorecard(table),
        "trade-off": interpolation.draw_trade_off(table),
    }
    for name, figure in drawn.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        assert buffer.getbuffer().nbytes > 10_000, name
    panels = drawn["scorecard"].axes
    assert len(panels) == len(interpolation.PANELS)
    assert [text.get_text() for text in drawn["strip"].axes[0].get_yticklabels()] == [
        "d = 2",
        "d = 8",
        "pixel blend",
    ]
