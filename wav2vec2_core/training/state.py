"""The state of a run on one device: parameters and what the optimizer knows, as named arrays in a folder.

A folder appears whole or not at all, and is replaced the same way: whenever a process is killed, the earlier state or
the new one is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from wav2vec2_core.errors import ParameterMismatchError, listed
from wav2vec2_core.files import atomic_folder, read_json, write_json
from wav2vec2_core.weight_files.safetensors_file import SafetensorsFile, check_tensors, write_safetensors

Arrays = Mapping[str, np.ndarray]
#: The file that a folder is told by, those beside it, and what the first holds.
MARK, PARAMETERS, OPTIMIZER = "training_state.json", "parameters.safetensors", "optimizer.safetensors"
CONTENT = {"format": 1}
#: Shape and type of an array.
Entry = tuple[tuple[int, ...], str]


def write_state(folder: str | os.PathLike[str], parameters: Arrays, optimizer: Arrays) -> Callable[[], None]:
    """Write a state beside the work that goes on: the arrays are copied before this returns.

    Args:
        folder: new, empty, or with an earlier state, which is replaced.
        parameters, optimizer: arrays by name, in the layout of the back end.

    Returns:
        A function that waits until the state is there. It raises ``OutputError`` where it cannot be written.

    Raises:
        InputError: an array has a type that the files cannot store.
    """
    copies = [{name: np.array(array) for name, array in arrays.items()} for arrays in (parameters, optimizer)]
    for arrays in copies:
        check_tensors(arrays)
    writer = ThreadPoolExecutor(1)
    written = writer.submit(_write, Path(folder), *copies)
    writer.shutdown(wait=False)
    return written.result


def _write(folder: Path, parameters: Arrays, optimizer: Arrays) -> None:
    with atomic_folder(folder, mark=MARK) as temporary:
        write_safetensors(temporary / PARAMETERS, parameters)
        write_safetensors(temporary / OPTIMIZER, optimizer)
        write_json(temporary / MARK, CONTENT)


def read_state(
    folder: str | os.PathLike[str], parameters: Arrays, optimizer: Arrays | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and optimizer arrays of a state.

    Args:
        folder: as ``write_state`` made it.
        parameters, optimizer: arrays of the names, shapes and types that must be there; None for any of an optimizer.

    Raises:
        CheckpointError: there is no state, or it is damaged.
        ParameterMismatchError: names, shapes or types differ.
    """
    folder = Path(folder)
    check_format(folder)
    files = SafetensorsFile(folder / PARAMETERS), SafetensorsFile(folder / OPTIMIZER)
    for file, expected in zip(files, (parameters, optimizer), strict=True):
        if expected is not None:
            there = {name: (shape, file.dtypes[name]) for name, shape in file.shapes.items()}
            here = {name: (tuple(array.shape), array.dtype.name) for name, array in expected.items()}
            check_same(file.path, there, here)
    first, second = ({name: file.read(name) for name in file.shapes} for file in files)
    return first, second


def check_format(folder: Path) -> None:
    """Check that a folder holds a state that this version reads.

    Raises:
        CheckpointError: there is none.
        ParameterMismatchError: it is of another version.
    """
    found = read_json(folder / MARK).get("format")
    if found != CONTENT["format"]:
        raise ParameterMismatchError(
            f"{folder} has format {found!r:.100}, this version reads {CONTENT['format']}: use another version"
        )


def check_same(path: Path, there: Mapping[str, Entry], here: Mapping[str, Entry]) -> None:
    """Check that a file has exactly the arrays that a run has. Raises ``ParameterMismatchError``."""
    missing, unknown = here.keys() - there.keys(), there.keys() - here.keys()
    if missing or unknown:
        raise ParameterMismatchError(
            f"{path} is of another run: it lacks {listed(sorted(missing)) or 'nothing'} and has besides "
            f"{listed(sorted(unknown)) or 'nothing'}; use the same model, optimizer and trained parameters"
        )
    for name, entry in here.items():
        if entry != there[name]:
            raise ParameterMismatchError(f"{path} has {name!r} as {there[name]}, this run {entry}: use the same model")
