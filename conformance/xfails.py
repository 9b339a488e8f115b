"""Checks that are known to fail, as data: each with its reason, and each must fail, or it is to be removed from here.

An id is ``back end/check/case``, such as ``tf/gradients/ForCTC-base-padded``: what the command of the suite prints.
"""

from __future__ import annotations

from collections.abc import Collection

from wav2vec2_core.errors import InputError

XFAILS: dict[str, str] = {}


def check_known(ids: Collection[str]) -> None:
    """Check that every expected failure names a check that exists.

    Args:
        ids: all checks there are, of every back end.

    Raises:
        InputError: an expected failure names none of them, or has no reason.
    """
    for name, reason in XFAILS.items():
        if name not in ids:
            raise InputError(f"expected failure {name!r} is no check: correct or remove it in conformance/xfails.py")
        if not reason.strip():
            raise InputError(f"expected failure {name!r} has no reason: give one in conformance/xfails.py")
