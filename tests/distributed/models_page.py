"""Trains every architecture of model_zoo.py on two ranks and writes docs/models.md from the answers.

    .venv/bin/python tests/distributed/models_page.py            # a few minutes
    ... --only llama,bert --output FILE                          # some rows, elsewhere
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys

import model_zoo

FOLDER = pathlib.Path(__file__).resolve().parent
PAGE = FOLDER.parents[1] / "docs" / "models.md"
HEAD = """\
# Models

<!-- Written by .venv/bin/python tests/distributed/models_page.py; a test checks rows and verdicts. -->

Tiny models of Hugging Face architectures (one layer, two where layers differ; random weights and tokens; transformers {transformers},
torch {torch}) trained on two gloo ranks, against the same model on one process: two micro-batches, of 24 and 23 tokens (which 2 ranks divide and do not), one sequence
padded at its end, one with ignored labels at its start. Dropout is 0 in every config.

- **exact**: loss and *every* parameter gradient are those of one process. The last two columns are the largest relative
  differences seen (a gradient's by its norm, or by a millionth of the norm of all gradients where it is smaller than that).
  Exchanges are the all-to-alls of a forward pass: sequence for heads and back, where PyTorch's attention is called four per layer.
  The limit is 1e-6 for models in f64 and 1e-5 in f32; models in f64 still round to f32 inside (norms, softmax, logits), which
  is what differences of 1e-7 are.
- a code: [refused](errors.md) before the first step, with the line of the model's source.

The attention is what `attn_implementation` is set to. Write the page again with `{command}`.

| architecture | class | attention | dtype | result | exchanges | loss | gradient |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
COMMAND = ".venv/bin/python tests/distributed/models_page.py"


def _verdict(row: model_zoo.Architecture) -> str:
    if row.refused:
        return f"[{row.refused}](errors.md#{row.refused}): {row.note or row.why}"
    return f"exact, {row.note}" if row.note else "exact"


def verdicts_of_zoo() -> list[tuple[str, ...]]:
    return [(row.name, f"`{row.model_class}`", row.attention, row.dtype, _verdict(row)) for row in model_zoo.ARCHITECTURES]


def verdicts_of_page() -> list[tuple[str, ...]]:
    lines = re.findall(r"^\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    return [tuple(line.split(" | ")[:5]) for line in lines[2:]]


def page(answers: dict[str, dict]) -> str:
    import torch
    import transformers

    text = HEAD.format(transformers=transformers.__version__, torch=torch.__version__.partition("+")[0], command=COMMAND)
    for row in model_zoo.ARCHITECTURES:
        if row.name not in answers:
            continue
        told = answers[row.name]
        if (told.get("code") or "exact") != (row.refused or "exact") or "code" not in told and "loss" not in told:
            raise SystemExit(f"{row.name} is not {row.refused or 'exact'}: {told}")
        digits = "| | |" if row.refused else f"| {told['exchanges']} | {told['loss']:.0e} | {told['gradient']:.0e} |"
        text += f"| {row.name} | `{row.model_class}` | {row.attention} | {row.dtype} | {_verdict(row)} {digits}\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names of rows, separated by commas")
    parser.add_argument("--output", default=str(PAGE), help="the file to write")
    arguments = parser.parse_args()
    known = [row.name for row in model_zoo.ARCHITECTURES]
    names = arguments.only.split(",") if arguments.only else known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    from launch import launch

    results = launch(FOLDER / "test_models.py", "train_models", 2, {"names": names}, timeout=1500)
    pathlib.Path(arguments.output).write_text(page(results[0].value), encoding="utf-8")
    print(f"{len(names)} architectures written to {arguments.output}")


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    main()
