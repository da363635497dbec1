"""Question 1: how the reconstruction error depends on the latent dimension, layers and weights.

- `errors`: means, intervals and slopes, and the error of PCA
- `checks`: the same comparisons with a larger budget, larger minibatches, other widths
- `figures`: plots of errors and reconstructions
- `conclusions`: the sentences that follow from the errors
"""

from analysis.reconstruction.checks import all_rows as all_rows
from analysis.reconstruction.checks import checks as checks
from analysis.reconstruction.checks import draw_checks as draw_checks
from analysis.reconstruction.conclusions import conclusions as conclusions
from analysis.reconstruction.errors import best_model as best_model
from analysis.reconstruction.errors import error_by_class as error_by_class
from analysis.reconstruction.errors import image_errors as image_errors
from analysis.reconstruction.errors import pca_errors as pca_errors
from analysis.reconstruction.errors import pca_images as pca_images
from analysis.reconstruction.errors import summary as summary
from analysis.reconstruction.figures import draw_cost as draw_cost
from analysis.reconstruction.figures import draw_error_by_class as draw_error_by_class
from analysis.reconstruction.figures import draw_error_by_dimension as draw_error_by_dimension
from analysis.reconstruction.figures import draw_histories as draw_histories
from analysis.reconstruction.figures import draw_reconstructions as draw_reconstructions
