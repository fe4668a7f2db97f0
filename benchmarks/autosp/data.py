"""Real text as token ids, cut into batches that depend on nothing but (step, micro-batch, replica)."""

from __future__ import annotations

import pathlib
import sysconfig

import torch

IGNORED = -100
# What a batch carries besides ids and labels, and which labels are ignored; see apply_mask.
MASKS = ("full", "none", "left", "right", "prompt", "half", "packed")


def standard_library_text(enough: int) -> bytes:
    """At least `enough` bytes of the sources of Python's standard library, in sorted order: on every machine."""
    text = bytearray()
    for file in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += file.read_bytes()
        if len(text) >= enough:
            break
    return bytes(text)


class TextData:
    """A stream of token ids; every (step, micro-batch, replica, row) reads its own stretch, the end wraps around."""

    def __init__(self, spec: dict, vocabulary: int):
        self.spec = spec
        needed = spec["steps"] * len(spec["lengths"]) * spec["dp"] * spec["batch_size"] * max(spec["lengths"])
        if spec["tokenizer"]:
            from tokenizers import Tokenizer

            # Bytes per token are at least one, so this many bytes give at most this many tokens; 8 are ample.
            text = pathlib.Path(spec["text"]).read_bytes() if spec["text"] else standard_library_text(8 * needed)
            ids = Tokenizer.from_file(spec["tokenizer"]).encode(text.decode("utf-8", "replace")).ids
            self.tokens = torch.tensor(ids, dtype=torch.int64)
        else:
            text = pathlib.Path(spec["text"]).read_bytes() if spec["text"] else standard_library_text(needed)
            self.tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(torch.int64)
        if len(self.tokens) < max(spec["lengths"]):
            raise ValueError(f"the text holds {len(self.tokens)} tokens, one sequence has {max(spec['lengths'])}")
        if int(self.tokens.max()) >= vocabulary:
            raise ValueError(f"the text holds token {int(self.tokens.max())}, the model's vocabulary is {vocabulary}")

    def batch(self, step: int, micro: int, replica: int) -> dict[str, torch.Tensor | None]:
        spec, rows = self.spec, []
        length = spec["lengths"][micro]
        for row in range(spec["batch_size"]):
            index = ((step * len(spec["lengths"]) + micro) * spec["dp"] + replica) * spec["batch_size"] + row
            start = index * max(spec["lengths"])
            rows.append(self.tokens[torch.arange(start, start + length) % len(self.tokens)])
        return apply_mask(torch.stack(rows), spec["mask"])


def apply_mask(ids: torch.Tensor, kind: str) -> dict[str, torch.Tensor | None]:
    """The batch that a Hugging Face causal LM takes.

    full: a mask of ones and positions; none: ids and labels alone; left, right: padding, a different count in every
    row; prompt: the first 5/8 of the labels ignored; half: the last half ignored, so that whole shards hold no label;
    packed: three documents, told apart by their positions alone.
    """
    rows, length = ids.shape
    labels, mask = ids.clone(), torch.ones_like(ids)
    positions = torch.arange(length).expand(rows, length).contiguous()
    if kind == "none":
        return {"input_ids": ids, "labels": labels, "position_ids": None, "attention_mask": None}
    if kind == "prompt":
        labels[:, : length * 5 // 8] = IGNORED
    elif kind == "half":
        labels[:, length // 2 :] = IGNORED
    elif kind == "packed":
        for start in (length // 3, length * 2 // 3):
            positions[:, start:] -= positions[:, start : start + 1].clone()
        return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": None}
    elif kind in ("left", "right"):
        for row in range(rows):
            padding = min(length - 2, length * 3 // 8 + row)
            where = slice(0, padding) if kind == "left" else slice(length - padding, length)
            mask[row, where] = 0
        labels[mask == 0] = IGNORED
        ids = ids.masked_fill(mask == 0, 0)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": mask}
