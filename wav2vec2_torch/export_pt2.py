"""Programs of ``torch.export``: written as a .pt2 file and run by PyTorch without this library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from wav2vec2_torch.export_program import Call, Program, quiet

#: What a reader should know of the file.
READING = (
    "torch.export.load(path).module(). The file is a zip of raw weights and a graph in JSON; PyTorch reads its sample "
    "inputs by pickle and would so read other entries, so a file of unknown origin can run code as it is read"
)


def write(program: Program, path: Path) -> None:
    """Write a program for any batch, and any length of two frames or more."""
    dynamic = torch.export.Dim.DYNAMIC
    size = {0: dynamic, 1: dynamic}
    with quiet(), torch.no_grad():
        made = torch.export.export(program, program.example(), dynamic_shapes=(size, size))
        torch.export.save(made, path)


def open_program(path: Path) -> Call:
    """A program run by PyTorch on the CPU."""
    with quiet():
        module = torch.export.load(path).module()

    def call(values: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [result.numpy() for result in module(torch.from_numpy(values), torch.from_numpy(mask))]

    return call
