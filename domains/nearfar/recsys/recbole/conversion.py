"""From RecBole back to nearfar: its histories and vocabulary, and the trained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DataError
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.recommender import Recommender
from nearfar.recsys.sasrec.encoder import NORM_EPS, SASRecEncoder

# RecBole's names of the parts of its SASRec, and ours.
_LAYER = {
    "multi_head_attention.query": "query",
    "multi_head_attention.key": "key",
    "multi_head_attention.value": "value",
    "multi_head_attention.dense": "out",
    "multi_head_attention.LayerNorm": "attention_norm",
    "feed_forward.dense_1": "inner",
    "feed_forward.dense_2": "outer",
    "feed_forward.LayerNorm": "norm",
}


def to_recommender(model: Any, dataset: Any) -> Recommender:
    """The recommender of a model that RecBole has trained; item numbers stay RecBole's.

    Args:
        model: Our MCLRec or RecBole's own SASRec, as ``load_data_and_model`` or a trainer has it.
        dataset: RecBole's whole data set (the third of ``load_data_and_model``), before or after it was split.

    Returns:
        A recommender with the model's weights that knows every user's full history. Users with a single event
        are missing when the data set was split, because RecBole drops them.

    Raises:
        DataError: If the model is another one, or the data set does not belong to it.
    """
    encoder = to_encoder(model)
    data = to_interactions(dataset)
    if data.num_items != encoder.arguments["num_items"]:
        raise DataError(
            f"the data set has {data.num_items} items, the model {encoder.arguments['num_items']}: "
            "give the data set the model was trained on"
        )
    return Recommender(encoder, data)


def to_encoder(model: Any) -> SASRecEncoder:
    """The encoder of a model that RecBole has trained, in evaluation mode; equal scores, up to rounding.

    Args:
        model: Our MCLRec, whose encoder is shared, or RecBole's own SASRec, whose weights are copied.

    Raises:
        DataError: If the model is another one, or a SASRec with another activation or normalisation.
    """
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, SASRecEncoder):
        return encoder.eval()
    if type(model).__name__ != "SASRec" or not hasattr(model, "trm_encoder"):
        raise DataError(f"model: MCLRec or RecBole's SASRec expected, got {type(model).__name__}")
    if (model.hidden_act, model.layer_norm_eps) != ("gelu", NORM_EPS):
        raise DataError(
            f"model: SASRec with hidden_act='gelu' and layer_norm_eps={NORM_EPS} expected, "
            f"got {model.hidden_act!r} and {model.layer_norm_eps}"
        )
    copied = SASRecEncoder(
        model.n_items - 1,
        max_length=model.max_seq_length,
        dim=model.hidden_size,
        num_layers=model.n_layers,
        num_heads=model.n_heads,
        inner_dim=model.inner_size,
        dropout=model.hidden_dropout_prob,
        attention_dropout=model.attn_dropout_prob,
    )
    copied.load_state_dict(_renamed(model.state_dict()))
    with torch.no_grad():
        copied.item.weight[0] = 0  # noise in RecBole, which reaches no score
    return copied.to(model.item_embedding.weight.device).eval()


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """RecBole's SASRec under our names."""
    tops = {"item_embedding": "item", "position_embedding": "position", "LayerNorm": "norm"}
    names = {}
    for name in state:
        place, _, kind = name.rpartition(".")
        if place in tops:
            names[name] = f"{tops[place]}.{kind}"
        else:
            layer, _, part = place.removeprefix("trm_encoder.layer.").partition(".")
            names[name] = f"layers.{layer}.{_LAYER[part]}.{kind}"
    return {names[name]: tensor.detach().clone() for name, tensor in state.items()}


def to_interactions(dataset: Any) -> Interactions:
    """The histories of a RecBole data set.

    Args:
        dataset: A ``SequentialDataset`` before its split (a frame of events) or after it (rows of prefixes).

    Raises:
        DataError: If it holds no event.
    """
    feat, user, item, time = dataset.inter_feat, dataset.uid_field, dataset.iid_field, dataset.time_field
    if hasattr(feat, "interaction"):
        users, items = _unroll(dataset)
    else:
        order = np.lexsort((feat[time].to_numpy(), feat[user].to_numpy()))
        users, items = feat[user].to_numpy()[order], feat[item].to_numpy()[order]
    if len(users) == 0:
        raise DataError(f"RecBole's data set {dataset.dataset_name} has no events")
    names, counts = np.unique(users, return_counts=True)
    return Interactions(
        items=items.astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        user_ids=tuple(str(name) for name in dataset.field2id_token[user][names]),
        item_ids=tuple(str(name) for name in dataset.field2id_token[item][1:]),
    )


def _unroll(dataset: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users and items of all events from rows (prefix, next item), which are in order of time."""
    rows, suffix = dataset.inter_feat, dataset.config["LIST_SUFFIX"]
    users = rows[dataset.uid_field].numpy()
    order = np.argsort(users, kind="stable")
    users, targets = users[order], rows[dataset.iid_field].numpy()[order]
    # A user's first event is the target of no row; it is the prefix of the first.
    first = np.flatnonzero(np.diff(users, prepend=-1))
    opening = rows[dataset.iid_field + suffix].numpy()[order[first], 0]
    return np.insert(users, first, users[first]), np.insert(targets, first, opening)
