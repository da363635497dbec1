"""Few-shot classifiers: a small MLP on an encoder's code, learnt from tens of labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augment import views
from trainables.contract import Checkpoint, Outcome, Parent, Report
from trainables.data import DIGITS, Dataset, pixels
from trainables.fewshot.codes import encode
from trainables.fewshot.settings import FREEZE as FREEZE
from trainables.fewshot.settings import HEADS, ON_ALL_IMAGES, WHOLE_NETWORKS
from trainables.fewshot.settings import VERSION as VERSION
from trainables.fewshot.settings import Config as Config
from trainables.fewshot.stages import (
    Examples,
    Scoring,
    Training,
    TrainingResult,
    label_subsets,
    labelled_examples,
    predictor,
    train_stage,
)
from trainables.fewshot.stages import cross_entropy as cross_entropy
from trainables.networks import Classifier, Head, count_parameters, encoder_of
from trainables.replicates import Replicates, fastest_strategy, pick_device
from trainables.seeds import generators, initialise
from trainables.shape import Shape
from trainables.supervised.train import Network

STATISTICS_IMAGES = 1000
"""Number of training images, without labels, that the standardisation of codes is fitted to. They
determine a standard deviation to 2 %; all images would take as long as training a head."""


def build_classifiers(
    config: Config,
    replicates: Sequence[int],
    parent: Parent | None,
    image: tuple[int, int, int] = (1, 28, 28),
    classes: int = len(DIGITS),
) -> list[Classifier]:
    """An untrained classifier for each of `replicates`, for images of this shape.

    Heads have their own seeds, so `fixed`, `full` and `scratch` start from the same heads. Raises
    `ValueError` if an arm with a pretrained encoder has no `parent`.
    """
    heads = initialise(
        lambda: Head(config.latent_dim, config.hidden, classes), config.seed, replicates, "head"
    )
    shape = config.shape.of_images(image)
    if config.freeze == "scratch":
        encoders = initialise(lambda: encoder_of(shape), config.seed, replicates)
    elif parent is None:
        raise ValueError(f"freeze = {config.freeze!r} needs a pretrained encoder")
    else:
        sources = map(config.parent_replicate, replicates)
        encoders = [pretrained_encoder(shape, parent[source]) for source in sources]
    return [Classifier(*parts) for parts in zip(encoders, heads, strict=True)]


def pretrained_encoder(shape: Shape, weights: Mapping[str, Tensor]) -> nn.Module:
    """An encoder with copies of the encoder's parameters among an autoencoder's `weights`."""
    with torch.device("meta"):  # without random weights, which take a tenth of a cell's time
        encoder = encoder_of(shape)
    own = {
        name.removeprefix("encoder."): value.clone()
        for name, value in weights.items()
        if name.startswith("encoder.")
    }
    encoder.load_state_dict(own, assign=True)
    return encoder


@dataclass(frozen=True)
class Classifiers:
    """The classifiers of a block. Those with the same source start from the same encoder."""

    numbers: Sequence[int]
    """The replicates' numbers in their cell."""
    members: list[Classifier]
    sources: list[int]
    """Number of the pretrained encoder that each of the `members` starts from."""

    def by_source(self) -> dict[int, Classifier]:
        """One of the members for each source, so that each encoder runs once."""
        return dict(zip(self.sources, self.members, strict=True))

    def standardise(self, images: Tensor) -> None:
        """Fit every member's standardisation to its codes of uint8 `images` (N, C, H, W)."""
        codes = {source: encode(member, images) for source, member in self.by_source().items()}
        for member, source in zip(self.members, self.sources, strict=True):
            member.standardise.fit(codes[source])

    def codes(self, images: Tensor) -> dict[int, Tensor]:
        """Standardised codes (N, d) of `images` (N, C, H, W), by source."""
        return {
            source: member.standardise(encode(member, images))
            for source, member in self.by_source().items()
        }

    def encode_examples(self, examples: Examples) -> Examples:
        """The `examples` with standardised codes (R, M, d) instead of images."""
        pairs = zip(self.members, examples.inputs, strict=True)
        codes = [member.standardise(encode(member, images)) for member, images in pairs]
        return replace(examples, inputs=torch.stack(codes))

    def predictor(self, heads: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
        """Return a function from uint8 images (N, C, H, W) to their predicted classes (R, N).

        Each of the R `heads` maps codes (N, d) to classes (N,).
        """
        cached_codes = lru_cache(maxsize=1)(self.codes)  # a search scores the same images again

        def predict(images: Tensor) -> Tensor:
            codes = cached_codes(images)
            pairs = zip(heads, self.sources, strict=True)
            return torch.stack([head(codes[source]) for head, source in pairs])

        return predict


def peak_rates(config: Config) -> dict[str, float]:
    """Peak learning rates of the last stage, by prefix of parameter name.

    Only parameters that this stage trains have a rate.
    """
    if config.freeze == "lp-ft":
        rates = {"": config.tuning_learning_rate}
    elif config.freeze in WHOLE_NETWORKS:
        rates = {"encoder.": config.encoder_learning_rate, "head.": config.learning_rate}
    else:
        rates = {"": config.learning_rate}  # a head alone, whose names have no prefix
    return {prefix: config.rate_factor * rate for prefix, rate in rates.items()}


def budget(config: Config) -> tuple[int, int]:
    """Epochs, and inputs per minibatch, of the last stage."""
    if config.freeze in ON_ALL_IMAGES:
        return config.pseudo_epochs, config.pseudo_batch_size
    return config.epochs, config.batch_size or config.labels


def most_likely(head: Head, codes: Tensor) -> Tensor:
    """Classes (N,) with the largest score of `head` for `codes` (N, d)."""
    return head(codes).argmax(dim=1)


def head_training(config: Config, classifiers: Classifiers, examples: Examples) -> Training:
    """Training of the heads alone, on `examples` whose inputs are codes.

    The encoders don't change, so the codes are computed once.
    """
    heads = [member.head for member in classifiers.members]
    return Training(
        Replicates(
            heads, examples.targets.device, "batched", classifiers.numbers, config.precision
        ),
        examples,
        peak_rates(config),
        *budget(config),
        classifiers.predictor([partial(most_likely, head) for head in heads]),
    )


def network_training(config: Config, classifiers: Classifiers, examples: Examples) -> Training:
    """Training of encoders and heads together."""
    members, device = classifiers.members, examples.targets.device
    strategy = fastest_strategy(members[0], device)
    models = Replicates(members, device, strategy, classifiers.numbers, config.precision)
    return Training(
        models,
        replace(examples, inputs=pixels(examples.inputs)),
        peak_rates(config),
        *budget(config),
        predictor(models),
    )


def propagated_labels(
    config: Config,
    sources: list[int],
    codes: Mapping[int, Tensor],
    subsets: Tensor,
    targets: Tensor,
    classes: int,
) -> tuple[Tensor, Tensor]:
    """Spread the labels of the images `subsets` (R, labels) to all N training images.

    `targets` (R, labels) are their classes; no other label is used. Each replicate's graph joins
    the `codes` (N, d) of its source. Returns classes (R, N) and their certainties (R, N) from 0
    to 1. Known labels are kept, with certainty 1.
    """
    from trainables.fewshot import (
        propagation,  # imports scipy and scikit-learn: a second that only these arms need
    )

    graphs = {
        source: propagation.cached_graph(source_codes.cpu().numpy(), config.neighbours)
        for source, source_codes in codes.items()
    }
    replicates = zip(sources, subsets.cpu().numpy(), targets.cpu().numpy(), strict=True)
    probabilities = np.stack(
        [
            propagation.spread_in_rounds(
                graphs[source], subset, labels, config.alpha, config.rounds, classes
            )
            for source, subset, labels in replicates
        ]
    )
    device = targets.device
    predicted = torch.from_numpy(probabilities.argmax(axis=2)).to(device)
    certainty = torch.from_numpy(propagation.certainty(probabilities)).float().to(device)
    replicate = torch.arange(len(sources), device=device).unsqueeze(1)
    predicted[replicate, subsets] = targets
    certainty[replicate, subsets] = 1.0
    return predicted, certainty


def consistency_training(
    config: Config,
    replicates: Sequence[int],
    images: Tensor,
    labels: Tensor,
    certainty: Tensor,
    network: Callable[[], Network],
) -> Training:
    """Training of networks without a bottleneck on all uint8 training `images` (N, C, H, W).

    `labels` (R, N) are their classes, `certainty` (R, N) their weights in the loss. The networks
    see new views in every pass, and learn the same class for all views of an image.

    FixMatch (Sohn et al. 2020, NeurIPS) also requires this consistency, but takes the classes from
    the network itself. Here that was worse. Of the classes that spread from 40 labels of MNIST,
    97.1 and 98.0 % are right (2 subsets, codes of one contrastive encoder). Networks trained on
    them classify 97.0 and 98.1 % of the validation images correctly; 96.9 and 97.7 % if an image
    counts less when the network doubts its class; below 96 % if the network reassigns the classes
    before each pass.
    """
    members = initialise(network, config.seed, replicates, "consistency")
    models = Replicates(members, images.device, "loop", replicates, config.precision)
    draws = generators(config.seed, replicates, "views", images.device)
    inputs = images.expand(len(members), *images.shape)
    return Training(
        models,
        Examples(inputs, labels, certainty=certainty),
        peak_rates(config),
        *budget(config),
        predictor(models),
        transform=lambda batch: views(pixels(batch), config.view_strength, 0.0, draws),
        draws=draws,
    )


def train(
    config: Config,
    replicates: range,
    data: Dataset,
    report: Report,
    parent: Parent | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train these `replicates` of a cell on their label subsets of `data`.

    Rows have `val_accuracy` and `test_accuracy`, as fractions. `parent` holds the weights of the
    autoencoders whose encoders the classifiers start from. After the epochs in
    `report.score_after`, some of `Config.scored_epochs`, the validation accuracy is reported too;
    this time doesn't count as training.

    Raises `Diverged`, or `ValueError` if the arm needs a `parent`.
    """
    started = time.perf_counter()
    device = pick_device()
    classes = len(data.classes)
    built = build_classifiers(config, replicates, parent, data.image_shape, classes)
    members = [member.to(device) for member in built]
    network = partial(Network, config.width, data.image_shape, classes)
    sources = [config.parent_replicate(replicate) for replicate in replicates]
    images, labels = data.train.on(device)
    classifiers = Classifiers(replicates, members, sources)
    classifiers.standardise(images[:STATISTICS_IMAGES])
    subsets = label_subsets(data, config, replicates).to(device)
    examples = labelled_examples(config, replicates, images[subsets], labels[subsets])
    if config.freeze == "consistency":
        with torch.device("meta"):
            counted_module: nn.Module = network()
    else:
        counted_module = members[0].encoder if config.freeze in HEADS else members[0]
    scoring = Scoring(replicates, data, report, count_parameters(counted_module))
    if config.freeze in HEADS:
        from trainables.fewshot.heads import (
            fit_heads,  # imports scikit-learn: a second that the other arms don't need
        )

        coded = classifiers.encode_examples(examples)
        heads = fit_heads(config.freeze, coded.inputs, coded.targets)
        result = TrainingResult(classifiers.predictor(heads), 1, config.labels, 0)
        networks: Sequence[nn.Module] = ()
    else:
        earlier_epochs = 0
        if config.freeze == "fixed":
            training = head_training(config, classifiers, classifiers.encode_examples(examples))
        elif config.freeze in ON_ALL_IMAGES:
            codes = classifiers.codes(images)
            propagated, certainty = propagated_labels(
                config, sources, codes, subsets, labels[subsets], classes
            )
            if config.freeze == "propagation":
                inputs = torch.stack([codes[source] for source in sources])
                coded = Examples(inputs, propagated, certainty=certainty)
                training = head_training(config, classifiers, coded)
            else:
                training = consistency_training(
                    config, replicates, images, propagated, certainty, network
                )
        elif config.freeze == "lp-ft":
            # The probe takes seconds, too few for a checkpoint; a repeat gives the same bits.
            probe_epochs, tuning_epochs = config.stages
            probe_config = replace(config, freeze="fixed", epochs=probe_epochs)
            probe = head_training(probe_config, classifiers, classifiers.encode_examples(examples))
            earlier_epochs = train_stage(config, probe, scoring).epochs
            tuning_config = replace(config, epochs=tuning_epochs)
            training = network_training(tuning_config, classifiers, examples)
        elif config.freeze in WHOLE_NETWORKS:
            training = network_training(config, classifiers, examples)
        else:
            raise ValueError(f"freeze = {config.freeze!r}: not implemented in `train`")
        result = train_stage(config, training, scoring, earlier_epochs, checkpoint)
        networks = training.models.members if config.freeze == "consistency" else members
    columns = {"label_subset": list(replicates), "encoder_replicate": sources}
    return scoring.outcome(result, started, columns, networks)
