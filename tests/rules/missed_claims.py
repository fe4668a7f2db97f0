"""Where a rule says "whole" and blocks would do: missed_claims.md, made from the bounded choice of samples.

    python tests/rules/missed_claims.py     writes the page again
"""

from __future__ import annotations

import collections
import fnmatch
import pathlib
import re
import sys
import tempfile

import torch

from judging import Judged
from missed_reasons import REASONS

TORCH = torch.__version__.split("+")[0]
PAGE = pathlib.Path(__file__).with_name("missed_claims.md")
HEAD = """# Missed claims

<!-- Written by `python tests/rules/missed_claims.py` with the samples of torch TORCH; test_rule_soundness.py says when it
is stale. -->

For each dim of an operand that a rule says is needed whole, the operation was also run on blocks of it, alone and
together with the dims of equal size of its other operands, and the results taken as blocks of a dim, as terms of a sum,
and as whole. Where outputs and gradients came out equal to the unsharded ones, the rule might have claimed it: these are
the findings. They cost speed, never correctness.

`works`: for so many dims, of all that the row's samples have and that are needed whole. Some findings are chance or an
argument that makes the operation do nothing (a shift by 0); the others are what the table could still learn.

| row | operand | works | how | reason |
|---|---|---|---|---|
"""


def findings(judged: list[Judged]) -> dict[tuple[str, str], tuple[collections.Counter, int]]:
    """(row, operand) -> how often each way worked, and how many placements were whole."""
    ways: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    whole: collections.Counter = collections.Counter()
    for result in judged:
        whole[result.sample.row] += result.whole_placements
        for claim in result.missed:
            ways[result.sample.row, re.sub(r"_\d+$", "", claim["operand"])][claim["how"]] += 1
    return {key: (ways[key], whole[key[0]]) for key in sorted(ways)}


def _reason(key: tuple[str, str]) -> str:
    matches = [
        text
        for (row, operand), text in REASONS.items()
        if fnmatch.fnmatch(key[0], row) and fnmatch.fnmatch(key[1], operand)
    ]
    return matches[0] if matches else ""


def unexplained(judged: list[Judged]) -> list[tuple[str, str]]:
    return [key for key in findings(judged) if not _reason(key)]


def unused_reasons(judged: list[Judged]) -> list[tuple[str, str]]:
    keys = list(findings(judged))
    return [
        (row, operand)
        for row, operand in REASONS
        if not any(fnmatch.fnmatch(key[0], row) and fnmatch.fnmatch(key[1], operand) for key in keys)
    ]


def page_of(judged: list[Judged]) -> str:
    lines = []
    for key, (ways, whole) in findings(judged).items():
        how = ", ".join(sorted(ways))
        lines.append(f"| `{key[0]}` | `{key[1]}` | {sum(ways.values())} of {whole} | {how} | {_reason(key)} |\n")
    return HEAD.replace("TORCH", TORCH) + "".join(lines)


if __name__ == "__main__":
    from autosp import _core
    from judging import judge
    from samples import samples_of

    with tempfile.TemporaryDirectory() as folder:
        results = judge(samples_of(row["op"] for row in _core.list_rules()), pathlib.Path(folder), missed=True)
    PAGE.write_text(page_of(results))
    print(f"{PAGE}: {len(findings(results))} findings")
    print(f"without a reason: {unexplained(results)}, reasons without a finding: {unused_reasons(results)}")
    sys.exit(bool(unexplained(results)))
