"""A trained encoder and head: classes and representations of new rows, in a folder and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.adapters import FeatureInputs, ImageInputs, Inputs, device_of, representations
from nearfar.allocation_limit import AllocationLimit
from nearfar.classification.cosine_linear import CosineLinear
from nearfar.encoders import Standardised, build_encoder
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import evaluating, initial_weights, resolve_device
from nearfar.saved import UNFIT, SavedFormat

CLASSIFIER = SavedFormat("classifier", "classifier.json")


class TrainedClassifier:
    """What is left after training.

    Args:
        encoder: ``batch -> (B, m)``.
        head: ``(B, m) -> (B, K)``.
        classes: What the columns of the head stand for.
        shape: Of one row.

    Example:
        >>> from nearfar.encoders import Identity
        >>> head = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.eye_(head.weight)
        >>> TrainedClassifier(Identity(2), head, ("cat", "dog"), (2,)).predict([[0.0, 3.0]]).tolist()
        ['dog']
    """

    def __init__(
        self, encoder: nn.Module, head: nn.Module, classes: Sequence[Any], shape: Sequence[int]
    ) -> None:
        self.encoder, self.head = encoder.eval(), head.eval()
        self.classes, self.shape = tuple(classes), tuple(shape)

    def represent(self, x: Any) -> Tensor:
        """Representations, shape ``(N, m)``, on the CPU.

        Args:
            x: Features ``(N, m)`` or images ``(N, C, H, W)``, as trained on.

        Raises:
            DataError: If rows are of another shape, or not finite.
        """
        return representations(self.encoder, self._inputs(x))

    def predict_proba(self, x: Any) -> NDArray[np.float32]:
        """Probability of every class, shape ``(N, K)``.

        Args:
            x: As of :meth:`represent`.

        Raises:
            DataError: As :meth:`represent`.
        """
        logits = class_logits(self.encoder, self.head, self._inputs(x))
        found: NDArray[np.float32] = torch.softmax(logits.float(), 1).numpy()
        return found

    def predict(self, x: Any) -> NDArray[Any]:
        """Most probable classes, shape ``(N,)``.

        Args:
            x: As of :meth:`represent`.

        Raises:
            DataError: As :meth:`represent`.
        """
        found: NDArray[Any] = np.array(self.classes)[self.predict_proba(x).argmax(1)]
        return found

    def _inputs(self, x: Any) -> Inputs:
        images = len(self.shape) == 3
        made: Inputs = ImageInputs(x) if images else FeatureInputs(FeatureInputs(x).features.float())
        shape = tuple(made.rows(torch.zeros(1, dtype=torch.int64)).shape[1:])
        if shape != self.shape:
            raise DataError(f"x: rows of shape {self.shape} expected, as trained on, got {shape}")
        return made


@torch.no_grad()
def class_logits(encoder: nn.Module, head: nn.Module, inputs: Inputs) -> Tensor:
    """Logits of rows as they are, shape ``(N, K)``, on the CPU; a class that nobody was trained on may have -inf.

    Args:
        encoder: ``batch -> (B, m)``.
        head: ``(B, m) -> (B, K)``.
        inputs: The rows.

    Raises:
        DataError: If a representation is not finite.
    """
    with evaluating(head):
        logits: Tensor = head(representations(encoder, inputs).to(device_of(head)))
    return logits.cpu()


def save_classifier(classifier: TrainedClassifier, encoder_name: str, folder: Path) -> None:
    """Write weights (safetensors) and what they belong to (JSON) into a new or empty folder.

    Args:
        classifier: Trained.
        encoder_name: As of :func:`nearfar.encoders.build_encoder`.
        folder: Where to.

    Raises:
        ConfigError: If the head is neither linear nor one of cosines.
        DataError: If the folder holds something else.
    """
    if not isinstance(classifier.head, nn.Linear | CosineLinear):
        kind = type(classifier.head).__name__
        raise ConfigError(f"head: nn.Linear or CosineLinear expected, got {kind}, which has no saved form")
    encoder, scale = classifier.encoder, None
    if isinstance(encoder, Standardised):
        scale = [encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()]
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"head.{name}": tensor for name, tensor in classifier.head.state_dict().items()}
    classes = [value.item() if isinstance(value, np.generic) else value for value in classifier.classes]
    description: dict[str, Any] = {
        "encoder": encoder_name,
        "shape": list(classifier.shape),
        "standardised": scale,
        "classes": classes,
    }
    if isinstance(classifier.head, CosineLinear):
        description["cosine_scale"] = classifier.head.scale
    CLASSIFIER.write(folder, tensors, description)


def load_classifier(folder: Path | str, device: str = "auto") -> TrainedClassifier:
    """Read what ``nearfar train`` left in ``model``, of methods that classify.

    Args:
        folder: Written by :func:`save_classifier`.
        device: Where to compute.

    Raises:
        DataError: If it is not a saved classifier, or is damaged.
    """
    tensors, d = CLASSIFIER.read(Path(folder))
    try:
        shape = tuple(d["shape"])
        with initial_weights(0), AllocationLimit(tensors, CLASSIFIER.description):
            encoder, head = _parts(d, shape)
        for name, module in (("encoder.", encoder), ("head.", head)):
            module.load_state_dict(
                {key.removeprefix(name): t for key, t in tensors.items() if key.startswith(name)}
            )
    except UNFIT as error:
        raise DataError(f"{folder} is not a saved classifier: {error}; save it again") from None
    where = resolve_device(device)
    return TrainedClassifier(encoder.to(where), head.to(where), d["classes"], shape)


def _parts(d: dict[str, Any], shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """Encoder and head as described, with weights of no meaning."""
    if not isinstance(d["classes"], list):
        raise DataError(f"classes: a list expected, got {type(d['classes']).__name__}")
    encoder: Any = build_encoder(d["encoder"], shape, generator=torch.Generator())
    if d["standardised"] is not None:
        encoder = Standardised(encoder, *d["standardised"])
    if "cosine_scale" in d:
        return encoder, CosineLinear(torch.zeros(len(d["classes"]), encoder.dim), scale=d["cosine_scale"])
    return encoder, nn.Linear(encoder.dim, len(d["classes"]))
