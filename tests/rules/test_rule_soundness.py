"""What the rule table claims, against PyTorch's own samples of each operator, judged by the SPMD interpreter.

    pytest tests/rules                                a bounded, fixed choice of samples
    AUTOSP_ALL_SAMPLES=1 pytest tests/rules           every sample of op_db (minutes)
    python tests/rules/missed_claims.py               writes missed_claims.md again
"""

from __future__ import annotations

import os

import pytest

from autosp import _core
from judging import Judged, judge
from missed_claims import PAGE, TORCH, page_of, unexplained, unused_reasons
from samples import operator_of, samples_of

ALL_SAMPLES = os.environ.get("AUTOSP_ALL_SAMPLES") == "1"
ROWS = {row["op"]: row["rule"] for row in _core.list_rules()}


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> list[Judged]:
    samples = samples_of(ROWS, everything=ALL_SAMPLES)
    return judge(samples, tmp_path_factory.mktemp("rules"), missed=not ALL_SAMPLES)


def test_no_claim_is_wrong(judged):
    wrong = [line for result in judged for line in result.wrong]
    claims = sum(len(result.claims) for result in judged)
    assert claims > 5000, f"only {claims} claims were judged"
    assert not wrong, f"{len(wrong)} of {claims} claims are wrong:\n" + "\n".join(wrong[:40])


def test_every_sample_runs(judged):
    failed = [f"{result.sample.row}: {result.error}\n    {result.sample.call}" for result in judged if result.error]
    assert not failed, "\n".join(failed)


# Rows of no operator of torch, and what shows them.
SHOWN_ELSEWHERE = {
    "autosp_fx.draw_seed": "tests/spmd/dropout_test.cpp",
    "autosp_fx.halo_conv1d": "tests/spmd/programs/neighbours.aspir",
    "autosp_fx.shift": "tests/spmd/programs/neighbours.aspir",
}


def test_every_row_is_exercised(judged):
    exercised = {result.sample.row for result in judged}
    exercised |= SHOWN_ELSEWHERE.keys()
    exercised |= {row for row in ROWS if row.startswith("transformers.") and operator_of(row) is None}  # Not installed.
    absent = sorted(row for row in ROWS if row not in exercised)
    assert not absent, "no sample of " + ", ".join(absent) + ": add one to tests/rules/written_samples.py"


# Rows of functions that let dims pass, and which yet claim nothing on any sample.
SILENT = {
    "aten.mean": "all dims at once; normalize-captured-ops makes it a sum",
    "aten.squeeze": "without named dims any dim of which a block holds one element would go away",
}


def test_every_row_that_lets_a_dim_pass_has_a_judged_claim(judged):
    """A sample of which the rule understands nothing would prove nothing."""
    claimed = {result.sample.row for result in judged if result.claims or result.random}
    silent = {"whole", "factory"}  # The functions that claim nothing.
    absent = [
        row
        for row, rule in ROWS.items()
        if operator_of(row) is not None and row not in claimed and rule.split()[0].strip("@;") not in silent
    ]
    absent = [row for row in absent if row not in SILENT]
    assert not absent, f"nothing was claimed, so nothing judged, for {absent}"


# PyTorch has no derivative of these.
WITHOUT_GRADIENT = {
    "aten.copy",
    "aten.heaviside",
    "aten.remainder.Scalar_Tensor",
    "aten.scatter.reduce",
    "aten.scatter.value_reduce",
}
if TORCH.startswith("2.11"):  # Its samples say that these have none.
    WITHOUT_GRADIENT |= {"aten.aminmax", "aten.nextafter"}


def test_claims_are_judged_with_gradients(judged):
    """Gradients are left out only where the operator has none, or none that is finite, on some samples."""
    blind = {result.sample.row for result in judged if result.claims}
    blind -= {result.sample.row for result in judged if result.claims and result.gradients}
    assert blind <= WITHOUT_GRADIENT, f"no gradient was compared for {sorted(blind - WITHOUT_GRADIENT)}"


def test_rules_map_every_dim_to_one_loop(judged):
    """Two sizes for one loop: the verifier would refuse any cut near it."""
    conflicts = [f"{result.sample.call}   {result.sample.shapes}" for result in judged if result.conflicting]
    assert not conflicts, "\n".join(conflicts)


def test_the_verifier_accepts_what_is_right(judged):
    refused = [
        f"{result.sample.call}: {claim['what']} on {claim['ranks']} ranks: {claim['detail']}"
        for result in judged
        for claim in result.refused
    ]
    assert not refused, "\n".join(refused[:20])


@pytest.mark.skipif(ALL_SAMPLES, reason="the page lists the bounded choice of samples")
def test_missed_claims_are_listed(judged):
    if f"samples of torch {TORCH};" not in PAGE.read_text():
        pytest.skip(f"{PAGE.name} was written with another torch than {TORCH}, whose samples differ")
    assert not (bare := unexplained(judged)), f"give a reason in tests/rules/missed_reasons.py for {bare}"
    assert not (unused := unused_reasons(judged)), f"no such missed claim any more: {unused}"
    assert PAGE.read_text() == page_of(judged), f"{PAGE.name} is stale: run python tests/rules/missed_claims.py"


# Rules that are wrong on purpose: what the suite must see. row, rule, text that must be in a finding.
MUTANTS = [
    ("aten.softmax.int", "self, dim, dtype", "@pointwise", "output 0"),
    ("aten.cumsum", "self, dim, dtype", "@pointwise", "output 0"),
    ("aten.mean.dim", "self, dim, keepdim, dtype", "@reduce sum", "output 0"),
    ("aten.flip", "self, dims", "@pointwise", "output 0"),
    ("aten.linear", "input, weight, bias", "(*, k), (n, k), (n)? -> (*, n); reduce k", "output 0"),
    ("aten.embedding", "weight, indices, padding_idx, scale_grad_by_freq, sparse", "(v, d), (*) -> (*, d)", "gradient"),
    ("aten.rms_norm", "input, normalized_shape, weight, eps", "@pointwise", "failed on rank"),
    ("aten.amax", "self, dim, keepdim", "@reduce sum", "output 0"),
    ("aten.scatter_add", "self, dim, index, src", "@pointwise", "scatter_add failed on rank"),
]


@pytest.mark.parametrize("row, parameters, rule, seen", MUTANTS, ids=[mutant[0] for mutant in MUTANTS])
def test_a_wrong_rule_is_seen(tmp_path, judged, row, parameters, rule, seen):
    samples = [result.sample for result in judged if result.sample.row == row]
    wrong = [line for result in judge(samples, tmp_path, f"{row}({parameters}): {rule}\n") for line in result.wrong]
    assert any(seen in line for line in wrong), f"the rule {rule} of {row} was found right"
