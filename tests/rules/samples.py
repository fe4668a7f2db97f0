"""Samples of every row of the rule table, as graphs of one operation.

    .venv/bin/python tests/rules/samples.py [--all]     how many samples each row has
"""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from recording import Inexpressible, OneOpGraph, one_op_graph, recorded_calls, row_of
from written_samples import GENERATOR, WRITTEN

# What one run of the test command takes: samples of one entry of op_db, and different calls of one row.
PER_ENTRY = 12
PER_ROW = 8
# Random values that make a row's call huge, or its kernel slow, prove nothing more.
MOST_ELEMENTS = 4000


def operator_of(row: str) -> Any:
    """The operator of a row, or None where the installed torch has no such overload."""
    namespace, base, *overload = row.split(".")
    if namespace == "transformers":  # Registers its operators when it is imported.
        with contextlib.suppress(ImportError):
            import transformers.integrations.moe  # noqa: F401
    packet = getattr(getattr(torch.ops, namespace), base, None)
    return None if packet is None else getattr(packet, overload[0] if overload else "default", None)


def samples_of(rows: Iterable[str], everything: bool = False) -> list[OneOpGraph]:
    """Different calls of each row: those of op_db (a few, evenly chosen, unless `everything`) and the written ones."""
    rows = sorted(rows)
    found: dict[str, dict[str, OneOpGraph]] = {row: {} for row in rows}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, operator, args, kwargs in _op_db_calls(None if everything else PER_ENTRY):
            if row in found:
                _add(found[row], row, operator, args, kwargs)
        chosen = []
        for row in rows:
            own: dict[str, OneOpGraph] = {}
            operator = operator_of(row)
            if operator is not None and row in WRITTEN:
                GENERATOR.manual_seed(zlib.crc32(row.encode()))
                for args, kwargs in WRITTEN[row]():
                    _add(own, row, operator, args, kwargs)
            recorded = [graph for text, graph in found[row].items() if text not in own]
            chosen += list(own.values()) + (recorded if everything else _evenly(recorded, PER_ROW))
    return chosen


def _add(graphs: dict[str, OneOpGraph], row: str, operator: Any, args: tuple, kwargs: dict) -> None:
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if sum(tensor.numel() for tensor in tensors) > MOST_ELEMENTS:
        return
    with contextlib.suppress(Inexpressible):
        graph = one_op_graph(row, operator, args, kwargs)
        graphs.setdefault(graph.text, graph)


def _evenly(items: list, count: int) -> list:
    if len(items) <= count:
        return items
    return [items[math.floor(k * len(items) / count)] for k in range(count)]


def _op_db_calls(per_entry: int | None) -> Iterator[tuple[str, Any, tuple, dict]]:
    from torch.testing._internal.common_methods_invocations import op_db

    for entry in op_db:
        dtype = next((d for d in (torch.float64, torch.int64, torch.bool, torch.float32) if d in entry.dtypes), None)
        if dtype is None or entry.name.startswith("jiterator"):
            continue
        torch.manual_seed(zlib.crc32(entry.name.encode()))
        for number, sample in enumerate(entry.sample_inputs("cpu", dtype, requires_grad=False)):
            if per_entry is not None and number >= per_entry:
                break
            with recorded_calls() as calls, contextlib.suppress(Exception):  # Some entries want a GPU.
                entry.op(sample.input, *sample.args, **sample.kwargs)
            for operator, args, kwargs in calls:
                yield row_of(operator), operator, args, kwargs


if __name__ == "__main__":
    from autosp import _core

    counts: dict[str, int] = {row["op"]: 0 for row in _core.list_rules()}
    for graph in samples_of(counts, everything="--all" in sys.argv):
        counts[graph.row] += 1
    for name, count in counts.items():
        print(f"{count:5} {name}")
