"""What the checkpoint planner predicts against what is measured, and how long planning takes.

examples:
  predicted and measured peak of a step on this machine, per model, length and policy (the table of docs/checkpointing.md):
    .venv/bin/python benchmarks/planner/run.py memory
  kept bytes per token and layer at the shapes of a real model, beside PyTorch's own partitioner (no weights are needed):
    .venv/bin/python benchmarks/planner/run.py kept --model llama-3-8b
  planning time for a deep model, beside PyTorch's partitioner on the same joint graph:
    .venv/bin/python benchmarks/planner/run.py time --num-layers 80
  step time at the memory that a policy needs, beside torch.utils.checkpoint on every layer and PyTorch's budget, both orders:
    .venv/bin/python benchmarks/planner/run.py step --seq-length 2048

--json FILE writes the same figures; --markdown prints the table as Markdown.
"""

from __future__ import annotations

import argparse
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
                forward, plans, original = compiled_with_plan(model, POLICIES[policy])
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


def measure_kept(arguments: argparse.Namespace) -> list[dict]:
    """Two depths; the difference is one layer."""
    from autosp import _core, checkpoint, private_torch

    kept: dict[str, list[float]] = {}
    length = arguments.seq_length

    def see(joint):
        forward, _ = partitioned_by_torch(joint, forward_outputs_of(joint))
        kept.setdefault("PyTorch min-cut", []).append(_saved_by(forward, forward_outputs_of(joint), length))
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


def measure_step(arguments: argparse.Namespace) -> list[dict]:
    """Seconds and peak of a step: AutoSP's policies, torch.utils.checkpoint on every layer, PyTorch's memory budget."""
    from autosp import memory

    batch = shapes.make_batch(arguments.model, arguments.seq_length)
    model = shapes.make_model(arguments.model)
    # A copy each: one compiled model must not be served what was compiled for another.
    variants = {}
    for policy in ("full", "sac", "auto 0.5"):
        own = copy.deepcopy(model)
        settings = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", **POLICIES[policy]}
        variants[f"autosp {policy}"] = (torch.compile(own, backend="autosp", options=settings), own, 1.0)
    own = copy.deepcopy(model)
    own.gradient_checkpointing_enable({"use_reentrant": False})
    variants["torch.utils.checkpoint"] = (torch.compile(own, backend="aot_eager"), own, 1.0)
    for budget in (0.2, 0.5):
        own = copy.deepcopy(model)
        variants[f"torch budget {budget}"] = (torch.compile(own, backend="aot_eager"), own, budget)
    for forward, own, budget in variants.values():
        with torch._functorch.config.patch(activation_memory_budget=budget):
            step(forward, own, batch)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, int] = {}
    for repetition in range(arguments.repetitions):
        for name in list(variants) if repetition % 2 else list(reversed(variants)):
            forward, own, budget = variants[name]
            own.zero_grad(set_to_none=True)
            gc.collect()
            # The setting is guarded: another value here would compile again.
            with torch._functorch.config.patch(activation_memory_budget=budget), memory.PeakMemory("cpu") as meter:
                start = time.perf_counter()
                step(forward, own, batch)
                seconds[name].append(time.perf_counter() - start)
                peaks[name] = meter.peak_bytes
    base = statistics.median(seconds["torch.utils.checkpoint"])
    return [
        {
            "variant": name, "peak MiB": peaks[name] / 2**20, "step s": statistics.median(times),
            "ratio to torch.utils.checkpoint": statistics.median(times) / base,
        }
        for name, times in seconds.items()
    ]  # fmt: skip


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
