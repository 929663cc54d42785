"""Probes of a slot's code: factors of its object predicted from latents and from the temporal state.

A probe is a small regression from the code of a slot to a factor of its object. Videos are split into `NUM_FOLDS`
folds. The factors of each fold's objects are predicted by a probe trained on the other folds, so no video is on both
sides. R^2 is computed over all these predictions: 1 is perfect, and a probe that always predicts the mean scores 0. Its
standard error is over videos, by bootstrap; it does not include the variance from training on other videos.

    linear   ridge regression, with its strength chosen per component within the training folds
    tree     boosted trees of depth 3, for information that is not linear in the code

R^2 measures the information in a code. Disentanglement and completeness (Eastwood & Williams 2018) measure whether
dimensions and factors correspond one to one. They need the importance of every dimension for every component: the
magnitude of the ridge's coefficients between standardised values, or the trees' feature importances. Here the
importances for a component sum to its R^2, so that an unpredictable component has no influence. In the paper they are
the probe's own.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from stii_jax.analysis.probes_samples import FACTORS, MIN_IOU, Samples

NUM_FOLDS = 5
NUM_RESAMPLES = 1000
_CONSTANT = 1e-4
"""Standard deviation below which a component counts as constant, without R^2; rounded colours stay below it."""

Codes = Float[np.ndarray, "N Z"]
Targets = Float[np.ndarray, "N F"]
Fitted = tuple[Callable[[np.ndarray], np.ndarray], Float[np.ndarray, "Z F"]]
"""Prediction of targets from codes, and the importance of each dimension for each target."""


def fit_linear(codes: Codes, targets: Targets, seed: int) -> Fitted:
    """Fit a ridge regression of standardised targets from standardised codes; it is deterministic."""
    from sklearn.linear_model import RidgeCV  # imported here because it takes seconds

    del seed
    model = RidgeCV(np.logspace(-3, 4, 15), alpha_per_target=True).fit(codes, targets)
    return (lambda codes: model.predict(codes).reshape(len(codes), -1)), np.abs(np.atleast_2d(model.coef_)).T


def fit_trees(codes: Codes, targets: Targets, seed: int) -> Fitted:
    """Fit boosted trees of depth 3, each grown from 70% of the samples.

    Every split chooses among all dimensions. With a random subset it would often take the wrong one and spread the
    importances over redundant dimensions.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    settings = {"n_estimators": 50, "learning_rate": 0.15, "max_depth": 3, "subsample": 0.7, "random_state": seed}
    models: list[Any] = [GradientBoostingRegressor(**settings).fit(codes, target) for target in targets.T]
    importances = np.stack([model.feature_importances_ for model in models], axis=1)
    return (lambda codes: np.stack([model.predict(codes) for model in models], axis=1)), importances


PROBES: dict[str, Callable[[Codes, Targets, int], Fitted]] = {"linear": fit_linear, "tree": fit_trees}


def probe(samples: Samples, seed: int = 0) -> dict[str, Any]:
    """Return scores of every representation and probe, ready for JSON; NaN if a factor does not vary.

    Args:
        samples: samples from `collect`.
        seed: seed of folds, trees and bootstrap.

    Raises:
        ValueError: objects were found in too few videos.
    """
    if (num_videos := len(np.unique(samples.video))) < 2 * NUM_FOLDS:
        raise ValueError(
            f"{num_videos} videos have an object that a slot overlaps with an IoU of {MIN_IOU} or more, expected at "
            f"least {2 * NUM_FOLDS}: increase config.probe.num_videos, or train the model until it finds objects"
        )
    codes = {"latents": samples.latents}
    if samples.temporal is not None:
        codes |= {"temporal": samples.temporal, "both": np.concatenate([samples.latents, samples.temporal], axis=1)}
    num_found = len(samples.video)
    return {
        "frame": samples.frame,
        "num_videos": num_videos,
        "num_objects": samples.num_objects,
        "num_found": num_found,
        "found_fraction": num_found / samples.num_objects,
        "min_iou": MIN_IOU,
        "num_folds": NUM_FOLDS,
        "probes": {
            representation: {
                name: {"num_dims": code.shape[1], **_score(code, samples, fit, seed)} for name, fit in PROBES.items()
            }
            for representation, code in codes.items()
        },
    }


def cross_validate(
    codes: Codes, targets: Targets, video: Int[np.ndarray, " N"], fit: Callable[..., Fitted], seed: int
) -> tuple[Targets, Float[np.ndarray, "Z F"]]:
    """Predict all samples, each by a probe trained on other videos; also returns the probes' mean importances."""
    _, number = np.unique(video, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(number.max() + 1) % NUM_FOLDS)[number]
    predictions, importances = np.zeros_like(targets), []
    for held_out in range(NUM_FOLDS):
        train, test = fold != held_out, fold == held_out
        (code_mean, code_scale), (mean, scale) = _scaling(codes[train]), _scaling(targets[train])
        standardised = (codes - code_mean) / code_scale
        predict, importance = fit(standardised[train], (targets[train] - mean) / scale, seed)
        predictions[test] = predict(standardised[test]) * scale + mean
        importances.append(importance)
    return predictions, np.mean(importances, axis=0)


def r_squared(
    targets: Targets, predictions: Targets, video: Int[np.ndarray, " N"], seed: int
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "S F"]]:
    """Return R^2 of all predictions, and of S bootstrap samples of the videos."""
    _, number = np.unique(video, return_inverse=True)
    num_videos = number.max() + 1
    centred = targets - targets.mean(axis=0)
    values = np.stack([np.ones_like(centred), centred, centred**2, (targets - predictions) ** 2])
    of_videos = np.zeros((4, num_videos, targets.shape[1]))
    for total, value in zip(of_videos, values):
        np.add.at(total, number, value)
    drawn = np.random.default_rng(seed).multinomial(num_videos, np.full(num_videos, 1 / num_videos), NUM_RESAMPLES)
    count, total, square, error = np.einsum("sv,mvf->msf", np.concatenate([np.ones((1, num_videos)), drawn]), of_videos)
    scores = 1 - error / np.maximum(square - total**2 / count, 1e-12)
    return scores[0], scores[1:]


def disentanglement(importances: Float[np.ndarray, "Z F"]) -> tuple[float, float]:
    """Return disentanglement and completeness (Eastwood & Williams 2018), in [0, 1]; NaN if nothing is important.

    Disentanglement is 1 if every dimension encodes only one factor, completeness if every factor is encoded by only one
    dimension. A dimension or factor is weighted by the sum of its importances.
    """
    if not importances.sum() > 0:
        return float("nan"), float("nan")
    scores = []
    for rows in (importances, importances.T):
        weights = rows.sum(axis=1)
        shares = rows / np.maximum(weights, 1e-12)[:, None]
        entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1) / np.log(max(rows.shape[1], 2))
        scores.append(float((weights * (1 - entropy)).sum() / weights.sum()))
    return scores[0], scores[1]


def _score(codes: Codes, samples: Samples, fit: Callable[..., Fitted], seed: int) -> dict[str, Any]:
    """Return the scores of one representation and probe."""
    varies = samples.factors.std(axis=0) > _CONSTANT
    targets = samples.factors[:, varies].astype(np.float64)
    predictions, importances = cross_validate(codes.astype(np.float64), targets, samples.video, fit, seed)
    scores, resampled = r_squared(targets, predictions, samples.video, seed)
    shares = importances / np.maximum(importances.sum(axis=0), 1e-12)
    disentangled, complete = disentanglement(shares * np.maximum(scores, 0))
    column = {samples.names[place]: number for number, place in enumerate(np.flatnonzero(varies))}
    r2, errors = {}, {}
    for factor, components in FACTORS.items():
        columns = [column[component] for component in components if component in column]
        r2[factor] = float(scores[columns].mean()) if columns else float("nan")
        errors[factor] = float(resampled[:, columns].mean(axis=1).std()) if columns else float("nan")
    of_components = {name: float(scores[column[name]]) if name in column else float("nan") for name in samples.names}
    return {
        "r2": r2,
        "r2_stderr": errors,
        "components": of_components,
        "disentanglement": disentangled,
        "completeness": complete,
    }


def _scaling(values: Float[np.ndarray, "N M"]) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Return mean and standard deviation; the latter is 1 for constant values."""
    scale = values.std(axis=0)
    return values.mean(axis=0), np.where(scale > 1e-12, scale, 1.0)
