"""What every test shares: one torch thread, and the optional folder of real recordings."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run torch on one thread: bits are compared, and threads may change them."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real recordings named by CMKD_SHARED, or skip."""
    folder = os.environ.get("CMKD_SHARED")
    if not folder:
        pytest.skip("CMKD_SHARED does not name a folder of real recordings")
    return Path(folder)
