"""The package: its public names, and that importing it costs nothing."""

import subprocess
import sys

import autosp


def test_public_names_resolve():
    for name in autosp.__all__:
        assert getattr(autosp, name) is not None
    assert issubclass(autosp.AutoSPError, RuntimeError)


def test_import_loads_no_torch():
    code = "import sys, autosp; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})


def test_torch_finds_the_backend_by_name():
    import torch

    assert "autosp" in torch._dynamo.list_backends()


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(autosp, "nothing_of_this_name")
