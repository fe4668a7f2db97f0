"""What the passes would do to a model, and why: no process group and no GPU needed."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from autosp import device_speed, inputs, private_torch
from autosp.errors import make_error
from autosp.options import Options, checkpoint_options
from autosp.partition import Plan, evaluate_dim, make_plan


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange of the forward pass; the backward pass holds its adjoint, of the same size."""

    op: str
    name: str
    type: str
    sent_bytes: int  # by one rank, for the given batch
    file: str
    line: int


@dataclasses.dataclass(frozen=True)
class Report:
    """`str()`, `.json()`, `.html(path)`."""

    sequence_parallel_size: int
    collectives: list[Collective]
    remarks: list[dict[str, Any]]
    timings: list[dict[str, Any]]
    plan_hash: str
    graph: str  # the partitioned graph in text form
    checkpoint: dict[str, Any] | None = None  # with the option checkpoint: predicted bytes, what backward keeps

    def __str__(self) -> str:
        lines = [f"sequence_parallel_size {self.sequence_parallel_size}, plan {self.plan_hash}", "", "collectives:"]
        lines += [f"  {c.op:<40} {_amount(c.sent_bytes):>10}  {c.type}  {_place(c)}".rstrip() for c in self.collectives]
        total = sum(c.sent_bytes for c in self.collectives)
        lines += [f"  {len(self.collectives)} in the forward pass, {_amount(total)} sent by each rank"]
        if self.checkpoint is not None:
            lines += ["", *_checkpoint_lines(self.checkpoint)]
        lines += ["", "decisions:"]
        lines += [f"  {row['pass']}: {row['value']}: {row['text']}" for row in self.remarks]
        lines += ["", "time:"]
        lines += [f"  {row['pass']:<28} {row['seconds'] * 1e3:8.1f} ms" for row in self.timings]
        return "\n".join(lines)

    def json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    def html(self, path: str) -> None:
        body = f"<pre>{html.escape(str(self))}</pre>\n<h2>partitioned graph</h2>\n<pre>{html.escape(self.graph)}</pre>"
        page = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>AutoSP report</title>\n{body}\n</html>\n'
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(page)
        except OSError as error:
            raise make_error("kFile", f'cannot write "{path}": {error.strerror}') from error


def explain(model: torch.nn.Module, batch: Mapping[str, Any], *, sequence_parallel_size: int, **options: Any) -> Report:
    """Compiles `model(**batch)` for this many ranks without running it. `options` are those of the backend.

    A batch without a tagged tensor is given to `prepare_auto_sp_inputs` first.
    """
    settings = Options.read({**options, "sequence_parallel_size": sequence_parallel_size})
    if not any(inputs.seq_dim_of_tag(getattr(value, "tag", None)) is not None for value in batch.values()):
        inputs.prepare_auto_sp_inputs(batch)
    plans: list[Plan] = []

    @private_torch.mark_backend
    def backend(gm, example_inputs):
        with private_torch.exceptions_unwrapped():
            plans.append(make_plan(gm, example_inputs, settings, sequence_parallel_size))
        raise private_torch.stop_compilation()

    with torch.enable_grad():
        try:
            torch.compile(model, backend=backend, fullgraph=True)(**batch)
        except private_torch.stop_compilation():
            pass
    plan = plans[-1]
    return Report(
        sequence_parallel_size,
        _collectives(plan.graph, sequence_parallel_size),
        plan.remarks,
        plan.timings,
        plan.plan_hash,
        plan.graph.print(),
        None if settings.checkpoint == "none" else _checkpoint(model, batch, settings),
    )


def _checkpoint(model: torch.nn.Module, batch: Mapping[str, Any], settings: Options) -> dict[str, Any]:
    from autosp.planner import joint_planner

    torch._dynamo.reset()  # The model was compiled up to the passes only.
    planner = joint_planner(model, batch, sequence_parallel_size=settings.sequence_parallel_size)
    on = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    numbers = planner.plan(checkpoint_options(settings, device_speed.resolve(settings.device, on)))
    nodes = {node["origin"]: node for node in planner.graph.nodes_summary()}
    kept = [nodes[origin] for origin in numbers.pop("keep")]
    numbers["computed_again"] = len(numbers.pop("recompute"))
    numbers["policy"] = settings.checkpoint
    numbers["kept"] = [{key: node[key] for key in ("name", "type", "module", "file", "line")} for node in kept]
    return numbers


def _checkpoint_lines(checkpoint: Mapping[str, Any]) -> list[str]:
    share = 100 * checkpoint["recompute_seconds"] / max(checkpoint["step_seconds"], 1e-30)
    lines = [
        f"checkpoint {checkpoint['policy']}: predicted peak {_amount(round(checkpoint['peak_bytes']))} per rank at "
        f"%{checkpoint['peak_at']}, kept {_amount(round(checkpoint['kept_bytes']))}, {checkpoint['computed_again']} values "
        f"computed again ({share:.1f} % of the step); backward keeps:"
    ]
    return lines + [f"  %{v['name']:<32} {v['type']:<32} {v['module']}".rstrip() for v in checkpoint["kept"]]


# What one rank sends, in units of the result's bytes: f(P). The result of a reduce-scatter is one P-th of its operand.
_SENT = {
    "all_to_all": lambda p: (p - 1) / p,
    "all_gather": lambda p: (p - 1) / p,
    "reduce_scatter": lambda p: p - 1,
    "all_to_all_single": lambda p: (p - 1) / p,
    "all_gather_into_tensor": lambda p: (p - 1) / p,
    "reduce_scatter_tensor": lambda p: p - 1,
    "all_reduce": lambda p: 2 * (p - 1) / p,
}


def _collectives(graph: Any, size: int) -> list[Collective]:
    found = []
    for node in graph.nodes_summary():
        library, _, short = node["op"].partition(".")
        if library in ("_c10d_functional", "autosp_rt") and short in _SENT:
            sent = round(_bytes(node["type"], graph.hints()) * _SENT[short](size))
            found.append(Collective(node["op"], node["name"], node["type"], sent, node["file"], node["line"]))
    return found


def _bytes(type_text: str, hints: dict[str, int]) -> int:
    """Size of "bf16[2, floordiv(s0, 4), 64] grad" for the example's lengths."""
    dtype, shape = re.match(r"(\w+)\[(.*)\]", type_text).groups()
    bits = re.search(r"\d+", dtype)
    count = 1
    for dim in evaluate_dim(f"[{shape}]", hints):
        count *= dim
    return count * (int(bits.group()) // 8 if bits else 1)


def _amount(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _place(collective: Collective) -> str:
    return f"{collective.file}:{collective.line}" if collective.line else ""
