"""AutoSP makes ordinary transformer training code sequence-parallel, exactly. Start with README.md."""

from __future__ import annotations

import importlib
from typing import Any

# Name -> module that holds it. Nothing is imported before it is used: `import autosp` loads no torch.
_PUBLIC = {
    "AutoSPError": "errors",
    "Graph": "_core",
    "build_info": "_core",
    "explain": "report",
    "import_fx": "_core",
    "plan": "planner",
    "prepare_auto_sp_inputs": "inputs",
    "prepare_autosp_inputs": "inputs",
    "register_rule": "rules",
    "run_passes": "_core",
    "tag": "inputs",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"autosp.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'autosp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
