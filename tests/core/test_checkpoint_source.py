"""Where model files come from: folders, the hub's local cache, a hub on this machine, and no hub at all."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


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


class Hub(http.server.BaseHTTPRequestHandler):
    """The little of the hub's protocol that a download needs."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[-1]
        headers, status, body = {"X-Repo-Commit": COMMIT}, 200, b""
        if "org/name" not in path:
            status, headers = 404, {"X-Error-Code": "RepoNotFound"}
        elif "/resolve/v9/" in path:
            status, headers = 404, {"X-Error-Code": "RevisionNotFound"}
        elif path.startswith("/api/models/org/name"):
            files = [{"rfilename": name} for name in HUB_FILES]
            body = json.dumps({"id": "org/name", "sha": COMMIT, "siblings": files}).encode()
        elif name in HUB_FILES:
            body = HUB_FILES[name]
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
        else:
            status, headers["X-Error-Code"] = 404, "EntryNotFound"
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def ask(endpoint, cache, questions):
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        environment.pop(name, None)
    environment["NO_PROXY"] = "127.0.0.1"
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(cache), json.dumps(questions)],
        capture_output=True, text=True, check=False, env=environment, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_hub_that_answers(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answers = ask(
            f"http://127.0.0.1:{server.server_address[1]}",
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
    finally:
        server.shutdown()
        server.server_close()
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
    unused = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    port = unused.server_address[1]
    unused.server_close()
    found, unknown, languages = ask(
        f"http://127.0.0.1:{port}",
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
