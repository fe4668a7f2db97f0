"""Runs autosp_judge_rules over samples."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from dataclasses import dataclass

import torch

from recording import OneOpGraph

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("AUTOSP_BUILD", ROOT / "build")) / "tests" / "rules" / "autosp_judge_rules"


# The values of these are whatever the memory held.
UNDEFINED = ("aten.empty", "aten.new_empty")


@dataclass
class Judged:
    sample: OneOpGraph
    error: str
    random: bool
    conflicting: bool
    gradients: bool
    placements: int
    whole_placements: int
    claims: list[dict]
    missed: list[dict]

    @property
    def wrong(self) -> list[str]:
        """A line for each claim that does not hold."""
        return [
            f"{self.sample.row}: {claim['what']} on {claim['ranks']} ranks: {claim['detail'].splitlines()[0]}\n"
            f"    {self.sample.call}    {self.sample.shapes}"
            + "".join(f"\n    {line.strip()}" for line in claim["detail"].splitlines()[1:3])
            for claim in self.claims
            if claim["verdict"] in ("different", "failed") and not self._undefined(claim)
        ]

    def _undefined(self, claim: dict) -> bool:
        return self.sample.row.startswith(UNDEFINED) and "wanted" not in claim["detail"]

    @property
    def refused(self) -> list[dict]:
        """Claims that hold, and that the verifier does not accept."""
        return [claim for claim in self.claims if claim["verdict"] == "refused"]


def judge(samples: list[OneOpGraph], folder: pathlib.Path, rules: str = "", missed: bool = False) -> list[Judged]:
    """What holds of each sample, under the built-in rules and `rules`."""
    torch.save([{"text": s.text, "inputs": s.inputs} for s in samples], folder / "samples.pt")
    command = [str(TOOL), str(folder / "samples.pt"), str(folder / "results.jsonl")]
    if rules:
        (folder / "rules.txt").write_text(rules)
        command += ["--rules", str(folder / "rules.txt")]
    if missed:
        command.append("--missed")
    # Kernels warn about samples that op_db broadcasts; only what ends the run is of interest.
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"})
    if run.returncode != 0:
        done = len((folder / "results.jsonl").read_text().splitlines())
        where = samples[done].text if done < len(samples) else "the end"
        raise RuntimeError(f"{TOOL.name} ended with {run.returncode} at\n{where}\n{run.stderr[-2000:]}")
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [Judged(sample, **json.loads(line)) for sample, line in zip(samples, lines, strict=True)]
