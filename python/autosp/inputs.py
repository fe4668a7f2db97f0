"""Which inputs of a training step carry the sequence, told by a tag on the tensor.

Dynamo hands `tensor.tag` on to a backend (placeholder meta["tensor_dict"]["tag"]). Ours is ("autosp", seq_dim); the
tags of DeepSpeed's own helper (`key` or `(key, seq_dim)`) are understood too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from autosp.errors import make_error

_OWN_KEY = "autosp"
_DEEPSPEED_KEYS = ("input_id", "label_id", "position_id")
_NAMES = ("input_ids", "labels", "position_ids", "attention_mask")


def seq_dim_of_tag(tag: Any) -> int | None:
    """The sequence dim that a tag names; None when the tag is not one of ours or DeepSpeed's."""
    key, seq_dim = tag if isinstance(tag, tuple) and len(tag) == 2 else (tag, 1)
    if isinstance(key, str) and key in (_OWN_KEY, *_DEEPSPEED_KEYS) and isinstance(seq_dim, int):
        return seq_dim
    return None


def tag(tensor: torch.Tensor, seq_dim: int) -> torch.Tensor:
    """Says that dim `seq_dim` of this input is the sequence, and marks it dynamic. Returns the tensor.

    A dim of size 0 or 1 is not marked: the compiler always specializes on these sizes.
    """
    dims = tensor.dim()
    if not -dims <= seq_dim < dims:
        raise make_error(
            "kBadTag",
            f"seq_dim {seq_dim} is not a dim of a tensor with {dims} dims, shape {list(tensor.shape)}",
        )
    seq_dim %= dims
    tensor.tag = (_OWN_KEY, seq_dim)
    if tensor.shape[seq_dim] >= 2:
        torch._dynamo.mark_dynamic(tensor, seq_dim)
    return tensor


def prepare_auto_sp_inputs(
    input_ids: torch.Tensor | Mapping[str, Any] | None = None,
    labels: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    *,
    seq_dim: int = 1,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Tags the inputs of a training step; call it on every batch, with the same whole batch on every rank.

    Takes the four tensors or one mapping that holds them under these names, and returns the four in this order (None
    where not given): the same objects, tagged in place. An attention mask with two dims [batch, sequence] is tagged;
    one with more is left whole unless `autosp.tag` is called on it, and its last two dims (queries, keys) may vary.
    """
    if isinstance(input_ids, Mapping):
        if any(value is not None for value in (labels, position_ids, attention_mask)):
            raise make_error(
                "kBadOption", "a mapping and single tensors were given; expected one of them"
            )
        input_ids, labels, position_ids, attention_mask = (input_ids.get(name) for name in _NAMES)
    for tensor in (input_ids, labels, position_ids):
        if tensor is not None:
            tag(tensor, seq_dim)
    if attention_mask is not None and attention_mask.dim() == 2:
        tag(attention_mask, seq_dim)
    elif attention_mask is not None:
        # A fixed number of keys would fix the length of the sequence, which the other tensors say varies.
        for dim in (-2, -1):
            if attention_mask.dim() > 2 and attention_mask.shape[dim] >= 2:
                torch._dynamo.maybe_mark_dynamic(attention_mask, attention_mask.dim() + dim)
    return input_ids, labels, position_ids, attention_mask


prepare_autosp_inputs = prepare_auto_sp_inputs
