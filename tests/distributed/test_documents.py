"""What the README and docs tell a reader to type is typed here: every command and every example in Python."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from deepspeed_build import deepspeed_operations  # noqa: F401  a fixture
from launch import launch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("AUTOSP_BUILD", ROOT / "build"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNERS = ("./", ".venv/bin/python ", "autosp-opt -", "autosp-run ", "AUTOSP_TORCH=", "torchrun ", "python -m ")

# As written -> what is run. Not as written: what would call this test again, and sizes that take minutes.
COMMANDS = {
    "./benchmarks/autosp/run_autosp.sh --compile autosp --batch-size 1 --seq-length 64 --sp-size 2 --num-layers 1 --steps 1 "
    "--deterministic": None,
    "./tests/run.sh": "./tests/run.sh --help",
    "./tests/run.sh --quick": "./tests/run.sh --help",
    "AUTOSP_TORCH=2.11.0 ./tests/run.sh": "./tests/run.sh --help",
    ".venv/bin/python benchmarks/planner/run.py memory --markdown":
        "PYTHON benchmarks/planner/run.py memory --markdown --models tiny-llama --lengths 64 --policies full",
    ".venv/bin/python benchmarks/planner/run.py kept --model llama-3-8b --seq-length 4096":
        "PYTHON benchmarks/planner/run.py kept --model tiny-llama --seq-length 64",
    ".venv/bin/python benchmarks/planner/run.py time --num-layers 80": "PYTHON benchmarks/planner/run.py time --num-layers 1",
    ".venv/bin/python benchmarks/planner/run.py step --seq-length 4096":
        "PYTHON benchmarks/planner/run.py step --seq-length 64 --repetitions 1",
    "python -m autosp.device_speed": "PYTHON -m autosp.device_speed --output OUTPUT",
    "torchrun --nproc-per-node 2 -m autosp.device_speed":
        "PYTHON -m torch.distributed.run --standalone --nproc-per-node 2 -m autosp.device_speed --output OUTPUT",
    "autosp-opt --docs=errors": None,
    "autosp-opt --docs=options": None,
    "autosp-opt --docs=passes": None,
    "autosp-opt --docs=sharding-rules": None,
    "autosp-opt --version": None,
    "autosp-run --version": None,
    "autosp-opt --explain=%v": "autosp-opt PROGRAM --pipeline=autosp --ranks=2 --explain=all",
    "autosp-opt --option name=value": "autosp-opt PROGRAM --pipeline=autosp --ranks=2 --option outputs=gathered",
    ".venv/bin/python tests/distributed/models_page.py":
        "PYTHON tests/distributed/models_page.py --only llama --output OUTPUT",
    "autosp-opt --rules my.rules --pipeline=autosp --ranks=2 graph.aspir":
        "autosp-opt --rules RULES --pipeline=autosp --ranks=2 PROGRAM",
    "autosp-opt --rules my.rules --list-rules": "autosp-opt --rules RULES --list-rules",
    "torchrun --nproc-per-node 2 train.py": None,
    "autosp-opt --rules FILE": "autosp-opt PROGRAM --pipeline=autosp --ranks=2 --rules RULES",
    "autosp-opt --passes=plan-activation-checkpoints --option checkpoint=sac FILE":
        "autosp-opt --passes=plan-activation-checkpoints --option checkpoint=sac JOINT",
}  # fmt: skip
SLOW = ("benchmarks/", "torchrun", "device_speed", "models_page")


def commands() -> dict[str, str]:
    """Each command and a page that holds it: lines of sh blocks, and code in the text that starts as a command does."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        spans = [code for code in re.findall(r"`([^`\n]+)`", prose) if code.startswith(RUNNERS)]
        for command in [*blocks, *spans]:
            found.setdefault(command.strip(), page.name)
    return found


def test_the_table_and_the_pages_hold_the_same_commands():
    assert sorted(set(commands()) - set(COMMANDS)) == [], "commands that no test runs"
    assert sorted(set(COMMANDS) - set(commands())) == [], "commands that no page holds any more"


@pytest.mark.parametrize(
    "written",
    [pytest.param(c, marks=[pytest.mark.slow] if any(s in c for s in SLOW) else [], id=c[:60]) for c in COMMANDS],
)
def test_command(written, tmp_path):
    if (COMMANDS[written] or written) == "./tests/run.sh --help" and written != "./tests/run.sh":
        pytest.skip("the same as ./tests/run.sh --help")
    (tmp_path / "rules.txt").write_text("mylib.scale_rows(x, scale): (*, d), (d) -> (*, d)\n", encoding="utf-8")
    joint = (ROOT / "tests" / "golden" / "plan_activation_checkpoints" / "layers.aspir").read_text(encoding="utf-8")
    (tmp_path / "joint.aspir").write_text(joint.partition("// -----")[0], encoding="utf-8")
    words = {
        "RULES": str(tmp_path / "rules.txt"), "PROGRAM": str(ROOT / "tests" / "spmd" / "programs" / "decoder.aspir"),
        "PYTHON": sys.executable, "OUTPUT": str(tmp_path / "output.txt"),
        "JOINT": str(tmp_path / "joint.aspir"),
        "autosp-opt": str(BUILD / "src" / "tools" / "autosp-opt"),
        "autosp-run": str(BUILD / "src" / "tools" / "autosp-run"),
    }  # fmt: skip
    if COMMANDS[written] is None and written.startswith("torchrun"):
        pytest.skip("the example around it is run by test_the_tutorial_on_rules")
    line = [words.get(word, word) for word in shlex.split(COMMANDS[written] or written)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.stdout.strip()


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


# Ranks


def _model_and_batches():
    sys.path.insert(0, str(ROOT / "tests" / "python"))
    import torch
    from conftest import tiny_llama

    ids = torch.randint(0, 128, (2, 2, 32), generator=torch.Generator().manual_seed(3))
    batches = []
    for part in ids:
        ones = torch.ones_like(part)
        positions = torch.arange(32).expand(2, 32).contiguous()
        batches.append({"input_ids": part, "labels": part.clone(), "position_ids": positions, "attention_mask": ones})
    return tiny_llama(1), batches


def run_example(page: str, number: int):
    """Executes the example over two batches; the loss that its loop saw last, and the same on one process by hand."""
    import copy

    import torch

    model, batches = _model_and_batches()
    whole = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    names = {"model": model, "loader": batches, "optimizer": optimizer, "batch": batches[0]}
    exec(examples(page)[number], names)  # noqa: S102  the text of our own page
    with torch.no_grad():
        truth = [whole(**batch).loss.item() for batch in batches]
    loss = names.get("loss")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return {"loss": None if loss is None else loss.item(), "first": truth[0], "last": truth[-1]}


@pytest.mark.slow
def test_the_example_for_torch_compile():
    for result in launch(__file__, "run_example", ranks=2, arguments={"page": "README.md", "number": 0}):
        assert result.value["loss"] == pytest.approx(result.value["last"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("deepspeed_operations")
def test_the_example_for_deepspeed():
    """Its optimizer takes a step of 1e-4 between the two batches, so the second loss is only near the untrained one."""
    results = launch(__file__, "run_example", ranks=2, arguments={"page": "README.md", "number": 1})
    assert results[0].value["loss"] == results[1].value["loss"]
    assert results[0].value["loss"] == pytest.approx(results[0].value["last"], rel=1e-2)


def test_the_examples_of_checkpointing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages = examples("docs/checkpointing.md")
    assert len(pages) == 2
    names = {"model": _model_and_batches()[0], "batch": _model_and_batches()[1][0]}
    import autosp

    exec(pages[1], {**names, "autosp": autosp})  # noqa: S102
    assert (tmp_path / "peak.png").stat().st_size > 5000


def run_tutorial(page: str):
    """Executes the examples of a page one after the other, as one program; what each printed."""
    import contextlib
    import io

    names: dict = {}
    printed = []
    for number, code in enumerate(examples(page)):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            # Under a name of its own, so that the compiler finds the source of what it traces.
            exec(compile(code, f"{page}:{number}", "exec"), names)  # noqa: S102  the text of our own page
        printed.append(output.getvalue())
    return printed


@pytest.mark.slow
def test_the_tutorial_on_rules():
    page = "docs/tutorials/write_a_rule.md"
    shown = re.findall(r"```text\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    shown = [text for text in shown if not text.startswith("#")]
    for result in launch(__file__, "run_tutorial", ranks=2, arguments={"page": page}):
        said = [text for text in result.value if text]
        assert [re.sub(r"\bs\d+", "s", text) for text in said] == [re.sub(r"\bs\d+", "s", text) for text in shown]


def test_rules_are_listed():
    done = subprocess.run([str(BUILD / "src" / "tools" / "autosp-opt"), "--list-rules"], capture_output=True, text=True, check=True)
    page = (ROOT / "docs" / "sharding-rules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+?)\(", page, re.M)
    assert len(rows) > 100
    assert [line.partition("(")[0] for line in done.stdout.splitlines() if line.strip()] == rows
