"""autosp.plan: what every checkpoint policy would need, without running the model: no process group, no GPU."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autosp import checkpoint, device_speed, inputs, private_torch
from autosp.errors import make_error
from autosp.options import Options, budget_text
from autosp.partition import make_plan

_LONGEST = 2**26


@dataclasses.dataclass(frozen=True)
class PolicyPlan:
    """One policy for the lengths of the batch; bytes and seconds of one rank."""

    policy: str
    peak_bytes: int  # of a step, besides parameters and batch; gradients and returned tensors are in it
    kept_bytes: int  # from forward to backward
    kept_bytes_per_token: float  # per token of the rank
    recompute_share: float  # of the time of forward and backward
    longest_sequence: int | None  # that fits `memory`, a multiple of the number of ranks; None when it is not limited


@dataclasses.dataclass(frozen=True)
class PlanReport:
    """`str()` (a table), `.json()`, `.plot(path)`."""

    sequence_parallel_size: int
    device: str
    sequence_length: int
    memory: int | None
    parameter_bytes: int
    policies: list[PolicyPlan]
    curve: dict[str, list[tuple[int, int]]]  # policy -> (sequence length, peak bytes)

    def __str__(self) -> str:
        lines = [
            f"{self.sequence_parallel_size} ranks, {self.device}, sequence {self.sequence_length}, "
            f"parameters {self.parameter_bytes / 2**20:.1f} MiB",
            f"{'policy':<8} {'peak MiB':>12} {'kept MiB':>12} {'kept B/token':>14} {'recompute %':>12} {'longest':>10}",
        ]
        for p in self.policies:
            longest = "-" if p.longest_sequence is None else str(p.longest_sequence)
            lines.append(
                f"{p.policy:<8} {p.peak_bytes / 2**20:>12.2f} {p.kept_bytes / 2**20:>12.2f} "
                f"{p.kept_bytes_per_token:>14.1f} {100 * p.recompute_share:>12.1f} {longest:>10}"
            )
        return "\n".join(lines)

    def json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    def plot(self, path: str) -> None:
        """Peak against sequence length, one line per policy, as an image."""
        from matplotlib.figure import Figure

        axes = (figure := Figure(figsize=(7, 4.5))).subplots()
        for policy, points in self.curve.items():
            axes.plot([length for length, _ in points], [peak / 2**30 for _, peak in points], marker=".", label=policy)
        if self.memory is not None:
            axes.axhline((self.memory - self.parameter_bytes) / 2**30, color="gray", linestyle="--", label="memory")
        axes.set(xlabel="sequence length (tokens)", ylabel="predicted peak per rank (GiB)", xscale="log", yscale="log")
        axes.legend()
        figure.savefig(path, bbox_inches="tight")


class JointPlanner:
    """The joint graph of a model for P ranks, ready to be planned for any length."""

    def __init__(self, graph: Any, symbol: str, length: int, size: int, tokens: int):
        self.graph, self.symbol, self.length, self.size = graph, symbol, length, size
        self._rows = tokens // length

    def plan(self, options: Mapping[str, str], length: int | None = None) -> dict[str, Any]:
        from autosp import _core

        values = {self.symbol: self.length if length is None else length} if self.symbol else {}
        return _core.plan_joint(self.graph, dict(options), values)

    def longest(self, options: Mapping[str, str], room: int) -> int | None:
        """The largest multiple of the ranks whose peak is within `room`, 0 when none is; None when the length is fixed."""
        from autosp import _core

        if not self.symbol:
            return None
        return _core.longest_joint(self.graph, dict(options), self.symbol, room, self.size, _LONGEST)

    def tokens(self, length: int | None = None) -> float:
        """Tokens of one rank."""
        return self._rows * (self.length if length is None else length) / self.size


def joint_planner(model: torch.nn.Module, batch: Mapping[str, Any], *, sequence_parallel_size: int = 1) -> JointPlanner:
    """Traces `model(**batch)`, forward and backward, for this many ranks. Runs nothing."""
    # The functional collectives are traced without a process group.
    settings = Options.read({"sequence_parallel_size": sequence_parallel_size, "collectives": "functional"})
    if not any(inputs.seq_dim_of_tag(getattr(value, "tag", None)) is not None for value in batch.values()):
        inputs.prepare_auto_sp_inputs(batch)
    found: list[JointPlanner] = []

    @private_torch.mark_backend
    def backend(gm, example_inputs):
        with private_torch.exceptions_unwrapped():
            length, tokens = _tagged(gm, example_inputs)
            module = gm
            if sequence_parallel_size > 1:
                module = make_plan(gm, example_inputs, settings, sequence_parallel_size).graph.export_fx({"sp": "plan"})
                private_torch.copy_dynamo_metadata(gm, module)

            def keep(joint, _inputs):
                private_torch.merge_equal_nodes(joint)
                graph = checkpoint.import_joint(joint, sequence_parallel_size)
                symbol = "" if isinstance(length, int) else str(length.node.expr)
                found.append(JointPlanner(graph, symbol, _hint(length), sequence_parallel_size, tokens))
                raise private_torch.stop_compilation()

            with private_torch.joint_pass(keep):
                torch._dynamo.lookup_backend("aot_eager")(module, example_inputs)
        return gm.forward

    with torch.enable_grad():
        try:
            torch.compile(model, backend=backend, fullgraph=True)(**batch)
        except private_torch.stop_compilation():
            pass
    if not found:
        raise make_error("kCaptureFailed", "the model has no backward: no joint graph was built")
    return found[-1]


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else size.node.hint


def _tagged(gm: torch.fx.GraphModule, example_inputs: list) -> tuple[Any, int]:
    """The length of the tagged sequence (a size of the trace), and the tokens of the first tagged input."""
    _, fakes = private_torch.fake_inputs(example_inputs)
    for node, fake in zip(gm.graph.find_nodes(op="placeholder"), fakes, strict=True):
        dim = inputs.seq_dim_of_tag(node.meta.get("tensor_dict", {}).get("tag"))
        if dim is not None:
            tokens = 1
            for size in fake.shape[: dim + 1]:
                tokens *= _hint(size)
            return fake.shape[dim], tokens
    raise make_error("kNoTaggedInput", "none of the inputs is tagged as the sequence")


def plan(
    model: torch.nn.Module,
    batch: Mapping[str, Any],
    *,
    sequence_parallel_size: int = 1,
    device: str = "auto",
    memory: int | None = None,
    memory_budget: int | float | str | None = None,
    lengths: Sequence[int] = (),
) -> PlanReport:
    """Predicted peak, kept bytes, share of recomputation and longest sequence of the policies none, full, sac and auto.

    `device`: a name (docs/options.md), a description, a file that holds one, or "measured". `memory`: bytes of a rank's device,
    parameters included, optimizer states not; default: the limit is not computed. auto is shown for `memory_budget`,
    else for what `memory` leaves, where the length of the batch fits it; its longest sequence is that of its tightest plan.
    `lengths`: where the curve of the plot is evaluated; default: powers of two up to 64 times the batch's length.
    """
    device = device_speed.resolve(device, next((p.device for p in model.parameters()), torch.device("cpu")))
    planner = joint_planner(model, batch, sequence_parallel_size=sequence_parallel_size)
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    room = None if memory is None else memory - parameters
    variants = {policy: {"checkpoint": policy, "device": device} for policy in ("none", "full", "sac")}
    if memory_budget is not None:
        variants["auto"] = {"checkpoint": "auto", "memory_budget": budget_text(memory_budget), "device": device}
    elif room is not None and room > 0 and _fits(planner, room, device):
        variants["auto"] = {"checkpoint": "auto", "memory_budget": str(room), "device": device}
    lengths = list(lengths) or [planner.length * 2**i for i in range(7)]
    policies, curve = [], {}
    for policy, options in variants.items():
        numbers = planner.plan(options)
        longest = None if room is None else planner.longest(options, room)
        policies.append(
            PolicyPlan(
                policy, round(numbers["peak_bytes"]), round(numbers["kept_bytes"]),
                numbers["kept_bytes"] / planner.tokens(),
                numbers["recompute_seconds"] / max(numbers["step_seconds"] + numbers["recompute_seconds"], 1e-30),
                longest,
            )
        )  # fmt: skip
        if policy != "auto":
            curve[policy] = [(length, round(planner.plan(options, length)["peak_bytes"])) for length in lengths]
    return PlanReport(
        sequence_parallel_size, device, planner.length, memory, parameters, policies, curve if planner.symbol else {}
    )


def _fits(planner: JointPlanner, room: int, device: str) -> bool:
    smallest = planner.plan({"checkpoint": "auto", "memory_budget": "0.0", "device": device})["peak_bytes"]
    return smallest <= room
