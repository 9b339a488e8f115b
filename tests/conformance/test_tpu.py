"""The TPU check without its compiler: what it says, and that it loads nothing before it is used."""

import os
import sys

import pytest

from conformance import cases, tpu
from wav2vec2_core.errors import BackendError


def test_without_jax_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    tpu._device.cache_clear()
    with pytest.raises(BackendError, match=r"jax is not installed: pip install 'wav2vec2-frameworks\[flax,tpu\]'"):
        tpu.compile_case(cases.find("ForCTC-base-even"))


def test_the_command_knows_its_cases(capsys):
    with pytest.raises(SystemExit):
        tpu.main(["ForCTC-basis"])
    assert "case 'ForCTC-basis' does not exist" in capsys.readouterr().err


def test_the_command_counts_failures(monkeypatch, capsys):
    def refuse(case):
        raise BackendError(f"{case.name} is too large")

    monkeypatch.setattr(tpu, "compile_case", refuse)
    assert tpu.main(["ForCTC-base-even"]) == 1
    assert "ForCTC-base-even is too large" in capsys.readouterr().err
    monkeypatch.setattr(tpu, "compile_case", lambda case: tpu.Compiled(case.name, 3 * 2**20, 1.5))
    assert tpu.main(["ForCTC-base-even"]) == 0
    assert "3.0 MiB" in capsys.readouterr().out
