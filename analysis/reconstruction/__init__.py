"""Question 1: how the reconstruction error depends on the latent dimension, layers and weights.

- `errors`: means, intervals and slopes, and the error of PCA
- `checks`: the same comparisons with a larger budget, larger minibatches, other widths
- `figures`: plots of errors and reconstructions
- `conclusions`: the sentences that follow from the errors
"""

from analysis.reconstruction.checks import all_rows, checks, draw_checks
from analysis.reconstruction.conclusions import conclusions
from analysis.reconstruction.errors import (
    best_model,
    error_by_class,
    image_errors,
    pca_errors,
    pca_images,
    slope_over_dimension,
    summary,
    with_every_dimension,
)
from analysis.reconstruction.figures import (
    draw_cost,
    draw_error_by_class,
    draw_error_by_dimension,
    draw_histories,
    draw_reconstructions,
)

__all__ = [
    "all_rows",
    "best_model",
    "checks",
    "conclusions",
    "draw_checks",
    "draw_cost",
    "draw_error_by_class",
    "draw_error_by_dimension",
    "draw_histories",
    "draw_reconstructions",
    "error_by_class",
    "image_errors",
    "pca_errors",
    "pca_images",
    "slope_over_dimension",
    "summary",
    "with_every_dimension",
]
