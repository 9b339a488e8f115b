"""Exchanging files: what one back end saves, another loads bit for bit, in every format that the first can write."""

from __future__ import annotations

import tempfile

from conformance.backends import Opened
from conformance.bench import Expected
from conformance.results import StageError, equal


def check_files(saver: Opened, loader: Opened, kind: str, expected: Expected) -> tuple[StageError, ...]:
    """Every parameter of the case, saved by one back end and loaded by the other.

    Args:
        saver, loader: may be the same.
        kind: one of ``saver.file_kinds``.
        expected: the case.
    """
    case = expected.case
    with tempfile.TemporaryDirectory() as folder:
        saver.build(case.config, case.head, expected.parameters).save(folder, kind)
        loaded = loader.load(folder, case.head)
        return equal(expected.parameters, loaded.weights())
