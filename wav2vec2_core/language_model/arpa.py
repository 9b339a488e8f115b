"""Reading ARPA files, plain or gzipped, in blocks of lines, column by column, with every line validated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wav2vec2_core.language_model.kenlm_binary import MAX_ORDER, MAX_WORDS
from wav2vec2_core.language_model.line_blocks import LineBlocks
from wav2vec2_core.language_model.probing import find_many, hash_words
from wav2vec2_core.language_model.spans import Spans

#: Lines to search for ``\data\``; toolkits write a few comments before it.
MAX_PREAMBLE = 1000
#: The value that toolkits write for log 0; ``-inf`` is read as this.
LOG_ZERO = np.float32(-99)
#: log10 probability of the unknown word where the file has none.
MISSING_UNKNOWN = np.float32(-100)
UNKNOWN_WORDS, BEGIN_WORD, END_WORD = (b"<unk>", b"<UNK>"), b"<s>", b"</s>"
UNKNOWN_HASHES = hash_words(UNKNOWN_WORDS)
COUNT_LINE = re.compile(rb"\s*ngram\s+(\d{1,3})\s*=\s*(\d{1,19})\s*")
BLANKS = re.compile(rb"[ \t]+")
TAB, NEWLINE, RETURN, BLANK = 9, 10, 13, 32


@dataclass(frozen=True)
class NgramBlock:
    """Some n-grams of one order. ids: (ngrams, order) uint32, oldest word first; the other arrays (ngrams,) float32.

    first_line: line number in the file, for messages. A missing back-off is stored as -0.0.
    """

    ids: np.ndarray
    probabilities: np.ndarray
    backoffs: np.ndarray
    first_line: int


class ArpaReader:
    """Reads an ARPA file from top to bottom: ``counts``, ``unigrams()``, ``ngrams(2)`` and so on, then ``finish()``.

    Every method raises ``CheckpointError`` with the number of the line that is invalid.
    """

    def __init__(self, lines: LineBlocks) -> None:
        """Read the counts; counts that are impossible for the size of the file are refused."""
        self._lines = lines
        self.counts = self._read_counts()
        self.order = len(self.counts)

    def _read_counts(self) -> tuple[int, ...]:
        lines = self._lines
        for number in range(MAX_PREAMBLE):
            line = lines.next_line()
            if line is None:
                break
            if number == 0:
                self._check_kind(line)
            if line.removeprefix(b"\xef\xbb\xbf").strip() == b"\\data\\":
                return self._count_lines()
        return lines.fail("no line \\data\\ so far", "this is no ARPA file, name one", 1)

    def _check_kind(self, line: bytes) -> None:
        if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self._lines.fail("the text is UTF-16", "save the file as UTF-8", 1)
        if line[:4] == b"blmt" or line.strip() == b"iARPA":
            self._lines.fail("this is a file of IRSTLM", "convert it with compile-lm --text=yes", 1)

    def _count_lines(self) -> tuple[int, ...]:
        lines, counts = self._lines, []
        for block in lines.blocks(b"\\"):
            for line in block.split(b"\n")[:-1]:
                matched = COUNT_LINE.fullmatch(line)
                if matched:
                    if int(matched[1]) != len(counts) + 1 or len(counts) == MAX_ORDER:
                        lines.fail(f"{line!r:.100} is not the count of order {len(counts) + 1}", "restore the counts")
                    counts.append(int(matched[2]))
                elif line.strip():
                    lines.fail(f"{line[:60]!r:.100} is not a line like 'ngram 1=1000'", "restore the counts")
                lines.line += 1
        if not counts:
            lines.fail("there is no line like 'ngram 1=1000' after \\data\\", "restore the counts")
        # The shortest line of order n is a digit, a tab, n letters with n - 1 blanks between them, and a newline.
        needed = sum(count * (2 * size + 2) for size, count in enumerate(counts, 1))
        if needed > lines.text_size or counts[0] > MAX_WORDS:
            lines.fail(f"the counts {counts} are more than a file of {lines.size} bytes can hold", "restore the counts")
        return tuple(counts)

    def unigrams(self) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        """Words of ids 1, 2, ...; probabilities and back-offs of ids 0, 1, 2, ..., float32.

        Id 0 is the unknown word, with ``MISSING_UNKNOWN`` if the file has none.
        """
        seen: dict[bytes, None] = {}
        columns = [(np.array([MISSING_UNKNOWN]), np.zeros(1, np.float32))]
        unknown_seen = False
        for block in self._rows(1):
            words = block.words()
            keep = np.ones(len(words), bool)
            for row, word in enumerate(words):
                known = unknown_seen if word in UNKNOWN_WORDS else word in seen
                if known:
                    self._lines.fail(f"{_text([word])} is listed a second time", "remove one", block.first_line + row)
                if word in UNKNOWN_WORDS:
                    unknown_seen, keep[row] = True, False
                    columns[0] = (block.probabilities[row : row + 1], block.backoffs[row : row + 1])
                else:
                    seen[word] = None
            self._check_encoding(words, block.first_line)
            columns.append((block.probabilities[keep], block.backoffs[keep]))
        if BEGIN_WORD not in seen or END_WORD not in seen:
            self._lines.fail("<s> or </s> is not among the 1-grams", "estimate the model with sentence borders")
        probabilities, backoffs = zip(*columns, strict=True)
        return list(seen), np.concatenate(probabilities), np.concatenate(backoffs)

    def _check_encoding(self, words: list[bytes], line: int) -> None:
        try:
            b" ".join(words).decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = error.object[: error.start].rpartition(b" ")[2] + error.object[error.start :].partition(b" ")[0]
            self._lines.fail(f"the word {wrong!r} near here is not UTF-8", "convert the file with iconv -t UTF-8", line)

    def ngrams(self, order: int, vocabulary: np.ndarray) -> Iterator[NgramBlock]:
        """The n-grams of one order, 2 or more, in file order.

        vocabulary: (buckets, 3) uint32, hash table of word ids.
        """
        for block in self._rows(order):
            hashes = block.text.hashes(block.starts.ravel(), block.lengths.ravel())
            rows = find_many(vocabulary, hashes)
            ids = np.where(rows < 0, 0, vocabulary[rows, 2])
            strange = (rows < 0) & ~np.isin(hashes, UNKNOWN_HASHES)
            if strange.any():
                place = int(strange.argmax())
                word = _text([block.words()[place]])
                self._lines.fail(
                    f"the word {word} is not among the 1-grams", "add it there", block.first_line + place // order
                )
            yield NgramBlock(ids.reshape(-1, order), block.probabilities, block.backoffs, block.first_line)

    def finish(self) -> None:
        """Check the end of the file."""
        line = self._lines.next_line()
        while line is not None and not line.strip():
            line = self._lines.next_line()
        if line is None or line.strip() != b"\\end\\":
            found = "the end of the file" if line is None else repr(line[:60])
            self._lines.fail(f"found {found} where \\end\\ is needed", "the file is truncated, copy or build it again")

    def _rows(self, order: int) -> Iterator[_Rows]:
        """Yield the section of one order, with as many rows as the counts state."""
        lines = self._lines
        header = lines.next_line()
        while header is not None and not header.strip():
            header = lines.next_line()
        expected = b"\\%d-grams:" % order
        if header is None or header.strip() != expected:
            found = "the end of the file" if header is None else repr(header[:60])
            lines.fail(f"found {found} where {expected.decode()} starts", "restore the section", lines.line - 1)
        count = 0
        for block in lines.blocks(b"\\"):
            text = block.rstrip(b"\n \t\r")
            if text:
                rows = _parse(text, order, order == self.order, lines.line) or self._parse_carefully(text, order)
                count += len(rows.starts)
                yield rows
            lines.line += block.count(b"\n")
        if count != self.counts[order - 1]:
            lines.fail(
                f"{count} {order}-grams end here, the header names {self.counts[order - 1]}",
                "the file is truncated or damaged, copy or build it again",
            )

    def _parse_carefully(self, text: bytes, order: int) -> _Rows:
        """Parse line by line, to name the first invalid line, or to normalize unusual but valid ones."""
        usual = []
        for number, line in enumerate(text.split(b"\n"), self._lines.line):
            tokens = [token for token in BLANKS.split(line.strip(b" \t\r")) if token]
            if tokens:
                self._check_line(tokens, order, number)
                # A back-off after an n-gram of the highest order is meaningless: ignore it.
                usual.append(b"\t".join(tokens[: order + 1] if order == self.order else tokens))
        rows = _parse(b"\n".join(usual), order, order == self.order, self._lines.line) if usual else None
        if rows is None:
            self._lines.fail("the lines from here on hold control characters", "mend them")
        return rows

    def _check_line(self, tokens: list[bytes], order: int, number: int) -> None:
        if len(tokens) not in (order + 1, order + 2):
            self._lines.fail(
                f"{_text(tokens)} is not a probability, {order} words and perhaps a back-off", "mend the line", number
            )
        if self._number(tokens[0], "log10 probability", number) > 0:
            self._lines.fail(
                f"the log10 probability {_text(tokens[:1])} is above 0", "estimate the model again", number
            )
        if len(tokens) == order + 2:
            backoff = self._number(tokens[-1], "back-off", number)
            if (order == self.order and backoff != 0) or not np.isfinite(_float32(np.array(backoff))):
                rule = "none is possible for the longest n-grams" if order == self.order else "it must be finite"
                self._lines.fail(f"the back-off is {_text(tokens[-1:])}, {rule}", "mend the line", number)

    def _number(self, token: bytes, what: str, line: int) -> float:
        try:
            value = float(token)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            self._lines.fail(f"{_text([token])} is no {what}", "mend the line", line)
        return value


@dataclass(frozen=True)
class _Rows:
    """Rows of a section. starts, lengths: (rows, order) int64, of words in ``text``; others as in ``NgramBlock``."""

    text: Spans
    starts: np.ndarray
    lengths: np.ndarray
    probabilities: np.ndarray
    backoffs: np.ndarray
    first_line: int

    def words(self) -> list[bytes]:
        """All words, row by row."""
        letters = self.text.letters.tobytes()
        ends = (self.starts + self.lengths).ravel().tolist()
        return [letters[start:end] for start, end in zip(self.starts.ravel().tolist(), ends, strict=True)]


def _parse(text: bytes, order: int, longest: bool, first_line: int) -> _Rows | None:
    """Parse lines in the usual format of toolkits; returns None if anything is unusual."""
    spans = Spans(text)
    letters = spans.letters[: len(text)]
    breaks = np.flatnonzero(letters <= BLANK)
    kinds = letters[breaks]
    others = ~((kinds == BLANK) | (kinds == TAB) | (kinds == NEWLINE))  # word characters, or carriage returns and zeros
    if others.any():
        if np.isin(kinds[others], (0, RETURN)).any():
            return None
        breaks, kinds = breaks[~others], kinds[~others]
    starts = np.concatenate([[0], breaks + 1])
    lengths = np.append(breaks, len(text)) - starts
    last = np.append(np.flatnonzero(kinds == NEWLINE), len(breaks))  # token of each line
    sizes = np.diff(last, prepend=-1)
    with_backoff = sizes == order + 2
    if (longest and with_backoff.any()) or not (with_backoff | (sizes == order + 1)).all() or (lengths == 0).any():
        return None
    first = last - sizes + 1
    backoffs = np.full(len(first), -0.0, np.float32)
    try:
        probabilities = _float32(spans.numbers(starts[first], lengths[first]))
        weighted = last[with_backoff]
        backoffs[with_backoff] = _float32(spans.numbers(starts[weighted], lengths[weighted]))
    except ValueError:
        return None
    backoffs[backoffs == 0] = -0.0
    probabilities[probabilities == -np.inf] = LOG_ZERO
    if not ((probabilities <= 0).all() and np.isfinite(backoffs).all()):
        return None
    words = first[:, None] + np.arange(1, order + 1)
    return _Rows(spans, starts[words], lengths[words], probabilities, backoffs, first_line)


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _text(tokens: list[bytes]) -> str:
    """The tokens of a line, for a message."""
    return repr(b" ".join(tokens).decode("utf-8", "replace")[:80])
