"""Heads that aren't networks: scikit-learn's classifiers on the codes of the labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor

from trainables.fewshot.codes import encode
from trainables.fewshot.stages import Examples
from trainables.networks import Classifier


def untrained(kind: str, latent_dim: int) -> Any:
    """A new classifier for standardised codes, of a `kind` in `trainables.fewshot.settings.HEADS`.

    C and gamma have the best accuracy on the 400 validation images of mnist-5k, among five C for
    the regression and 3 × 3 pairs for the support vector machine, at 20 and 160 labels and d = 14
    and 30 (n = 8). The regression is within 0.3 points of its best from C = 0.3 to 3; the support
    vector machine is within 0.8 points of its best everywhere.
    """
    if kind == "logistic":
        return LogisticRegression(C=1.0, max_iter=1000)
    if kind == "svm":
        return SVC(C=10.0, gamma=1 / latent_dim)
    if kind == "neighbours":
        return KNeighborsClassifier(1)
    raise ValueError(f"there is no head {kind!r}")


def fit_heads(
    kind: str, members: list[Classifier], examples: Examples
) -> Callable[[Tensor], Tensor]:
    """Fit a head for each of the `members` to the codes of its examples.

    Returns a function from uint8 images (N, C, H, W) to predicted classes (R, N).
    """
    heads = []
    for member, images, targets in zip(members, examples.images, examples.targets, strict=True):
        codes = member.standardise(encode(member, images)).cpu().numpy()
        heads.append(untrained(kind, codes.shape[1]).fit(codes, targets.cpu().numpy()))

    def predict(images: Tensor) -> Tensor:
        each = [
            head.predict(member.standardise(encode(member, images)).cpu().numpy())
            for member, head in zip(members, heads, strict=True)
        ]
        return torch.stack([torch.from_numpy(classes) for classes in each]).to(images.device)

    return predict
