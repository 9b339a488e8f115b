"""Where model files come from: folders, the hub's local cache, a hub on this machine, and no hub at all."""

import json
from pathlib import Path

import pytest
from local_hub import COMMIT, local_hub, run_python

from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.errors import CheckpointError


def one_line_error(function, *arguments, **options):
    with pytest.raises(CheckpointError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.fixture
def cache(tmp_path):
    """A hub cache with the model ``org/name``, which has a configuration and one adapter."""
    snapshot = tmp_path / "cache" / "models--org--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "adapter.eng.safetensors").write_text("")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    return tmp_path / "cache"


# ---- folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder(tmp_path, kind):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter.fra.bin").touch()
    (tmp_path / "adapter.fra.safetensors").touch()
    (tmp_path / "adapter.eng.safetensors").touch()
    (tmp_path / "adapter.deu.json").touch()
    source = open_model(kind(tmp_path))
    assert source.name == str(tmp_path)
    assert source.require("config.json") == tmp_path / "config.json"
    assert source.find("absent", "config.json") == tmp_path / "config.json"
    assert source.find("absent") is None
    assert source.adapter_languages() == ["eng", "fra"]


def test_a_folder_without_files(tmp_path):
    message = one_line_error(open_model(tmp_path).require, "config.json")
    assert str(tmp_path) in message
    assert "has no config.json" in message
    assert "save_pretrained" in message
    message = one_line_error(open_checkpoint, open_model(tmp_path))
    assert "has no weights" in message
    assert "model.safetensors" in message


def test_a_folder_of_an_exported_program(tmp_path):
    for name in ("config.json", "export.json"):
        (tmp_path / name).write_text("{}")
    message = one_line_error(open_checkpoint, open_model(tmp_path))
    assert message.endswith(
        "is an exported program (export.json), for other runtimes: name the model that it was made from"
    )


def test_a_folder_of_a_name_that_looks_like_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert open_model("org/name").find("config.json") is None  # and no hub was asked


def test_files_and_missing_folders(tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert "is a file" in one_line_error(open_model, tmp_path / "model.safetensors")
    assert "does not exist" in one_line_error(open_model, tmp_path / "absent")
    for name in ("./absent", "../absent", "/absent/model", "~/absent", "a/b/c", "a\\b"):
        assert "does not exist" in one_line_error(open_model, name)


@pytest.mark.parametrize("name", ["", "a b", "org/", "org/na me", "-x", "a..b", "x" * 120, "a\0b", "org/name.git"])
def test_names_that_no_hub_model_can_have(name):
    message = one_line_error(open_model, name)
    assert "neither a folder here nor a hub id" in message


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_a_cached_model(cache):
    source = open_model("org/name", cache_dir=cache, local_files_only=True)
    assert source.name == "org/name"
    assert source.require("config.json").read_text() == "{}"
    assert source.find("vocab.json") is None
    assert source.find("absent", "config.json") is not None
    assert source.adapter_languages() == ["eng"]
    assert "org/name" in one_line_error(source.require, "vocab.json")
    assert "has no weights" in one_line_error(open_checkpoint, source)


def test_revisions_of_a_cached_model(cache):
    assert open_model("org/name", cache_dir=cache, local_files_only=True, revision=COMMIT).find("config.json")
    other = open_model("org/name", cache_dir=cache, local_files_only=True, revision="v2")
    assert "neither a folder here nor in the local cache" in one_line_error(other.find, "config.json")


@pytest.mark.parametrize("options", [{"local_files_only": True}, {}])  # {}: HF_HUB_OFFLINE is set for the tests
def test_an_unknown_model_offline(cache, options):
    source = open_model("org/other", cache_dir=cache, **options)
    for function, argument in ((source.require, "config.json"), (source.find, "vocab.json"), (open_checkpoint, source)):
        message = one_line_error(function, argument)
        assert message.startswith("model 'org/other' is neither a folder here nor in the local cache, and the hub ")
        assert "download it first or name a folder" in message
    assert "org/other" in one_line_error(source.adapter_languages)


# ---- a hub on this machine ------------------------------------------------------------------------------------------

ASK = """
import json, sys
from wav2vec2_core.checkpoint import open_model
from wav2vec2_core.errors import Wav2Vec2Error

answers = []
for model, revision, question, *arguments in json.loads(sys.argv[2]):
    source = open_model(model, cache_dir=sys.argv[1], revision=revision)
    try:
        answer = getattr(source, question)(*arguments)
    except Wav2Vec2Error as error:
        answer = f"{type(error).__name__}: {error}"
    answers.append(answer if isinstance(answer, list) or answer is None else str(answer))
print(json.dumps(answers))
"""


HUB_FILES = {"config.json": b'{"from": "hub"}', "adapter.eng.safetensors": b"", "adapter.fra.bin": b""}


def ask(endpoint, cache, questions):
    return run_python(ASK, cache, json.dumps(questions), HF_ENDPOINT=endpoint)


def test_a_hub_that_answers(tmp_path):
    with local_hub(HUB_FILES) as (endpoint, _):
        answers = ask(
            endpoint,
            tmp_path,
            [
                ("org/name", None, "require", "config.json"),
                ("org/name", None, "find", "absent.json"),
                ("org/name", None, "adapter_languages"),
                ("org/name", None, "require", "absent.json"),
                ("org/name", "v9", "require", "config.json"),
                ("org/other", None, "require", "config.json"),
            ],
        )
    path, absent, languages, not_there, no_revision, unknown = answers
    assert Path(path).read_bytes() == HUB_FILES["config.json"]
    assert tmp_path in Path(path).parents
    assert absent is None
    assert languages == ["eng", "fra"]
    assert not_there.startswith("CheckpointError: model 'org/name' has no absent.json")
    assert no_revision.startswith("CheckpointError: model 'org/name' has no revision 'v9'")
    assert unknown.startswith("CheckpointError: model 'org/other' is neither a folder here nor a model on the hub")
    assert not any("\n" in answer for answer in answers if isinstance(answer, str))
    source = open_model("org/name", cache_dir=tmp_path, local_files_only=True)
    assert source.require("config.json") == Path(path)  # afterwards the cache is enough


def test_a_hub_that_does_not_answer(tmp_path, cache):
    with local_hub({}) as (endpoint, _):
        pass  # it is gone now
    found, unknown, languages = ask(
        endpoint,
        cache,
        [
            ("org/name", None, "require", "config.json"),
            ("org/other", None, "require", "config.json"),
            ("org/name", None, "adapter_languages"),
        ],
    )
    assert Path(found).read_text() == "{}"
    assert "neither a folder here nor in the local cache, and the hub cannot be reached" in unknown
    assert languages == ["eng"]
