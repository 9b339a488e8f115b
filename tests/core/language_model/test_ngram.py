import gzip
import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from ngram_models import DictionaryModel, arpa_text, drop_endings, random_ngrams, random_words

from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.language_model import cache
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.language_model.ngram_kernels import score_ngram


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def made(tmp_path, seed, order, words=12, change=None, name="model.arpa"):
    chance = random.Random(seed)
    vocabulary = random_words(chance, words)
    ngrams = random_ngrams(chance, order, vocabulary)
    if change:
        ngrams = change(chance, ngrams)
    path = tmp_path / name
    text = arpa_text(ngrams, order, chance)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path, ngrams, vocabulary


def some_sentences(seed, vocabulary, count=20):
    chance = random.Random(seed + 1)
    for _ in range(count):
        yield [chance.choice([*vocabulary, "unheard-of"]) for _ in range(chance.randrange(0, 8))]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_dictionary(tmp_path, order, seed):
    path, ngrams, vocabulary = made(tmp_path, seed, order)
    model, expected = NgramModel.open(path), DictionaryModel(ngrams, order)
    assert model.order == order
    for sentence in some_sentences(seed, vocabulary):
        said = ["<s>", *sentence, "</s>"]
        want = [expected.score(said[:place], said[place]) for place in range(1, len(said))]
        assert model.word_scores(sentence).tolist() == want
        assert model.score(sentence) == pytest.approx(sum(map(float, want)), abs=1e-12)
        assert model.perplexity(sentence) == pytest.approx(10 ** (-sum(map(float, want)) / len(want)), rel=1e-9)
        inner = [expected.score(sentence[:place], sentence[place]) for place in range(len(sentence))]
        assert model.word_scores(sentence, bos=False, eos=False).tolist() == inner


@pytest.mark.parametrize("seed", range(5))
def test_missing_endings_change_no_score(tmp_path, seed):
    path, ngrams, vocabulary = made(tmp_path, seed, 4, words=5, change=drop_endings)
    model, expected = NgramModel.open(path), DictionaryModel(ngrams, 4)
    for sentence in some_sentences(seed, vocabulary, 60):
        said = ["<s>", *sentence, "</s>"]
        want = [expected.score(said[:place], said[place]) for place in range(1, len(said))]
        # Back-offs of endings that the file leaves out are added when the tables are made: the sum has another order.
        np.testing.assert_allclose(model.word_scores(sentence), want, rtol=3e-7, atol=1e-6)


def test_states_hold_what_the_next_word_can_use(tmp_path):
    """A state is shorter than the context exactly where no longer n-gram and no back-off could be found."""
    path, ngrams, vocabulary = made(tmp_path, 7, 4)
    model = NgramModel.open(path)
    context, length = model.start()
    said = [model.begin]
    chance = random.Random(0)
    for _ in range(200):
        word = chance.choice(vocabulary)
        number = model.word_id(word)
        after = np.zeros(3, np.uint32)
        _, length = score_ngram(model.data, model.offsets, model.buckets, 4, context, length, number, after)
        said = [number, *said]
        assert after[:length].tolist() == said[:length]
        names = [model.unigrams[number] for number in said]
        for size in range(length + 1, 4):
            suffix = tuple(reversed(names[:size]))
            longer = any(ngram[:size] == suffix and len(ngram) > size for ngram in ngrams)
            assert not (suffix in ngrams and (longer or ngrams[suffix][1]))
        context = after


def test_a_state_may_be_written_over(tmp_path):
    path, _, vocabulary = made(tmp_path, 3, 4)
    model = NgramModel.open(path)
    tables = (model.data, model.offsets, model.buckets, model.order)
    context, length = model.start()
    for word in model.word_ids(vocabulary * 3):
        after = np.zeros(3, np.uint32)
        score, new_length = score_ngram(*tables, context, length, word, after)
        again, length = score_ngram(*tables, context, length, word, context)
        assert (score, new_length) == (again, length)
        assert context[:length].tolist() == after[:length].tolist()


def test_words_and_ids(tmp_path):
    path, _, vocabulary = made(tmp_path, 1, 2, words=300)
    model = NgramModel.open(path)
    assert model.unigrams is not None
    assert set(model.unigrams) == {"<unk>", "<s>", "</s>", *vocabulary}
    assert model.word_ids(model.unigrams).tolist() == list(range(len(model.unigrams)))
    assert model.word_ids(["unheard-of", "", "<UNK>", "\ud800"]).tolist() == [0, 0, 0, 0]
    assert model.word_ids([]).tolist() == []
    assert (model.unigrams[model.begin], model.unigrams[model.end]) == ("<s>", "</s>")
    assert model.word_ids(vocabulary[:1]).dtype == np.uint32
    with pytest.raises(InputError, match="split it"):
        model.word_scores("two words")


def test_plain_python_gives_the_same(tmp_path):
    path, _, vocabulary = made(tmp_path, 5, 4)
    code = (
        "import sys; from wav2vec2_core.language_model.ngram import NgramModel;"
        "from wav2vec2_core import compilation;"
        "m = NgramModel.open(sys.argv[1]); w = sys.argv[2:];"
        "print(compilation.COMPILED, m.word_scores(w * 5).tolist())"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(path), *vocabulary],
            capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_DISABLE_JIT": off},
        ).stdout.split(" ", 1)
        for off in ("0", "1")
    ]  # fmt: skip
    assert printed[1][0] == "False"
    assert printed[0][1] == printed[1][1]


def test_pickles_are_small_and_open_elsewhere(tmp_path):
    path, _, vocabulary = made(tmp_path, 2, 3, words=500)
    model = NgramModel.open(path)
    stored = pickle.dumps(model)
    assert len(stored) < 500
    code = "import pickle, sys; m = pickle.load(sys.stdin.buffer); print(m.score(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *vocabulary[:5]], input=stored, capture_output=True, check=True)
    assert float(done.stdout) == model.score(vocabulary[:5])


class TestCache:
    def files(self):
        return sorted(cache.cache_folder().glob("*"))

    def test_made_once_and_used_again(self, tmp_path, monkeypatch):
        path, _, _ = made(tmp_path, 0, 3, name="model.arpa.gz")
        first = NgramModel.open(path)
        (kept,) = self.files()
        written = kept.stat().st_mtime_ns
        monkeypatch.setattr(
            "wav2vec2_core.language_model.tables.write_binary", lambda *args, **options: pytest.fail("anew")
        )
        assert np.array_equal(NgramModel.open(path).data, first.data)
        assert self.files() == [kept]
        assert kept.stat().st_mtime_ns == written

    def test_a_changed_source_is_read_anew(self, tmp_path):
        path, _, _ = made(tmp_path, 0, 3)
        first = NgramModel.open(path)
        made(tmp_path, 1, 3)
        assert not np.array_equal(NgramModel.open(path).data, first.data)
        assert len(self.files()) == 1

    def test_a_change_that_keeps_size_and_time_is_seen(self, tmp_path):
        path, _, _ = made(tmp_path, 0, 2)
        first = NgramModel.open(path).score(["x"])
        about = path.stat()
        text = path.read_text(encoding="utf-8")
        mark = text.index("\t<unk>")
        start = text.rindex("\n", 0, mark) + 1
        other = "9" if text[mark - 1] != "9" else "8"
        path.write_text(text[: mark - 1] + other + text[mark:], encoding="utf-8")
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert path.stat().st_size == about.st_size, text[start:mark]
        if text[start] == "-":
            assert NgramModel.open(path).score(["x"]) != first

    @pytest.mark.parametrize("damage", ["truncate", "empty", "header", "tables"])
    def test_damage_is_mended(self, tmp_path, damage):
        path, _, vocabulary = made(tmp_path, 0, 3)
        score = NgramModel.open(path).score(vocabulary)
        (kept,) = self.files()
        content = bytearray(kept.read_bytes())
        if damage == "truncate":
            del content[-5:]
        elif damage == "empty":
            content.clear()
        else:
            content[90 if damage == "header" else len(content) // 2] ^= 0xFF
        kept.write_bytes(content)
        assert NgramModel.open(path).score(vocabulary) == score
        assert len(self.files()) == 1
        assert self.files()[0].read_bytes() != content

    def test_without_a_cache_folder(self, tmp_path, monkeypatch):
        path, _, vocabulary = made(tmp_path, 0, 3)
        score = NgramModel.open(path).score(vocabulary)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert NgramModel.open(path).score(vocabulary) == score

    def test_a_bad_source_leaves_nothing(self, tmp_path):
        path = tmp_path / "bad.arpa"
        path.write_text("\\data\\\nngram 1=1\n\n\\1-grams:\nx\n")
        with pytest.raises(CheckpointError, match="line 5"):
            NgramModel.open(path)
        assert self.files() == []

    def test_two_processes_at_once(self, tmp_path):
        path, _, vocabulary = made(tmp_path, 0, 3, words=400)
        code = (
            "import sys; from wav2vec2_core.language_model.ngram import NgramModel;"
            "print(NgramModel.open(sys.argv[1]).score(sys.argv[2:]))"
        )
        command = [sys.executable, "-c", code, str(path), *vocabulary[:4]]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        printed = {process.communicate()[0] for process in running}
        assert printed == {f"{NgramModel.open(path).score(vocabulary[:4])}\n"}
        assert len(self.files()) == 1
