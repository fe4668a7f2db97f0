"""Loads the C++ torch ops `torch.ops.autosp_rt.*` (docs/runtime.md). Training under Python does not need them."""

from __future__ import annotations

import functools
import pathlib

import torch

from autosp.errors import make_error

_LIBRARIES = pathlib.Path(__file__).parent / "lib"


def library_path() -> pathlib.Path:
    """Where the library for the installed torch is, or would be."""
    version = torch.__version__.partition("+")[0]
    return _LIBRARIES / f"torch-{version}" / "libautosp_torch.so"


@functools.cache
def load():
    """Loads the ops once and returns their namespace, `torch.ops.autosp_rt`; AutoSPError when they cannot be loaded."""
    path = library_path()
    built = [folder.parent.name for folder in sorted(_LIBRARIES.glob("torch-*/libautosp_torch.so"))]
    if not path.exists():
        raise make_error(
            "kFile",
            f"the autosp_rt ops are not built for torch {torch.__version__}, built are: {', '.join(built) or 'none'}",
            notes=[f"looked for {path}"],
            hint="configure with -DPython_EXECUTABLE of this Python and build the target autosp_torch",
        )
    if not torch.distributed.is_available():
        raise make_error("kFile", "the autosp_rt ops need a torch that has torch.distributed, this one has not",
                         hint="install the torch wheel of the package index")
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise make_error(
            "kFile",
            f"the autosp_rt ops cannot be loaded into torch {torch.__version__}",
            notes=[str(error)],
            hint="build the target autosp_torch again: the library fits only the torch that it was built with",
        ) from error
    return torch.ops.autosp_rt
