"""Activation checkpointing planned by AutoSP: the joint graph of AOTAutograd goes to the C++ planner, and the plan comes
back as recompute tags, which PyTorch's own partitioner follows.

Tags, not modules of our own: random state, effects and sizes stay the partitioner's business. Every value that backward
could need gets a tag, so nothing is left to its heuristics.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from autosp import private_torch
from autosp.errors import make_error

log = logging.getLogger("autosp")

# What one compilation planned: the numbers of _core.plan_joint.
Plan = dict[str, Any]


def import_joint(gm: torch.fx.GraphModule, axis_size: int) -> Any:
    """The joint graph in AutoSP's own form; torch.utils.checkpoint regions of the user come along as demands."""
    from autosp import _core

    nodes = list(gm.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    tangents = {number for number, node in enumerate(nodes) if private_torch.is_tangent(node)}
    outputs = len(nodes[-1].args[0])
    forward_outputs = outputs - (len(inputs) - len(tangents))  # One gradient, or None, per input that is no tangent.
    if not tangents or forward_outputs < 0:
        raise make_error(
            "kCaptureFailed",
            f"the joint graph has {len(tangents)} tangents, {len(inputs)} inputs and {outputs} outputs: this torch "
            f"({torch.__version__}) builds it otherwise than AutoSP expects",
        )
    keep, recompute = set(), set()
    numbers = {node: number for number, node in enumerate(nodes)}
    once = {number for number, node in enumerate(nodes) if private_torch.runs_once(node)}
    written = {numbers[node] for node in private_torch.written_inputs(gm)}
    for number, node in enumerate(nodes):
        demand = private_torch.recompute_demand(node)
        if demand is not None:
            (recompute if demand else keep).add(number)
    graph = _core.import_fx(gm, axis_size)
    _core.mark_joint(
        graph, forward_outputs, tangents, keep, recompute, once, written, private_torch.tangents_are_held()
    )
    return graph


@contextlib.contextmanager
def planned(options: dict[str, Any], axis_size: int, report: Callable[[Plan, Any], None]) -> Iterator[None]:
    """While this is entered, AOTAutograd's joint graphs are planned with these options of the passes.

    `report(plan, graph)` is called with each plan before it is applied.
    """

    def apply(gm: torch.fx.GraphModule, _inputs: Any) -> torch.fx.GraphModule:
        from autosp import _core

        private_torch.merge_equal_nodes(gm)
        graph = import_joint(gm, axis_size)
        plan = _core.plan_joint(graph, options)
        report(plan, graph)
        log.info(
            "checkpoint plan: predicted peak %.1f MiB, kept %.1f MiB, recomputation %.1f %% of the step",
            plan["peak_bytes"] / 2**20, plan["kept_bytes"] / 2**20,
            100 * plan["recompute_seconds"] / max(plan["step_seconds"], 1e-30),
        )  # fmt: skip
        _warn(plan, options)
        private_torch.bound_sizes(gm, plan["bounds"])
        _tag(list(gm.graph.nodes), plan)
        return gm

    with private_torch.joint_pass(apply):
        yield


def _warn(plan: Plan, options: dict[str, Any]) -> None:
    if plan["regions"] == 0 and options["checkpoint"] in ("full", "sac"):
        log.warning(
            'checkpoint="%s" computes nothing again: the model has no list of two or more blocks whose inputs it could keep; '
            'checkpoint="auto" needs none', options["checkpoint"],
        )  # fmt: skip
    if plan["assumed"]:
        log.warning(
            "the predicted memory takes 1024 for the sizes that only the data decides: %s", ", ".join(plan["assumed"])
        )


def _tag(nodes: list[torch.fx.Node], plan: Plan) -> None:
    for node in nodes:
        private_torch.clear_recompute_tag(node)
    for number in plan["recompute"]:
        private_torch.set_recompute_tag(nodes[number], True)
    for number in plan["keep"]:
        private_torch.set_recompute_tag(nodes[number], False)
        # An element is kept only if its tuple is not computed again.
        producer = nodes[number].args[0] if nodes[number].args else None
        if nodes[number].target is private_torch.GETITEM and isinstance(producer, torch.fx.Node):
            private_torch.set_recompute_tag(producer, False)
