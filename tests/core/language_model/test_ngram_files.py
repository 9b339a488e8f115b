"""Files of language models that are wrong: one clear error each, and never a crash or a lot of memory."""

import bz2
import gzip
import lzma
import random
import struct
import tracemalloc

import numpy as np
import pytest
from mutated_files import fuzz
from ngram_models import arpa_text, random_ngrams, random_words

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.language_model.tables import write_binary

ARPA = """\\data\\
ngram 1=4
ngram 2=3
ngram 3=1

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.3
-1.25\t</s>
-0.7\ta\t-0.125

\\2-grams:
-0.5\t<s> a\t-0.25
-0.5\ta a\t0
-0.25\ta </s>

\\3-grams:
-0.1\t<s> a a

\\end\\
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(tmp_path, content):
    path = tmp_path / "model.arpa"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return NgramModel.open(path)


def test_the_example_is_right(tmp_path):
    model = opened(tmp_path, ARPA)
    assert model.word_scores(["a", "a", "b"]).tolist() == np.float32([-0.5, -0.1, -1.625, -1.25]).tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 2=3", "ngram 2=4", r"line 17: 3 2-grams end here, the header names 4"),
        ("ngram 2=3", "ngram 2=2", r"3 2-grams end here, the header names 2"),
        ("ngram 2=3\n", "", r"line 3: .*not the count of order 2"),
        ("ngram 3=1", "ngram 3=1000000", r"more than a file of \d+ bytes can hold"),
        ("ngram 1=4", "ngram 1=99999999999999999999", "not a line like"),
        ("ngram 1=4", "1-grams: 4", "not a line like"),
        ("\\data\\", "data", r"line 1: no line \\data\\"),
        ("-0.7\ta\t-0.125", "0.7\ta\t-0.125", r"line 10: the log10 probability '0.7' is above 0"),
        ("-0.7\ta\t-0.125", "nan\ta\t-0.125", r"line 10: 'nan' is no log10 probability"),
        ("-0.7\ta\t-0.125", "-0,7\ta\t-0.125", r"line 10: '-0,7' is no log10 probability"),
        ("-0.7\ta\t-0.125", "-0.7\ta\tinf", r"line 10: the back-off is 'inf', it must be finite"),
        ("-0.7\ta\t-0.125", "-0.7\ta\t1e99", r"line 10: the back-off is '1e99', it must be finite"),
        ("-0.7\ta\t-0.125", "-0.7\ta b c", r"line 10: '-0.7 a b c' is not a probability, 1 words"),
        ("-0.7\ta\t-0.125", "-0.7", r"line 10: '-0.7' is not a probability"),
        ("-0.7\ta\t-0.125", "-0.7\t<s>\t0", r"line 10: '<s>' is listed a second time"),
        ("-0.7\ta\t-0.125", "-0.7\t<UNK>\t0", r"line 10: '<UNK>' is listed a second time"),
        ("-0.5\ta a\t0", "-0.5\t<s> a\t0", r"line 14: this 2-gram is listed a second time"),
        ("-0.5\ta a\t0", "-0.5\ta\t0", r"line 14: 'a' is not among|line 14: .*the word '0' is not among"),
        ("-0.5\ta a\t0", "-0.5\ta zebra\t0", r"line 14: the word 'zebra' is not among the 1-grams"),
        ("-0.1\t<s> a a", "-0.1\ta a a\t-1", r"line 18: the back-off is '-1', none is possible for the longest"),
        ("-0.1\t<s> a a", "-0.1\t<s> </s> a", r"line 18: the first words of this 3-gram are no 2-gram"),
        ("\\3-grams:", "\\4-grams:", r"line 17: found b'\\\\4-grams:' where \\3-grams: starts"),
        ("\\end\\\n", "", r"found the end of the file where \\end\\"),
        ("\\end\\\n", "\\4-grams:\n", r"where \\end\\ is needed"),
        ("-99\t<s>\t-0.3", "-99\t<z>\t-0.3", "not among the 1-grams"),
    ],
)  # fmt: skip
def test_broken_arpa_files(tmp_path, old, new, message):
    assert old in ARPA
    with pytest.raises(CheckpointError, match=message) as raised:
        opened(tmp_path, ARPA.replace(old, new, 1))
    assert len(str(raised.value).splitlines()) == 1
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no line"),
        (ARPA.encode("utf-16"), "UTF-16"),
        (ARPA.replace("\ta", "\té").replace(" a", " é").encode("latin-1"), r"'\\xe9' near here is not UTF-8"),
        (gzip.compress(ARPA.encode())[:-20], "truncated or damaged"),
        (gzip.compress(ARPA.encode())[:60] + b"x" * 40, "truncated or damaged"),
        (b"\x1f\x8b", "truncated or damaged"),
        (bz2.compress(ARPA.encode())[:-20], "truncated or damaged"),
        (bz2.compress(ARPA.encode())[:60] + b"x" * 40, "truncated or damaged"),
        (lzma.compress(ARPA.encode())[:-20], "truncated or damaged"),
        (lzma.compress(ARPA.encode())[:30] + b"x" * 40, "truncated or damaged"),
        (b"blmt 3 ...", "IRSTLM"),
        (b"x" * 20_000_000, "longer than"),
        (gzip.compress(bytes(50_000_000)), "longer than"),
        (b"\n" * 5000, "no line"),
    ],
    ids=[
        "empty",
        "utf16",
        "latin1",
        "cut gzip",
        "damaged gzip",
        "gzip head",
        "cut bzip2",
        "damaged bzip2",
        "cut xz",
        "damaged xz",
        "irstlm",
        "one line",
        "bomb",
        "blank",
    ],
)
def test_no_arpa_files(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        opened(tmp_path, content)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "# made by hand\n\n" + text,
        lambda text: text.replace("\t<s> a", "  <s>   a"),
        lambda text: text.replace("ngram 1=4", "ngram  1 = 4"),
        lambda text: text.replace("-0.5\ta a\t0\n", "-0.5\ta a\t0\n\n"),
        lambda text: text.replace("-0.1\t<s> a a", "-0.1\t<s> a a\t0"),
        lambda text: text.replace("-99", "-inf"),
        lambda text: text.replace("-0.25\t", "-2.5e-1\t"),
        lambda text: text.replace("-0.25\t", "-0.250000000000000\t"),
        lambda text: text.replace("-1.5\t<unk>", "-1.5\t<UNK>"),
        lambda text: text.replace("\n\\", "\n\n \n\\"),
        lambda text: text.rstrip("\n"),
        lambda text: gzip.compress(text.encode()),
        lambda text: bz2.compress(text.encode()),
        lambda text: lzma.compress(text.encode()),
    ],
)
def test_unusual_arpa_files(tmp_path, change):
    usual = opened(tmp_path, ARPA)
    other = opened(tmp_path, change(ARPA))
    assert np.array_equal(other.data[22:], usual.data[22:])


def test_without_unknown_word(tmp_path):
    model = opened(tmp_path, ARPA.replace("-1.5\t<unk>\n", "").replace("ngram 1=4", "ngram 1=3"))
    assert model.word_scores(["b"], eos=False).tolist() == np.float32([-100.3]).tolist()
    assert model.unigrams == ["<unk>", "<s>", "</s>", "a"]


def test_words_keep_unusual_letters(tmp_path):
    """Only blanks and tabs part words; other white space belongs to them."""
    word = "\x0b\u00a0\u3000\u2028"
    model = opened(tmp_path, ARPA.replace("\ta", f"\t{word}").replace(" a", f" {word}"))
    assert model.word_scores([word, word], eos=False).tolist() == np.float32([-0.5, -0.1]).tolist()


class TestBinary:
    @pytest.fixture
    def content(self, tmp_path):
        (tmp_path / "source.arpa").write_text(ARPA)
        (tmp_path / "model.bin").touch()
        write_binary(tmp_path / "source.arpa", tmp_path / "model.bin")
        return (tmp_path / "model.bin").read_bytes()

    def test_opens_in_place(self, tmp_path, content):
        assert opened(tmp_path, content).word_scores(["a"]).tolist() == np.float32([-0.5, -0.5]).tolist()
        assert not [*(tmp_path / "cache").rglob("*.bin")]

    @pytest.mark.parametrize(
        ("place", "new", "message"),
        [
            (49, b"4", "version '4'"),
            (80, struct.pack(">Q", 1), "the other byte order"),
            (56, b"\1\1\1\1", "another kind"),
            (33, b" incomplete\n", "not finished"),
            (88, b"\0", "order 0"),
            (88, b"\xff", "order 255"),
            (92, struct.pack("<f", 0.5), "multiplier"),
            (92, struct.pack("<f", np.nan), "multiplier"),
            (92, struct.pack("<f", np.inf), "multiplier"),
            (96, struct.pack("<i", 1), "probing with rest costs.*build it again"),
            (96, struct.pack("<i", 77), "unknown kind 77"),
            (108, struct.pack("<Q", 2**63), "damaged"),
            (108, struct.pack("<Q", 2**64 - 1), "damaged"),
            (116, struct.pack("<Q", 200), "truncated"),
        ],
    )
    def test_wrong_headers(self, tmp_path, content, place, new, message):
        content = content[:place] + new + content[place + len(new) :]
        with pytest.raises(CheckpointError, match=message):
            opened(tmp_path, content)

    def test_truncated(self, tmp_path, content):
        for size in range(16, len(content), 3):
            try:
                model = opened(tmp_path, content[:size])
            except CheckpointError:
                continue
            with pytest.raises(CheckpointError, match="damaged or truncated"):
                _ = model.unigrams

    def test_words_without_a_unigram(self, tmp_path, content):
        array = np.frombuffer(content[: len(content) // 4 * 4], np.uint32).copy()
        model = opened(tmp_path, content)
        start = model.layout.vocabulary
        array[start + 2 : start + 3 * model.layout.vocabulary_buckets : 3] = 1_000_000
        with pytest.raises(CheckpointError, match="words without a unigram"):
            opened(tmp_path, array.tobytes() + content[len(array) * 4 :])

    def test_full_tables_end_a_search(self, tmp_path, content):
        """A table without an empty bucket is searched once around and no more."""
        array = np.frombuffer(content[: len(content) // 4 * 4], np.uint32).copy()
        model = opened(tmp_path, content)
        array[model.layout.vocabulary : model.layout.vocabulary + 3 * model.layout.vocabulary_buckets] |= 0x40000000
        array[model.layout.vocabulary + 2 : model.layout.offsets[0] : 3] = 1
        array[model.layout.offsets[1] : model.layout.end] |= 0x40000000
        full = opened(tmp_path, array.tobytes())
        assert len(full.word_scores(["a", "b", "a"])) == 4


@pytest.mark.parametrize("kind", ["arpa", "gzip", "binary"])
def test_mutated_files(tmp_path, kind):
    chance = random.Random(11)
    vocabulary = random_words(chance, 6)
    content = arpa_text(random_ngrams(chance, 3, vocabulary, 4), 3).encode()
    if kind == "gzip":
        content = gzip.compress(content)
    elif kind == "binary":
        (tmp_path / "source.arpa").write_bytes(content)
        (tmp_path / "model.bin").touch()
        write_binary(tmp_path / "source.arpa", tmp_path / "model.bin")
        content = (tmp_path / "model.bin").read_bytes()
    tracemalloc.start()
    fuzz(tmp_path, content, vocabulary, 250, seed=5)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200_000_000
