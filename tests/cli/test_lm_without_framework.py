import gzip
import random

import pytest
from ngram_models import random_words
from typer.testing import CliRunner

from wav2vec2_core.cli import app
from wav2vec2_core.errors import CheckpointError, InputError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments, input=None, error=None):
        done = CliRunner().invoke(app, ["lm", *map(str, arguments)], input=input)
        if error:
            assert isinstance(done.exception, error), done.output
            return str(done.exception)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return call


@pytest.fixture
def text(tmp_path):
    chance = random.Random(4)
    words = random_words(chance, 30)
    weights = [1 / (place + 1) for place in range(len(words))]
    lines = [" ".join(chance.choices(words, weights, k=chance.randrange(1, 9))) for _ in range(400)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_build_info_query(run, text):
    printed = run("build", text, "--order", "3", "--prune", "0", "0", "1", "--discount-fallback", "-o", "m.arpa.gz")
    assert printed.startswith("m.arpa.gz: ")
    assert "in 400 sentences" in printed
    assert "\n3-grams  " in printed
    printed = run("info", "m.arpa.gz")
    assert "order            3\n" in printed
    assert "1-grams          33\n" in printed
    inside = text.read_text(encoding="utf-8").splitlines()
    printed = run("query", "m.arpa.gz", text).splitlines()
    assert printed[0].split() == ["sentences", "400"]
    assert printed[1].split() == ["words", f"{sum(len(line.split()) for line in inside):,}"]
    printed = run("query", "m.arpa.gz", "--sentences", input=f"{inside[0]}\nunheard-of {inside[1]}\n").splitlines()
    assert len(printed) == 7
    assert float(printed[0]) < 0
    assert printed[4].split() == ["unknown", "words", "1"]
    known, all_words = float(printed[6].split()[-1]), float(printed[5].split()[-1])
    assert known < all_words


def test_build_from_stdin_and_gzip(run, text, tmp_path):
    run("build", text, "--discount-fallback", "0.4", "0.9", "1.4", "-o", "a.arpa")
    (tmp_path / "z.gz").write_bytes(gzip.compress(text.read_bytes()))
    run("build", "z.gz", "--discount-fallback", "0.4 0.9 1.4", "-o", "b.arpa", "--memory", "64M")
    run("build", "-", "--discount-fallback", "0.4,0.9,1.4", "-o", "c.bin", input=text.read_text(encoding="utf-8"))
    assert (tmp_path / "a.arpa").read_bytes() == (tmp_path / "b.arpa").read_bytes()
    assert run("query", "c.bin", text) == run("query", "a.arpa", text)


@pytest.mark.parametrize(
    "options",
    [
        ["--memory", "lots"],
        ["--prune", "many"],
        ["--discount-fallback", "0.5", "1"],
        ["--order"],
    ],
)
def test_wrong_options(run, text, options):
    done = CliRunner().invoke(app, ["lm", "build", str(text), "-o", "m.arpa", *options])
    assert done.exit_code == 2


def test_errors_of_the_library(run, text):
    assert "order is 0" in run("build", text, "--order", 0, "-o", "m.arpa", error=InputError)
    assert "cannot read" in run("build", "none.txt", "-o", "m.arpa", error=CheckpointError)
    assert "no ARPA file" in run("info", text, error=CheckpointError)
    assert "does not exist" in run("attach", "./none", text, error=CheckpointError)
    assert "none" in run("tune", "none", "dev.csv", error=CheckpointError)
