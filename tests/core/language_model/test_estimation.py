"""Kneser-Ney estimates against the formulas of Chen and Goodman written down by the book, in double precision."""

import gzip
import io
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from wav2vec2_core.errors import CheckpointError, InputError, OutputError
from wav2vec2_core.language_model import estimation
from wav2vec2_core.language_model.estimation import estimate
from wav2vec2_core.language_model.kneser_ney import discounts_of
from wav2vec2_core.language_model.ngram import NgramModel

FALLBACK = (0.5, 1.0, 1.5)


class ByTheBook:
    """All n-grams in dictionaries. ``p(ngram)``: interpolated probability of its last word; ``gamma(context)``."""

    def __init__(self, sentences, order, thresholds, allowed=None):
        self.order = order
        occurrences = Counter()
        for sentence in sentences:
            said = ["<s>", *sentence, "</s>"]
            for end in range(2, len(said) + 1):
                for size in range(1, min(order, end) + 1):
                    occurrences[tuple(said[end - size : end])] += 1
        before = defaultdict(set)
        for ngram in occurrences:
            if len(ngram) > 1:
                before[ngram[1:]].add(ngram[0])
        words = {word for ngram in occurrences for word in ngram} | {"<unk>", "<s>", "</s>"}
        ok = words if allowed is None else words & ({"<unk>", "<s>", "</s>"} | set(allowed))
        self.words = ok
        self.counts = {
            ngram: number if len(ngram) == order or ngram[0] == "<s>" else len(before[ngram])
            for ngram, number in occurrences.items()
        }
        self.kept = {
            ngram for ngram, number in occurrences.items()
            if number > thresholds[len(ngram) - 1] and set(ngram) <= ok
        }  # fmt: skip
        self.discounts = [self.discount(size) for size in range(1, order + 1)]
        self.after = defaultdict(list)
        for ngram in self.counts:
            self.after[ngram[:-1]].append(ngram)

    def discount(self, size):
        n = [sum(c == k for ngram, c in self.counts.items() if len(ngram) == size) for k in range(5)]
        if 0 in n[1:4]:
            return (0, *FALLBACK)
        y = n[1] / (n[1] + 2 * n[2])
        found = [0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
        return tuple(found) if all(0 <= d <= k for k, d in enumerate(found)) else (0, *FALLBACK)

    def total(self, context):
        return sum(self.counts[ngram] for ngram in self.after[context])

    def gamma(self, context):
        following = self.after.get(context, [])
        if not following:
            return 1.0
        left = sum(
            self.discounts[len(context)][min(self.counts[ngram], 3)] if ngram in self.kept else self.counts[ngram]
            for ngram in following
        )
        return left / self.total(context)

    def p(self, ngram):
        if ngram == ("<s>",):
            return 1.0
        lower = self.p(ngram[1:]) if len(ngram) > 1 else 1 / (len(self.words) - 1)
        count = self.counts.get(ngram, 0)
        kept = ngram in self.kept
        own = (count - self.discounts[len(ngram) - 1][min(count, 3)]) / self.total(ngram[:-1]) if kept else 0.0
        return own + self.gamma(ngram[:-1]) * lower


def arpa(path):
    """n-gram -> (probability, back-off or None), as numbers."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    return {
        tuple(line[1].split(" ")): [10 ** float(x) for x in (line[0], *line[2:])] for line in lines if len(line) > 1
    }


def sentences_of(seed, words=12, count=150):
    chance = random.Random(seed)
    names = [f"w{number}é" for number in range(words)]
    weights = [1 / (place + 1) for place in range(words)]
    return [chance.choices(names, weights, k=chance.randrange(0, 9)) for _ in range(count)]


def text_of(sentences):
    return "".join(" ".join(sentence) + "\n" for sentence in sentences)


def written(tmp_path, sentences, name="text.txt"):
    path = tmp_path / name
    content = text_of(sentences).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("partitions", [1, 7])
@pytest.mark.parametrize(
    ("order", "prune", "allowed"),
    [
        (1, (), None),
        (2, (), None),
        (3, (), None),
        (4, (0, 0, 1), None),
        (3, (0, 1, 2), None),
        (5, (), None),
        (3, (), ["w0é", "w1é", "w2é", "w7é", "not-there"]),
    ],
)
def test_probabilities_by_the_book(tmp_path, monkeypatch, order, prune, allowed, partitions):
    sentences = sentences_of(order)
    source = written(tmp_path, sentences)
    thresholds = (*prune, *([prune[-1] if prune else 0] * (order - len(prune))))
    book = ByTheBook(sentences, order, thresholds, allowed)
    vocabulary = None
    if allowed:
        vocabulary = tmp_path / "words.txt"
        vocabulary.write_text(" ".join(allowed[:2]) + "\n" + " ".join(allowed[2:]), encoding="utf-8")
    if partitions > 1:
        tokens = sum(len(sentence) + 1 for sentence in sentences)
        monkeypatch.setattr(estimation, "BYTES_PER_NGRAM", estimation.MIN_MEMORY * partitions // tokens)
    made = estimate(
        [source], tmp_path / "m.arpa", order=order, prune=prune, vocabulary=vocabulary,
        discount_fallback=FALLBACK, memory=estimation.MIN_MEMORY,
    )  # fmt: skip
    found = arpa(tmp_path / "m.arpa")
    assert set(found) == book.kept | {(word,) for word in book.words}
    assert made.sizes == tuple(sum(len(ngram) == size for ngram in found) for size in range(1, order + 1))
    np.testing.assert_allclose(made.discounts, book.discounts, rtol=1e-5, atol=1e-6)
    for ngram, (probability, *backoff) in found.items():
        assert probability == pytest.approx(book.p(ngram), rel=3e-5)
        assert len(backoff) == (len(ngram) < order)
        if backoff:
            ends = ngram[-1] in ("</s>", "<unk>")
            assert backoff[0] == pytest.approx(1.0 if ends else book.gamma(ngram), rel=3e-5)


def test_probabilities_sum_to_one(tmp_path):
    estimate([written(tmp_path, sentences_of(0))], tmp_path / "m.bin", order=3, discount_fallback=FALLBACK)
    model = NgramModel.open(tmp_path / "m.bin")
    assert model.unigrams is not None
    for context in ([], ["w0é"], ["w0é", "w1é"], ["w3é", "w3é"], ["nowhere"], ["w1é", "nowhere", "w0é"]):
        each = [10.0 ** model.word_scores([*context, word], eos=False)[-1] for word in model.unigrams if word != "<s>"]
        assert sum(each) == pytest.approx(1, abs=1e-5)


def test_inputs_and_outputs(tmp_path):
    sentences = sentences_of(1)
    parts = [written(tmp_path, sentences[:70], "a.txt"), written(tmp_path, sentences[70:], "b.txt.gz")]
    whole = written(tmp_path, sentences)
    steps = []
    estimate(
        parts, tmp_path / "parts.arpa.gz", order=3, discount_fallback=FALLBACK, progress=lambda *at: steps.append(at)
    )
    estimate([io.BytesIO(whole.read_bytes())], tmp_path / "stream.arpa", order=3, discount_fallback=FALLBACK)
    assert arpa(tmp_path / "parts.arpa.gz") == arpa(tmp_path / "stream.arpa")
    assert {step for step, _ in steps} == {"reading", "counting", "sorting", "smoothing", "writing"}
    assert all(0 <= part <= 1 for _, part in steps)
    assert steps[-1] == ("writing", 1.0)


def test_lines_however_they_end(tmp_path):
    lines = ["a b", "", "  c\ta ", "b a"]
    for name, end in (("unix", "\n"), ("windows", "\r\n")):
        (tmp_path / name).write_bytes(end.join(lines).encode())
        estimate([tmp_path / name], tmp_path / f"{name}.arpa", order=2, discount_fallback=FALLBACK)
    assert (tmp_path / "unix.arpa").read_bytes() == (tmp_path / "windows.arpa").read_bytes()
    assert ("<s>", "</s>") in arpa(tmp_path / "unix.arpa")


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        (b"a b\nc <s> d\n", {}, InputError, r"line 2: <s> is a symbol of the model"),
        (b"a <unk>", {}, InputError, r"line 1: <unk> is a symbol"),
        (b"a b\nb \xff a\n", {}, CheckpointError, "line 2: the text is not UTF-8"),
        (b"", {}, InputError, "no words"),
        (b"\n\n", {}, InputError, "no words"),
        (b"a b c\n", {}, InputError, r"no 1-gram has the adjusted count 2.*--discount-fallback"),
        (b"a b\n", {"order": 0}, InputError, "order is 0"),
        (b"a b\n", {"order": 99}, InputError, "order is 99"),
        (b"a b\n", {"prune": (1,)}, InputError, "first value is 0"),
        (b"a b\n", {"prune": (0, 2, 1)}, InputError, "no value is below"),
        (b"a b\n", {"prune": (0, 0, 0, 0)}, InputError, "4 values for the order 3"),
        (b"a b\n", {"memory": 5}, InputError, "memory is 5 bytes"),
        (b"a b\n", {"discount_fallback": (0.5, 1.0, 4.0)}, InputError, "D3 0 and 3"),
        (b"\x1f\x8b\x08nonsense", {}, CheckpointError, "truncated or damaged"),
    ],
)
def test_what_cannot_be_estimated(tmp_path, text, options, error, message):
    (tmp_path / "text").write_bytes(text)
    output = tmp_path / "m.arpa"
    output.write_text("what was there")
    with pytest.raises(error, match=message):
        estimate([tmp_path / "text"], output, **{"order": 3, **options})
    assert output.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.arpa", "text"]


def test_missing_files(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        estimate([tmp_path / "none"], tmp_path / "m.arpa", order=2)
    source = written(tmp_path, sentences_of(0))
    with pytest.raises(OutputError, match="cannot write"):
        estimate([source], tmp_path / "none" / "m.arpa", order=2)
    with pytest.raises(OutputError, match="cannot create folder"):
        estimate([source], tmp_path / "m.arpa", order=2, temporary=source / "none")
    (tmp_path / "words").write_text("other words")
    with pytest.raises(InputError, match=r"no word of .* is in the text"):
        estimate([source], tmp_path / "m.arpa", order=2, vocabulary=tmp_path / "words", discount_fallback=FALLBACK)


def test_symbols_can_be_skipped(tmp_path):
    (tmp_path / "with").write_text("a <s> b\n<unk> b a </s>\n<s>x b")
    (tmp_path / "without").write_text("a b\nb a\n<s>x b")
    for name in ("with", "without"):
        estimate([tmp_path / name], tmp_path / f"{name}.arpa", order=2, discount_fallback=FALLBACK, skip_symbols=True)
    assert (tmp_path / "with.arpa").read_bytes() == (tmp_path / "without.arpa").read_bytes()


def test_discounts_of_strange_counts():
    assert discounts_of(np.array([10, 5, 3, 2]), 2, None) == pytest.approx([0, 0.5, 1.1, 5 / 3], rel=1e-6)
    with pytest.raises(InputError, match="the discount of 2-grams with the adjusted count 2 would be -28"):
        discounts_of(np.array([10, 5, 100, 2]), 2, None)
    assert discounts_of(np.array([10, 5, 100, 2]), 2, FALLBACK).tolist() == [0, *FALLBACK]
