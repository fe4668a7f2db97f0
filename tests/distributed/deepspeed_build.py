"""A fixture for tests that run DeepSpeed on ranks."""

import os
import shutil
import subprocess
import sys

import pytest
from launch import extensions_folder

BUILD = "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as Builder; Builder().load(verbose=False)"


@pytest.fixture(scope="session")
def deepspeed_operations():
    """DeepSpeed compiles its shared-memory operation at the first use. Here, before ranks run against a deadline, and from
    nothing where an earlier build was killed: what that leaves behind is waited for forever."""
    pytest.importorskip("deepspeed")
    folder = extensions_folder() / "deepspeed_shm_comm"
    if (folder / "lock").exists() or not (folder / "deepspeed_shm_comm.so").exists():
        shutil.rmtree(folder, ignore_errors=True)
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(extensions_folder())}
        subprocess.run([sys.executable, "-c", BUILD], env=environment, check=True, timeout=1200)
