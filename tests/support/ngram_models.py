"""Random ARPA files, and an n-gram model that is nothing but a dictionary."""

import numpy as np

ALPHABETS = ("abcdefg", "äßéñ", "абвгд", "日本語", "🙂x'-")


def random_words(random, count):
    words = set()
    while len(words) < count:
        letters = random.choice(ALPHABETS)
        words.add("".join(random.choice(letters) for _ in range(random.randrange(1, 20))))
    return sorted(words)


def random_ngrams(random, order, words, sentences=30):
    """(words) -> (probability, back-off): the n-grams of some sentences, without some and all that hold those."""
    ngrams = {(word,): values(random) for word in ["<unk>", "<s>", "</s>", *words]}
    for _ in range(sentences):
        said = ["<s>", *(random.choice(words) for _ in range(random.randrange(0, 9))), "</s>"]
        for size in range(2, order + 1):
            for start in range(len(said) - size + 1):
                ngrams[tuple(said[start : start + size])] = values(random)
    pruned = {ngram for ngram in ngrams if len(ngram) > 1 and random.random() < 0.2}
    return {
        ngram: found
        for ngram, found in ngrams.items()
        if not any(ngram[i:j] in pruned for i in range(len(ngram)) for j in range(i + 2, len(ngram) + 1))
    }


def values(random):
    probability = random.choice([-99, 0, round(-random.random() * 6, random.randrange(0, 10)), -random.random()])
    return probability, random.choice([None, 0, round(random.uniform(-2, 1), 5)])


def drop_endings(random, ngrams, part=0.3):
    """Leave out n-grams that others end in, as entropy pruning does; those that others begin with stay."""
    contexts = {ngram[:-1] for ngram in ngrams}
    dropped = [ngram for ngram in ngrams if len(ngram) > 1 and ngram not in contexts and random.random() < part]
    # The probability of an ending that is put back stays below 1, as in models of text.
    return {
        ngram: (probability, backoff and -abs(backoff))
        for ngram, (probability, backoff) in ngrams.items()
        if ngram not in dropped
    }


def arpa_text(ngrams, order, random=None):
    lines = ["\\data\\"]
    sections = [[ngram for ngram in ngrams if len(ngram) == size] for size in range(1, order + 1)]
    lines += [f"ngram {size}={len(section)}" for size, section in enumerate(sections, 1)]
    for size, section in enumerate(sections, 1):
        if random:
            random.shuffle(section)
        lines += ["", f"\\{size}-grams:"]
        for ngram in section:
            probability, backoff = ngrams[ngram]
            weight = "" if backoff is None or size == order else f"\t{backoff}"
            lines.append(f"{probability}\t{' '.join(ngram)}{weight}")
    return "\n".join([*lines, "", "\\end\\", ""])


class DictionaryModel:
    """Backs off by the book; float32, a sum's terms in KenLM's order."""

    def __init__(self, ngrams, order):
        self.order = order
        self.ngrams = {
            ngram: (np.float32(probability), np.float32(backoff or 0))
            for ngram, (probability, backoff) in ngrams.items()
        }

    def score(self, context, word):
        """log10 probability of ``word`` after the words ``context``, oldest first."""
        if (word,) not in self.ngrams:
            word = "<unk>"
        context = tuple(w if (w,) in self.ngrams else "<unk>" for w in context)[max(0, len(context) - self.order + 1) :]
        sizes = [size for size in range(len(context) + 1) if (*context[len(context) - size :], word) in self.ngrams]
        longest = sizes[-1]
        total = self.ngrams[(*context[len(context) - longest :], word)][0]
        for size in range(longest + 1, len(context) + 1):
            found = self.ngrams.get(context[len(context) - size :])
            if found is None:
                break
            total = np.float32(total + found[1])
        return total
