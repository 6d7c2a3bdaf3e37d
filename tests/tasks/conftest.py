"""Real MNIST and CIFAR-10, where GRADFLOW_DATA_DIR has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory):
    """A function from a sub-folder of GRADFLOW_DATA_DIR to a writable folder of links to its packed files.

    Nothing is ever written where the data are. Without them a test is skipped, but on CI it fails.
    """

    def link(part: str) -> Path:
        source = os.environ.get("GRADFLOW_DATA_DIR")
        wanted = ("*-ubyte.gz",) if part == "MNIST" else ("*_batch*", "batches.meta")
        files = [file for pattern in wanted for file in Path(source or os.devnull).glob(f"{part}/**/{pattern}")]
        if not files:
            message = f"GRADFLOW_DATA_DIR={source} has no {part}"
            pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
        folder = tmp_path_factory.mktemp("data")
        for file in files:
            to = folder / file.relative_to(Path(str(source)))
            to.parent.mkdir(parents=True, exist_ok=True)
            to.symlink_to(file.resolve())
        return folder

    return link
