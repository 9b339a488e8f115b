"""Beam search over pieces of words, by trying every path."""

import itertools

import numpy as np

#: Name -> labels as models have them. Those of the first three close a word or may: ``▁⁇▁``, and ``▁`` in pyctcdecode.
CLOSING = {
    "both notations": ["<unk>", "▁", "##a", "##b", "a", "b"],
    "unknown": ["<unk>", "▁a", "a", "<pad>"],
    "lone mark": ["▁", "▁a", "a", "b", "<pad>"],
}
OPEN = {
    "continuations": ["a", "##a", "b", "##b", "[PAD]"],
    "special": ["<s>", "[CLS]", "a", "##a", "b", "[PAD]"],
    "starts": ["▁a", "▁b", "a", "b", "<pad>"],
}


def text_of(path, labels):
    """What a path of labels spells: ``▁`` before a label starts a word, after a label it ends one."""
    words, ended, last = [], True, None
    for label in (labels[index] for index in path):
        if label and label != last:
            if ended or label.startswith("▁"):
                words.append("")
            ended = len(label) > 1 and label.endswith("▁")
            words[-1] += label.strip("▁")
        last = label
    return " ".join(word for word in words if word)


def exact_best(logits, labels):
    """The best text and its log probability, of all paths."""
    scores = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    totals = {}
    for path in itertools.product(range(len(labels)), repeat=len(logits)):
        text = text_of(path, labels)
        totals[text] = np.logaddexp(totals.get(text, -np.inf), scores[range(len(path)), path].sum())
    return max(totals.items(), key=lambda item: item[1])


def noise(seed, frames, labels):
    """(frames, labels) logits."""
    return np.random.default_rng(seed).normal(0, 2, (frames, labels))


def peaks(seed, labels):
    """Logits with one likely label a frame, so that there is one beam."""
    random = np.random.default_rng(seed)
    frames = int(random.integers(1, 30))
    logits = np.full((frames, labels), -30.0)
    logits[np.arange(frames), random.integers(0, labels, frames)] = 0.0
    return logits
