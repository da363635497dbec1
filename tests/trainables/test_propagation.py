"""Labels that spread on a graph: the linear system, the balance, and the certainty."""

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.semi_supervised import LabelSpreading

from trainables.fewshot import propagation
from trainables.fewshot.propagation import (
    certainty,
    class_probabilities,
    neighbour_graph,
    spread,
    spread_in_rounds,
)


@pytest.fixture(scope="module")
def blobs():
    """Ten clusters of 40 points each, and the cluster of each point."""
    draw = np.random.default_rng(0)
    centres = 6 * np.stack([np.cos(np.arange(10) * 0.628), np.sin(np.arange(10) * 0.628)], axis=1)
    labels = np.arange(400) % 10
    return centres[labels] + draw.normal(0, 0.7, (400, 2)), labels


def test_graph_is_symmetric_with_enough_neighbours(blobs):
    graph = neighbour_graph(blobs[0], 5)
    assert abs(graph - graph.T).max() < 1e-15
    assert graph.diagonal().max() == 0
    joined = np.diff(graph.indptr)
    assert joined.min() >= 5
    assert 5 * 400 <= graph.nnz <= 2 * 5 * 400
    # Its largest eigenvalue is 1, with the vector of square roots of degrees.
    assert np.linalg.eigvalsh(graph.toarray()).max() == pytest.approx(1.0, abs=1e-10)


def test_scores_solve_the_system(blobs):
    graph = neighbour_graph(blobs[0], 10)
    subsets, labels = np.array([[0, 11], [5, 399]]), np.array([[0, 1], [5, 9]])
    for subset, of_it in zip(subsets, labels, strict=True):
        scores = spread(graph, subset, of_it, 0.99, 10)
        known = np.zeros((400, 10))
        known[subset, of_it] = 1
        exact = np.linalg.solve(np.eye(400) - 0.99 * graph.toarray(), known)
        assert np.abs(scores - exact).max() < 1e-3 * exact.max()


def test_scores_match_scikit_learn():
    """On scikit-learn's dense graph, whose clamping 0.2 is our α, up to a common factor."""
    points, classes = make_moons(60, noise=0.05, random_state=0)
    seen = np.full(60, -1)
    subset = np.array([np.flatnonzero(classes == c)[0] for c in (0, 1)])
    seen[subset] = classes[subset]
    theirs = LabelSpreading(kernel="rbf", gamma=20, alpha=0.2, max_iter=1000, tol=1e-12)
    theirs.fit(points, seen)
    # Its graph is the normalised Laplacian with a zero diagonal, negated.
    ours = spread(theirs._build_graph(), subset, classes[subset], 0.2, 10)[:, :2]
    probabilities = ours / ours.sum(axis=1, keepdims=True)
    assert np.abs(probabilities - theirs.label_distributions_).max() < 1e-6


def test_one_label_a_cluster_labels_the_cluster(blobs):
    points, labels = blobs
    graph = neighbour_graph(points, 10)
    subset = np.arange(10)
    probabilities = class_probabilities(spread(graph, subset, labels[subset], 0.99, 10))
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.97
    assert probabilities.sum(axis=1) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def badly_labelled(blobs):
    """The graph of the clusters, and in each the one point that is nearest to the next cluster."""
    points, labels = blobs
    centres = np.stack([points[labels == c].mean(axis=0) for c in range(10)])
    distances = np.linalg.norm(points - centres[(labels + 1) % 10], axis=1)
    subset = [min(np.flatnonzero(labels == c), key=distances.__getitem__) for c in range(10)]
    return neighbour_graph(points, 10), np.array(subset), labels


def share_right(badly_labelled, rounds):
    graph, subset, labels = badly_labelled
    probabilities = spread_in_rounds(graph, subset, labels[subset], 0.99, rounds, 10)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    return (probabilities.argmax(axis=1) == labels).mean()


def test_rounds_correct_labels_at_the_borders(badly_labelled):
    """From labels at the borders: 93.5 % right at first, 99.2 % after one round."""
    assert share_right(badly_labelled, 0) < 0.95
    assert share_right(badly_labelled, 1) > 0.985
    assert share_right(badly_labelled, 10) > 0.985


def test_known_labels_spread_unchanged_in_every_round(blobs, monkeypatch):
    """Even a label that its neighbours outvote: here one inside another cluster."""
    points, labels = blobs
    subset = np.arange(20)
    known = labels[subset].copy()
    known[3] = 8
    given = []

    def record(graph, images, numbers, alpha, classes):
        given.append(dict(zip(images, numbers, strict=True)))
        return spread(graph, images, numbers, alpha, classes)

    monkeypatch.setattr(propagation, "spread", record)
    found = spread_in_rounds(neighbour_graph(points, 10), subset, known, 0.99, 5, 10)
    assert found[3].argmax() == 3
    assert len(given) > 2
    for classes in given:
        assert [classes[image] for image in subset] == known.tolist()


def test_rounds_end_where_no_class_changes(badly_labelled, monkeypatch):
    calls = []
    monkeypatch.setattr(propagation, "spread", lambda *args: calls.append(1) or spread(*args))
    share_right(badly_labelled, 1000)
    assert 2 < len(calls) < 20


def test_balancing_gives_every_class_its_share():
    """Class 0 has ten times the scores of the others, and would take nearly all images."""
    draw = np.random.default_rng(1)
    scores = draw.gamma(1.0, size=(5000, 10))
    scores[:, 0] *= 10
    before = np.bincount(scores.argmax(axis=1), minlength=10)
    probabilities = class_probabilities(scores)
    after = np.bincount(probabilities.argmax(axis=1), minlength=10)
    assert before[0] > 2500
    assert probabilities.mean(axis=0) == pytest.approx(0.1, abs=1e-4)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert np.abs(after - 500).max() < 100


def test_unreached_image_is_finite_and_certainty_exact():
    scores = np.ones((4, 10)) + np.eye(10)[:4]
    scores[3] = 0
    probabilities = class_probabilities(scores)
    assert np.isfinite(probabilities).all()
    assert certainty(np.full(10, 0.1)) == pytest.approx(0.0, abs=1e-12)
    assert certainty(np.eye(10)[0]) == pytest.approx(1.0)
    half = np.array([0.5, 0.5] + [0.0] * 8)
    assert certainty(half) == pytest.approx(1 - np.log(2) / np.log(10))


def test_equal_codes_are_neighbours():
    graph = neighbour_graph(np.zeros((20, 3)), 4)
    assert np.isfinite(graph.data).all()
