"""What the checkpoint planner predicts against what is measured, and how long planning takes.

examples:
  predicted and measured peak of a step on this machine, per model, length and policy (the table of docs/checkpointing.md):
    .venv/bin/python benchmarks/planner/run.py memory
  kept bytes per token and layer at the shapes of a real model, beside PyTorch's own partitioner (no weights are needed):
    .venv/bin/python benchmarks/planner/run.py kept --model llama-3-8b
  planning time for a deep model, beside PyTorch's partitioner on the same joint graph:
    .venv/bin/python benchmarks/planner/run.py time --num-layers 80
  step time at equal memory: AutoSP plans for the measured peak of torch.utils.checkpoint on every layer and of PyTorch's
  memory budgets, and runs beside each, both orders:
    .venv/bin/python benchmarks/planner/run.py step --seq-length 8192

--json FILE writes the same figures; --markdown prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import pathlib
import statistics
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import shapes  # noqa: E402

POLICIES = {
    "full": {"checkpoint": "full"},
    "sac": {"checkpoint": "sac"},
    "auto 0.5": {"checkpoint": "auto", "memory_budget": 0.5},
    "auto 1.0": {"checkpoint": "auto", "memory_budget": 1.0},
}


def compiled_with_plan(model: torch.nn.Module, options: dict) -> tuple:
    """The compiled model and a list that gets the plan when it is made."""
    from autosp import backend, checkpoint

    plans: list[dict] = []
    settings = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", **options}

    def planned(given, size, _report):
        return original(given, size, lambda plan, graph: plans.append(plan))

    original = checkpoint.planned
    backend.checkpoint.planned = planned
    return torch.compile(model, backend="autosp", options=settings), plans, original


def step(forward, model, batch) -> None:
    model.zero_grad(set_to_none=True)
    output = forward(**batch)  # Held, as a training loop that looks at the logits does; the prediction counts them.
    output.loss.backward()


def measure_memory(arguments: argparse.Namespace) -> list[dict]:
    from autosp import checkpoint, memory

    rows = []
    for name in arguments.models:
        for length in arguments.lengths:
            model, batch = shapes.make_model(name), shapes.make_batch(name, length)
            for policy in arguments.policies:
                torch._dynamo.reset()
                options = {**POLICIES[policy], "inner_backend": arguments.inner_backend}
                forward, plans, original = compiled_with_plan(model, options)
                try:
                    step(forward, model, batch)
                finally:
                    checkpoint.planned = original
                model.zero_grad(set_to_none=True)
                gc.collect()
                with memory.PeakMemory("cpu") as meter:
                    step(forward, model, batch)
                    measured = meter.peak_bytes
                predicted = plans[-1]["peak_bytes"]
                rows.append({
                    "model": name, "sequence": length, "policy": policy, "predicted MiB": predicted / 2**20,
                    "measured MiB": measured / 2**20, "difference %": 100 * (predicted / measured - 1),
                })  # fmt: skip
                print(f"{name} {length} {policy}: {rows[-1]['difference %']:+.2f} %", file=sys.stderr)
    return rows


def joint_of(model: torch.nn.Module, batch: dict, see) -> None:
    """Calls see(joint graph) on AOTAutograd's graph of the model, and compiles nothing."""
    from autosp import private_torch

    @private_torch.mark_backend
    def backend(gm, example_inputs):
        def apply(joint, _inputs):
            see(joint)
            raise private_torch.stop_compilation()

        with private_torch.joint_pass(apply):
            torch._dynamo.lookup_backend("aot_eager")(gm, example_inputs)

    for value in batch.values():
        torch._dynamo.mark_dynamic(value, 1)
    try:
        torch.compile(model, backend=backend, fullgraph=True)(**batch)
    except private_torch.stop_compilation():
        pass


def partitioned_by_torch(joint: torch.fx.GraphModule, forward_outputs: int) -> tuple[torch.fx.GraphModule, float]:
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    joint = copy.deepcopy(joint)
    start = time.perf_counter()
    forward, _ = min_cut_rematerialization_partition(joint, None, num_fwd_outputs=forward_outputs)
    return forward, time.perf_counter() - start


def forward_outputs_of(joint: torch.fx.GraphModule) -> int:
    from autosp import private_torch

    inputs = joint.graph.find_nodes(op="placeholder")
    outputs = joint.graph.find_nodes(op="output")[0].args[0]
    return len(outputs) - sum(not private_torch.is_tangent(node) for node in inputs)


def measure_time(arguments: argparse.Namespace) -> list[dict]:
    from autosp import _core, checkpoint, private_torch

    rows: list[dict] = []

    def see(joint):
        forward_outputs = forward_outputs_of(joint)
        _, torch_seconds = partitioned_by_torch(joint, forward_outputs)
        private_torch.merge_equal_nodes(joint)
        start = time.perf_counter()
        graph = checkpoint.import_joint(joint, 1)
        imported = time.perf_counter() - start
        for policy, options in POLICIES.items():
            options = {key: str(value) for key, value in options.items()}
            start = time.perf_counter()
            _core.plan_joint(graph, options)
            seconds = time.perf_counter() - start
            rows.append({
                "policy": policy, "nodes": len(graph), "import s": imported, "plan s": seconds,
                "torch min-cut s": torch_seconds, "ratio": torch_seconds / (imported + seconds),
            })  # fmt: skip

    joint_of(shapes.make_model("tiny-llama", arguments.num_layers), shapes.make_batch("tiny-llama", 512), see)
    return rows


@contextlib.contextmanager
def deepspeed_heuristic():
    """PyTorch's partitioner with the rules that DeepSpeed's own AutoSP pass puts into it; process-wide, hence undone."""
    from deepspeed.compile.passes.long_context_checkpointing import register_long_context_checkpointing
    from torch._functorch import partitioners

    original = partitioners.solve_min_cut
    register_long_context_checkpointing()
    try:
        yield
    finally:
        partitioners.solve_min_cut = original


def measure_kept(arguments: argparse.Namespace) -> list[dict]:
    """Two depths; the difference is one layer."""
    from autosp import _core, checkpoint, private_torch

    kept: dict[str, list[float]] = {}
    length = arguments.seq_length

    def see(joint):
        forward, _ = partitioned_by_torch(joint, forward_outputs_of(joint))
        kept.setdefault("PyTorch min-cut", []).append(_saved_by(forward, forward_outputs_of(joint), length))
        with deepspeed_heuristic():
            forward, _ = partitioned_by_torch(joint, forward_outputs_of(joint))
        kept.setdefault("DeepSpeed built-in", []).append(_saved_by(forward, forward_outputs_of(joint), length))
        private_torch.merge_equal_nodes(joint)
        graph = checkpoint.import_joint(joint, 1)
        for policy, options in {"none": {"checkpoint": "none"}, **POLICIES}.items():
            if policy.startswith("auto"):
                continue
            plan = _core.plan_joint(graph, {key: str(value) for key, value in options.items()})
            kept.setdefault(policy, []).append(plan["kept_bytes"])

    for layers in (2, 3):
        torch._dynamo.reset()
        joint_of(shapes.make_model(arguments.model, layers), shapes.make_batch(arguments.model, length), see)
    config = shapes.config_of(arguments.model, 2)
    width, heads = config.hidden_size, config.num_attention_heads * config.head_dim
    limit = {"full": 2 * width, "sac": 4 * width + 4 * heads}
    return [
        {
            "policy": policy, "kept bytes per token and layer": (deep - shallow) / length,
            "limit": str(limit.get(policy, "")),
        }
        for policy, (shallow, deep) in kept.items()
    ]  # fmt: skip


def _saved_by(forward: torch.fx.GraphModule, forward_outputs: int, length: int) -> float:
    """Bytes of the memory that a partitioned forward hands to backward, parameters and views of one base once."""
    from torch.utils._python_dispatch import _disable_current_modes

    outputs = forward.graph.find_nodes(op="output")[0].args[0]
    storages: dict[int, float] = {}
    with _disable_current_modes():
        for node in outputs[forward_outputs:]:
            value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
            if not isinstance(value, torch.Tensor) or node.op == "placeholder":
                continue
            elements = 1
            for size in value.shape:
                elements *= size if isinstance(size, int) else size.node.hint
            base = node
            while str(base.target).split(".")[1:2] and _is_view(base):
                base = base.args[0]
            if base.op != "placeholder":
                storages[id(base)] = max(storages.get(id(base), 0), elements * value.element_size())
    return sum(storages.values())


def _is_view(node: torch.fx.Node) -> bool:
    name = str(node.target)
    views = ("aten.view.", "aten._unsafe_view.", "aten.t.", "aten.transpose.", "aten.permute.", "aten.unsqueeze.")
    return node.op == "call_function" and name.startswith(views)


class StepVariant:
    """One way to train; `budget` is PyTorch's activation_memory_budget, which is guarded: another value compiles again."""

    def __init__(self, model: torch.nn.Module, batch: dict, options: dict | None = None, budget: float = 1.0):
        # A copy each: one compiled model must not be served what was compiled for another.
        self.model, self.batch, self.budget = copy.deepcopy(model), batch, budget
        self.seconds: list[float] = []
        self.peak = 0
        if options is None and budget == 1.0:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        settings = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", **(options or {})}
        named = {"backend": "aot_eager"} if options is None else {"backend": "autosp", "options": settings}
        self.forward = torch.compile(self.model, **named)
        self.run()  # compiles
        self.run()
        self.seconds.clear()

    def run(self) -> None:
        from autosp import memory

        self.model.zero_grad(set_to_none=True)
        gc.collect()
        with (
            torch._functorch.config.patch(activation_memory_budget=self.budget),
            memory.PeakMemory("cpu") as meter,
        ):
            start = time.perf_counter()
            step(self.forward, self.model, self.batch)
            self.seconds.append(time.perf_counter() - start)
            self.peak = meter.peak_bytes


def measure_step(arguments: argparse.Namespace) -> list[dict]:
    """Each of today's ways beside AutoSP's plan for the same measured peak."""
    from autosp import AutoSPError

    batch = shapes.make_batch(arguments.model, arguments.seq_length)
    model = shapes.make_model(arguments.model)
    ways = {"torch.utils.checkpoint": 1.0, **{f"torch budget {budget}": budget for budget in (0.1, 0.3, 0.5)}}
    rows = []
    for name, budget in ways.items():
        torch._dynamo.reset()
        today = StepVariant(model, batch, budget=budget)
        try:
            options = {"checkpoint": "auto", "memory_budget": today.peak}
            planned = StepVariant(model, batch, options=options)
        except AutoSPError as error:
            raise SystemExit(f"{name}, {today.peak} bytes: {error}") from error
        for repetition in range(arguments.repetitions):
            for variant in (today, planned) if repetition % 2 else (planned, today):
                variant.run()
        base, ours = statistics.median(today.seconds), statistics.median(planned.seconds)
        rows.append({
            "against": name, "its peak MiB": today.peak / 2**20, "autosp peak MiB": planned.peak / 2**20,
            "its step s": base, "autosp step s": ours, "ratio": ours / base,
        })  # fmt: skip
        print(f"{name}: {ours / base:.3f}", file=sys.stderr)
    return rows


def show(rows: list[dict], title: str, markdown: bool) -> None:
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    if markdown:
        print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
        for row in cells:
            print("| " + " | ".join(row) + " |")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in cells:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("memory", "kept", "time", "step"))
    parser.add_argument("--models", nargs="+", default=["tiny-llama", "tiny-qwen3", "tiny-mixtral"], choices=shapes.NAMES)
    parser.add_argument("--model", default="tiny-llama", choices=shapes.NAMES)
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--inner-backend", default="aot_eager", choices=("aot_eager", "inductor"), help="of `memory`")
    parser.add_argument("--seq-length", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=80)
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--json", metavar="FILE", help="write the rows here")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure = {"memory": measure_memory, "kept": measure_kept, "time": measure_time, "step": measure_step}
    rows = measure[arguments.what](arguments)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    show(rows, f"{arguments.what}: {arguments.model if arguments.what in ('kept', 'step') else ''}", arguments.markdown)


if __name__ == "__main__":
    main()
