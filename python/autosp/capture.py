"""Dynamo's graph as a pre-dispatch ATen graph: canonical operator names, attention and loss still one node each,
autograd not applied yet, every node with the user's source line and module path.

Two kinds of node need care:
  - a checkpointed region (tag_activation_checkpoint) is inlined and its nodes carry the recompute tags that PyTorch's
    own path would give them;
  - every other higher-order operator stays one node with its bodies as they are. Tracing into autograd.Function would
    keep its forward only, and its gradient would be wrong without an error.
"""

from __future__ import annotations

from typing import Any

import torch

from autosp import inputs, private_torch
from autosp.errors import AutoSPError, make_error
from autosp.node_tracing import GraphTracer


def capture(gm: torch.fx.GraphModule, example_inputs: list) -> torch.fx.GraphModule:
    """The pre-dispatch ATen form of a Dynamo graph; placeholders correspond one to one.

    On placeholders: meta["autosp_seq_dim"] (the tag), meta["autosp_requires_grad"].
    """
    mode, fakes = private_torch.fake_inputs(example_inputs)
    tracer = GraphTracer(gm, mode)
    try:
        captured = tracer.run(fakes)
    except AutoSPError:
        raise
    except Exception as error:
        file, line = tracer.place()
        raise make_error(
            "kCaptureFailed",
            f"the graph of {len(gm.graph.nodes)} nodes could not be captured as pre-dispatch ATen",
            notes=[f"{type(error).__name__}: {error}"],
            file=file,
            line=line,
        ) from error
    old = gm.graph.find_nodes(op="placeholder")
    new = captured.graph.find_nodes(op="placeholder")
    for old_node, new_node, example in zip(old, new, example_inputs, strict=True):
        _describe_placeholder(old_node, new_node, example)
    private_torch.copy_dynamo_metadata(gm, captured)
    return captured


def _describe_placeholder(old: torch.fx.Node, new: torch.fx.Node, example: Any) -> None:
    for key in ("tensor_dict", "stack_trace", "nn_module_stack"):
        if key in old.meta:
            new.meta[key] = old.meta[key]
    if not isinstance(example, torch.Tensor):
        return
    new.meta["autosp_requires_grad"] = example.requires_grad
    tag = old.meta.get("tensor_dict", {}).get("tag", getattr(example, "tag", None))
    seq_dim = inputs.seq_dim_of_tag(tag)
    if seq_dim is not None:
        new.meta["autosp_seq_dim"] = seq_dim
