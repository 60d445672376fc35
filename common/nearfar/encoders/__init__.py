"""Encoders of images and features: modules from a batch to ``(B, dim)``."""

from nearfar.encoders.build import build_encoder
from nearfar.encoders.identity import Identity
from nearfar.encoders.mlp import MLP
from nearfar.encoders.resnet import ResNet, resnet18, resnet32
from nearfar.encoders.small_cnn import SmallCNN
from nearfar.encoders.standardised import Standardised

__all__ = [
    "MLP",
    "Identity",
    "ResNet",
    "SmallCNN",
    "Standardised",
    "build_encoder",
    "resnet18",
    "resnet32",
]
