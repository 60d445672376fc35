"""Which encoder and which views a data set gets."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nearfar.adapters import FeatureInputs, ImageInputs, Inputs
from nearfar.classification.datasets import LabelledDataset
from nearfar.encoders import Standardised, build_encoder
from nearfar.errors import ConfigError
from nearfar.runtime import generator

# Means and deviations of the training images, of 1.
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
SMALL = 16  # pixels each way up to which images are taken for digits


def encoder_name(name: str, dataset: LabelledDataset) -> str:
    """What ``auto`` stands for.

    Args:
        name: ``auto`` or any other name, which stays.
        dataset: Gives the shape of a row.
    """
    if name != "auto":
        return name
    if not dataset.is_images:
        return "mlp"
    return "small_cnn" if max(dataset.x_train.shape[2:]) <= SMALL else "resnet32"


def encoder_for(name: str, dataset: LabelledDataset, seed: int) -> Any:
    """A fresh encoder for the rows of a data set.

    Args:
        name: ``auto`` or as of :func:`nearfar.encoders.build_encoder`.
        dataset: Gives the shape of a row.
        seed: Of the initial weights.

    Raises:
        ConfigError: If the encoder is not for such rows.
    """
    shape = dataset.x_train.shape[1:]
    encoder: Any = build_encoder(encoder_name(name, dataset), shape, generator=generator(seed, "init"))
    if dataset.is_images and shape[0] == 3:
        return Standardised(encoder, *(CIFAR100 if dataset.name == "cifar100" else CIFAR10))
    return encoder


def inputs_for(x: Tensor, dataset: LabelledDataset) -> Inputs:
    """Rows of a data set, with the changes that suit them.

    Args:
        x: Features ``(n, m)`` or images ``(n, C, H, W)``.
        dataset: They are of it.

    Raises:
        ConfigError: If images have neither one nor three channels.
    """
    if not dataset.is_images:
        return FeatureInputs(x)
    if x.shape[1] not in (1, 3):
        raise ConfigError(f"data: images of one or three channels expected, got {x.shape[1]}")
    if max(x.shape[2:]) <= SMALL:
        return ImageInputs(x, flips=False, padding=1, scale=(0.5, 1.0))
    return ImageInputs(x, flips=True, padding=4)
