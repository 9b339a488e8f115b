"""``wav2vec2 conformance`` with bad input: one line, before anything long, and with no framework needed."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance import backends
from conformance.command import run_command
from wav2vec2_core.cli import app, main
from wav2vec2_core.errors import AudioError, BackendError, CheckpointError, InputError, OutputError
from wav2vec2_core.transcription import EMBEDDED_MODEL

SAMPLE = Path(__file__).parents[2] / "samples" / "three-one-four.flac"


def run(**options):
    defaults = {
        "backends": ["torch"], "device": "cpu", "dtype": "float32", "model": None, "audio": [], "full_size": False,
        "json_file": None, "html_file": None,
    }  # fmt: skip
    return run_command(**{**defaults, **options})


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch):
    """Everything here must fail before a back end is opened."""

    def load_backend(name):
        raise AssertionError("a framework was loaded")

    monkeypatch.setattr(backends, "load_backend", load_backend)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backends": ["mxnet"]}, InputError, "back end 'mxnet' is unknown: use one or more of torch, tf, flax"),
        ({"device": "npu"}, InputError, "--device 'npu' is unknown: use one of cpu, gpu, tpu"),
        ({"dtype": "int8"}, InputError, "--dtype 'int8' is unknown: use one of float32, bfloat16"),
        ({"audio": [SAMPLE]}, InputError, "--audio is given without --model"),
        ({"model": EMBEDDED_MODEL, "full_size": True}, InputError, "give one of them"),
        ({"model": "/no/such/model"}, CheckpointError, "/no/such/model"),
        ({"model": str(EMBEDDED_MODEL), "audio": [Path("no.wav")]}, AudioError, "no.wav"),
        ({"json_file": Path("/no/such/folder/report.json")}, OutputError, "cannot write /no/such/folder/report.json"),
        ({"html_file": Path(__file__).parent}, OutputError, "is a folder: name a file for the report"),
    ],
)
def test_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        run(**options)
    assert "\n" not in str(caught.value)


def test_a_report_that_could_be_written_is_not_touched_before_the_end(tmp_path):
    old = tmp_path / "report.json"
    old.write_text("old")
    with pytest.raises(AssertionError, match="a framework was loaded"):
        run(json_file=old, html_file=tmp_path / "report.html")
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_back_end_that_is_missing_is_no_skip(monkeypatch):
    from wav2vec2_core.backend import load_backend

    monkeypatch.setattr(backends, "load_backend", load_backend)
    monkeypatch.setitem(sys.modules, "jax", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "wav2vec2_flax"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(BackendError, match=r'is not installed: pip install "wav2vec2-frameworks\[flax\]"'):
        run(backends=["flax"])


def test_no_back_end_at_all(monkeypatch):
    monkeypatch.setattr("conformance.command.is_installed", lambda name: False)
    with pytest.raises(BackendError, match="no back end is installed"):
        run(backends=[])


def test_a_device_that_is_missing(monkeypatch):
    monkeypatch.setattr(
        backends, "load_backend", lambda name: SimpleNamespace(inference=SimpleNamespace(devices=lambda: ["cpu"]))
    )
    with pytest.raises(BackendError, match="back end 'tf' finds no tpu here, only cpu: choose another --device"):
        run(backends=["tf"], device="tpu")


def test_an_incomplete_checkpoint(tmp_path):
    from wav2vec2_core.checkpoint import write_checkpoint
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.parameters import initial_values, parameter_table

    config = Wav2Vec2Config(hidden_size=24, num_attention_heads=3, num_hidden_layers=1, intermediate_size=20,
                            conv_dim=(8,), conv_kernel=(10,), conv_stride=(5,), num_conv_pos_embeddings=4,
                            num_conv_pos_embedding_groups=4, architectures=("Wav2Vec2ForCTC",))  # fmt: skip
    values = dict(initial_values(parameter_table(config, "Model"), 0))
    write_checkpoint(tmp_path, values)
    config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no values for lm_head.weight \(2 such parameters\)"):
        run(model=str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "torch", "mxnet"], "error: 'mxnet' is no back end: use one or more of torch, tf, flax"),
        (["torch"], "error: 'torch' is no back end: use one or more of torch, tf, flax after --backend"),
        (["--backend", "mxnet"], "error: back end 'mxnet' is unknown"),
    ],
)
def test_the_command_says_it_on_stderr(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["wav2vec2", "conformance", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    output = capsys.readouterr()
    assert left.value.code == 1
    assert output.out == ""
    assert output.err.startswith(message)
    assert output.err.count("\n") == 1


def test_values_that_follow_an_option(monkeypatch):
    seen = {}
    monkeypatch.setattr("conformance.command.run_command", lambda **options: seen.update(options) or True)
    line = ["conformance", "--backend", "torch", "tf", "--model", "m", "--audio", "a.wav", "b.wav", "--device", "gpu"]
    app(line, standalone_mode=False)
    assert seen["backends"] == ["torch", "tf"]
    assert seen["audio"] == [Path("a.wav"), Path("b.wav")]
    assert (seen["model"], seen["device"]) == ("m", "gpu")
