"""From a Dynamo graph to the rewritten graph of one rank: capture, import, passes. Needs no process group."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import torch

from autosp import capture, inputs, private_torch, rt, rules
from autosp.errors import make_error
from autosp.options import Options

log = logging.getLogger("autosp")


@dataclass
class Plan:
    """A partitioned graph and how it came about."""

    captured: torch.fx.GraphModule
    captured_text: str
    graph: Any  # autosp._core.Graph
    remarks: list[dict[str, Any]]
    timings: list[dict[str, Any]]  # capture and import first, then the passes
    plan_hash: str


def make_plan(gm: torch.fx.GraphModule, example_inputs: list, options: Options, size: int) -> Plan:
    """Rewrites the graph for `size` ranks. The same inputs give the same plan on every rank."""
    from autosp import _core

    start = time.perf_counter()
    _state_equal_lengths(gm, example_inputs)
    captured = capture.capture(gm, example_inputs)
    _refuse_unknown_random_operations(captured)
    after_capture = time.perf_counter()
    graph = _core.import_fx(captured, size)
    after_import = time.perf_counter()
    captured_text = graph.print() if options.dump_dir is not None else ""
    result = _core.run_passes(graph, "autosp", _pass_options(options, size))
    timings = [
        {"pass": "capture", "seconds": after_capture - start, "nodes": len(captured.graph.nodes)},
        {"pass": "import", "seconds": after_import - after_capture, "nodes": len(captured.graph.nodes)},
        *result["timings"],
    ]
    return Plan(captured, captured_text, graph, result["remarks"], timings, result["plan_hash"])


def _state_equal_lengths(gm: torch.fx.GraphModule, example_inputs: list) -> None:
    """Tagged inputs that are as long as one another get one symbol, guarded: a call with other lengths compiles anew.

    Without it a batch of a second size has labels [b', s'] of which a loss over flattened tokens only proves b'*s' = b*s.
    """
    _, fakes = private_torch.fake_inputs(example_inputs)
    lengths: dict[int, torch.SymInt] = {}
    for node, fake in zip(gm.graph.find_nodes(op="placeholder"), fakes, strict=True):
        seq_dim = inputs.seq_dim_of_tag(node.meta.get("tensor_dict", {}).get("tag"))
        size = fake.shape[seq_dim] if seq_dim is not None and isinstance(fake, torch.Tensor) else None
        if not isinstance(size, torch.SymInt) or (hint := private_torch.size_hint(size)) is None:
            continue
        other = lengths.setdefault(hint, size)
        if other is not size:
            torch._check(size == other)


def _refuse_unknown_random_operations(module: torch.fx.GraphModule) -> None:
    """Ranks would draw their own numbers. Operations with a row in the rule table are judged there, with their arguments."""
    from autosp import _core

    known = {row["op"] for row in _core.list_rules()}
    found = []
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            target = node.target
            if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
                continue
            name = str(target).removesuffix(".default")
            if torch.Tag.nondeterministic_seeded in target.tags and (part is not module or name not in known):
                found.append(name)
    if found:
        raise make_error(
            "kRandomOnSharded",
            f"{', '.join(sorted(set(found)))} draws random numbers, and the ranks would not draw those of one process",
        )


def _pass_options(options: Options, size: int) -> dict[str, Any]:
    given = {
        "sequence_parallel_size": size,
        "on_gather": options.on_gather,
        "gather_limit": "" if options.gather_limit is None else str(options.gather_limit),
        "outputs": options.outputs,
        "attention": options.attention,
        "collectives": _collectives(options),
        "verify": options.verify,
        "rules": rules.text(),
    }
    if options.dump_dir is not None:
        given["reproducer_dir"] = options.dump_dir
    return given


def _collectives(options: Options) -> str:
    """"auto" takes the fused operations only where they are built for this torch. Ranks that differ in that are told when
    they compare their plans."""
    if options.collectives == "auto" and not rt.library_path().exists():
        log.info("functional collectives: the autosp_rt ops are not built for torch %s", torch.__version__)
        return "functional"
    return options.collectives


def state_divisibility(graph: Any, example_inputs: list) -> None:
    """Tells the shape environment what the plan relies on (s % P == 0), so that other lengths compile anew.

    Must run inside the compilation of these inputs; a graph with fixed sizes states nothing.
    """
    facts = graph.divisible()
    if not facts:
        return
    names = _symbols(example_inputs)
    for text, divisor in facts:
        try:
            size = evaluate_dim(text, names)
        except NameError:
            raise make_error(
                "kUnsupportedSymbol",
                f"the plan relies on {text} % {divisor} == 0, and {text} is not a size of an input",
                notes=[f"sizes of inputs: {', '.join(names) or 'none'}"],
            ) from None
        if isinstance(size, torch.SymInt):
            torch._check(size % divisor == 0, lambda text=text, divisor=divisor: f"{text} is divisible by {divisor}")


def _symbols(example_inputs: list) -> dict[str, torch.SymInt]:
    _, fakes = private_torch.fake_inputs(example_inputs)
    names: dict[str, torch.SymInt] = {}
    for fake in fakes:
        sizes = fake.shape if isinstance(fake, torch.Tensor) else (fake,)
        for size in sizes:
            if isinstance(size, torch.SymInt):
                names.setdefault(str(size.node.expr), size)
    return names


def evaluate_dim(text: str, names: dict[str, Any]) -> Any:
    """A dim's text form (include/autosp/ir/dim.h), or a list of such, over these values of its symbols."""
    functions = {
        "floordiv": lambda a, b: a // b,
        "ceildiv": lambda a, b: (a + b - 1) // b,
        "mod": lambda a, b: a % b,
        "max": torch.sym_max,
        "min": torch.sym_min,
    }
    return eval(text, {"__builtins__": {}}, {**functions, **names})  # noqa: S307  text of our own printer
