"""The judgement: what the sharded ranks told against the unsharded run."""

from __future__ import annotations

import math

# Relative difference that the first step may show. Later steps start from weights that already differ by rounding, and
# Adam divides by small second moments: they may differ by the second factor times as much.
THRESHOLDS = {"f32": 1e-5, "f64": 1e-12, "bf16": 2e-2}
LATER = {"f32": 10.0, "f64": 1000.0, "bf16": 10.0}


def relative(value: float, truth: float) -> float:
    if math.isnan(value) or math.isnan(truth):
        return math.inf
    return abs(value - truth) / abs(truth) if truth else abs(value)


def compare(spec: dict, sharded, reference) -> dict:
    rows = []
    for rank, steps in enumerate(sharded.steps):
        replica = rank // spec["sp"]
        for event in steps:
            truth = reference.steps[0][event["step"]]["losses"][replica]
            threshold = spec["threshold"] * (1.0 if event["step"] == 0 else LATER[spec["dtype"]])
            difference = relative(event["losses"][0], truth)
            rows.append({
                "rank": rank, "step": event["step"] + 1, "loss": event["losses"][0], "reference": truth,
                "difference": difference, "threshold": threshold, "passed": difference <= threshold,
            })
    result = {"rows": rows, "worst": max((row["difference"] for row in rows), default=math.inf),
              "first": max((row["difference"] for row in rows if row["step"] == 1), default=math.inf)}
    complete = all(len(steps) == spec["steps"] for steps in sharded.steps)
    passed = complete and all(row["passed"] for row in rows)
    if spec["gradients"]:
        # `not <=` so that a gradient that is not a number fails.
        differences = reference.gradients or {}
        name, worst = max(differences.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1],
                          default=("none", math.inf))
        ok = bool(differences) and worst <= spec["threshold"]
        result["gradients"] = {"count": len(differences), "worst": worst, "name": name,
                               "threshold": spec["threshold"], "passed": ok, "all": differences}
        passed = passed and ok
    result["passed"] = passed
    return result
