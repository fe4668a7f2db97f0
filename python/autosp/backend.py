"""The Dynamo backend "autosp": `torch.compile(model, backend="autosp", options={...})`.

A training graph with tagged inputs is captured, partitioned over the sequence-parallel group and handed to the inner
compiler. Everything else (evaluation, generation, one rank) goes to the inner compiler as it is.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable
from typing import Any

import torch

from autosp import checkpoint, collectives, device_speed, groups, inputs, private_torch  # noqa: F401  collectives registers the ops
from autosp.errors import AutoSPError, make_error
from autosp.options import Options, checkpoint_options
from autosp.partition import Plan, make_plan, state_divisibility

log = logging.getLogger("autosp")

_joint_numbers = itertools.count()  # Of the joint graphs that this process wrote to a dump_dir.


def autosp(gm: torch.fx.GraphModule, example_inputs: list, *, options: dict | None = None, **kwargs: Any) -> Callable:
    """Compiles one Dynamo graph; `options` and keyword arguments are those of docs/options.md."""
    with private_torch.exceptions_unwrapped():
        settings = Options.read({**(options or {}), **kwargs})
        compiler = torch._dynamo.lookup_backend(settings.inner_backend)
        inner = _planned(compiler, settings, None)
        if settings.sequence_parallel_size == 1:
            log.info("graph of %d nodes is compiled unsharded: sequence_parallel_size is 1", len(gm.graph.nodes))
            return inner(gm, example_inputs)
        why = _why_no_training(example_inputs)
        if why:
            _say_unsharded(why)
            return inner(gm, example_inputs)
        group = groups.sequence_parallel_group(settings.group, settings.sequence_parallel_size)
        if group.size == 1:
            log.info("graph of %d nodes is compiled unsharded: one rank per group", len(gm.graph.nodes))
            return inner(gm, example_inputs)
        module = _partition(gm, example_inputs, settings, group)
        compiled = _planned(compiler, settings, group)(module, example_inputs)
        return _with_batch_check(compiled, _compared_inputs(module, example_inputs), group, settings.deadline_s)


private_torch.mark_backend(autosp)


def _planned(inner: Callable, settings: Options, group: groups.Group | None) -> Callable:
    """`inner`, with AutoSP's checkpoint plan for what it compiles; the ranks of a group must plan alike."""
    if settings.checkpoint == "none":
        return inner

    def report(plan: dict, graph: Any) -> None:
        if settings.dump_dir is not None:
            numbers = {name: value for name, value in plan.items() if name not in ("keep", "recompute", "bounds", "assumed")}
            texts = {"aspir": graph.print(), "plan.json": json.dumps(numbers, indent=1) + "\n"}
            _write(settings.dump_dir, f"joint_{next(_joint_numbers)}", texts)
        if group is not None:
            # Collectives that are computed again on one rank only would hang.
            _require_same(group, "checkpoint plan", "\n".join(f"{k} {plan[k]}" for k in ("keep", "recompute")), settings)

    def compile_planned(gm: torch.fx.GraphModule, example_inputs: list) -> Callable:
        try:
            device = device_speed.resolve(settings.device, _device_of(example_inputs), group, settings.deadline_s)
            options = checkpoint_options(settings, device)
            with checkpoint.planned(options, 1 if group is None else group.size, report):
                return inner(gm, example_inputs)
        except AutoSPError as error:
            if group is not None:
                groups.post_failure(group, "checkpoint plan", str(error))
            raise

    return compile_planned


def _device_of(example_inputs: list) -> torch.device:
    """Where a graph computes: the first GPU that an input is on."""
    devices = [example.device for example in example_inputs if isinstance(example, torch.Tensor)]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def _why_no_training(example_inputs: list) -> str:
    if not torch.is_grad_enabled():
        return "gradients are off"
    if not any(isinstance(example, torch.Tensor) and example.requires_grad for example in example_inputs):
        return "no input requires a gradient"
    return ""


@functools.cache
def _say_unsharded(why: str) -> None:
    """Once per reason and process: evaluation calls the backend for every new shape."""
    log.warning("%s: such calls run unsharded, every rank computes the whole sequence", why)


def _partition(gm, example_inputs, settings: Options, group: groups.Group) -> torch.fx.GraphModule:
    """The rewritten graph, once all ranks of the group have the same."""
    try:
        _require_tagged_input(gm)
        plan = make_plan(gm, example_inputs, settings, group.size)
        state_divisibility(plan.graph, example_inputs)
        module = plan.graph.export_fx({groups.AXIS: group.name})
        private_torch.copy_dynamo_metadata(gm, module)
    except AutoSPError as error:
        groups.post_failure(group, "plan", str(error))
        raise
    if settings.dump_dir is not None:
        _dump(settings.dump_dir, gm, plan)
    for remark in plan.remarks:
        level = logging.WARNING if remark["warning"] else logging.DEBUG
        place = f" ({remark['file']}:{remark['line']})" if remark["line"] else ""
        log.log(level, "%s: %s: %s%s", remark["pass"], remark["value"], remark["text"], place)
    _require_same(group, "plan", plan.graph.print(locations=False), settings)
    return module


def _require_same(group: groups.Group, kind: str, text: str, settings: Options) -> None:
    difference = groups.compare(group, kind, text, settings.deadline_s)
    if difference is not None:
        raise make_error(
            "kPlanDiffers",
            f"rank {group.ranks[group.index]} and rank {difference.rank} planned different programs",
            notes=[
                f"rank {group.ranks[group.index]}: {difference.ours}",
                f"rank {difference.rank}: {difference.theirs}",
            ],
        )


def _require_tagged_input(gm: torch.fx.GraphModule) -> None:
    names = []
    for node in gm.graph.find_nodes(op="placeholder"):
        tag = node.meta.get("tensor_dict", {}).get("tag")
        if inputs.seq_dim_of_tag(tag) is not None:
            return
        if isinstance(node.meta.get("example_value"), torch.Tensor) and "_parameters_" not in node.name:
            names.append(node.name)
    raise make_error(
        "kNoTaggedInput",
        f"none of the inputs of a training graph of {len(gm.graph.nodes)} nodes is tagged as the sequence",
        notes=[
            f"inputs that are not parameters: {', '.join(names) or 'none'}",
            "gradients are on, so this is training; evaluation under torch.no_grad() needs no tags",
        ],
    )


def _compared_inputs(module: torch.fx.GraphModule, example_inputs: list) -> list[tuple[int, str]]:
    """Position and name of every input that must be equal on all ranks: all but the parameters."""
    nodes = module.graph.find_nodes(op="placeholder")
    return [
        (position, node.name)
        for position, (node, example) in enumerate(zip(nodes, example_inputs, strict=True))
        if not isinstance(example, torch.nn.Parameter)
    ]


def _with_batch_check(compiled: Callable, compared: list[tuple[int, str]], group: groups.Group, deadline_s: float):
    """Calls `compiled`; before the first call, compares the batch over the group."""
    checked = False

    def call(*arguments):
        nonlocal checked
        if not checked:
            _compare_batch([(name, arguments[position]) for position, name in compared], group, deadline_s)
            checked = True
        return compiled(*arguments)

    return call


def _compare_batch(values: list[tuple[str, Any]], group: groups.Group, deadline_s: float) -> None:
    text = "\n".join(f"{name}: {_fingerprint(value)}" for name, value in values)
    difference = groups.compare(group, "batch", text, deadline_s)
    if difference is None:
        return
    name = (difference.ours or difference.theirs).split(":", 1)[0]
    here = group.ranks[group.index]
    raise make_error(
        "kBatchDiffers",
        f'input "{name}" differs between rank {here} and rank {difference.rank} of the group {list(group.ranks)}',
        notes=[f"rank {here}: {difference.ours}", f"rank {difference.rank}: {difference.theirs}"],
        subject=name,
    )


def _fingerprint(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.sha256(data.tobytes()).hexdigest()[:16]
    return f"{value.dtype} {list(value.shape)} sha256 {digest}"


def _dump(folder: str, gm: torch.fx.GraphModule, plan: Plan) -> None:
    """FOLDER/rank_R/graph_0_0.{captured,partitioned}.aspir and .remarks.txt; 0_0 is Dynamo's compile id."""
    stem = "graph_" + str(gm.meta.get("dynamo_compile_id", "0")).replace("/", "_").strip("[]")
    lines = [f"{row['pass']}: {row['value']}: {row['text']}" for row in plan.remarks]
    texts = {
        "captured.aspir": plan.captured_text,
        "partitioned.aspir": plan.graph.print(),
        "remarks.txt": "\n".join(lines) + "\n",
    }
    _write(folder, stem, texts)


def _write(folder: str, stem: str, texts: dict[str, str]) -> None:
    rank = torch.distributed.get_rank() if groups.is_initialized() else 0
    path = os.path.join(folder, f"rank_{rank}")
    try:
        os.makedirs(path, exist_ok=True)
        for name, text in texts.items():
            with open(os.path.join(path, f"{stem}.{name}"), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise make_error("kFile", f'cannot write to dump_dir "{path}": {error.strerror}') from error
