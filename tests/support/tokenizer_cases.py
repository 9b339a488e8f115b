"""Random vocabularies, tokenizers and texts for the comparison with transformers."""

import json
import string
import warnings

import numpy as np
import transformers

from wav2vec2_core.tokenization import AddedToken, Wav2Vec2CTCTokenizer

ALPHABETS = [
    string.ascii_lowercase + "'-.,?!",
    string.ascii_uppercase + "'",
    "ßüñéèçøåıİğΣσςÀ",
    "абвгдеёжЖШ",
    "नमस्तेािक़",
    "日本語中文字",
    "e\u0301a\u0300o\u0308\u200d",
    "😀👍🏽𝄞",
    "0123456789<>[]#",
]
SPECIALS = {"bos_token": ("<s>", "[BOS]"), "eos_token": ("</s>", "[EOS]"), "unk_token": ("<unk>", "[UNK]", "?")}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Case:
    """One random tokenizer, made once by transformers and once by us, and texts that exercise it."""

    def __init__(self, seed, folder):
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.arguments = {}
        self.tokens = self._tokens()
        self.vocabulary = self._vocabulary(self.tokens)
        self.path = folder / "vocab.json"
        self.path.write_text(json.dumps(self.vocabulary, ensure_ascii=False), encoding="utf-8")
        self._options()

    def chance(self, probability):
        return bool(self.random.random() < probability)

    def pick(self, choices):
        return choices[int(self.random.integers(len(choices)))]

    def _tokens(self):
        letters = "".join(self.pick(ALPHABETS) for _ in range(int(self.random.integers(1, 3))))
        count = int(self.random.integers(3, 16))
        tokens = list(dict.fromkeys(self.pick(letters) for _ in range(count)))
        self.letters = list(tokens)
        for length in self.random.integers(2, 5, size=int(self.random.integers(0, 6))):
            tokens += ["".join(self.pick(self.letters) for _ in range(int(length)))]
        self.arguments["pad_token"] = self.pick(("<pad>", "[PAD]", "_", "<s>"))
        tokens.append(self.arguments["pad_token"])
        for name, choices in SPECIALS.items():
            self.arguments[name] = self.pick(choices)
            if self.chance(0.85) or name == "unk_token":
                tokens.append(self.arguments[name])
        delimiter = self.pick(("|", "|", "|", " ", "▁", "<sp>"))
        self.arguments["word_delimiter_token"] = delimiter
        if self.chance(0.9):
            tokens.append(delimiter)
        return list(dict.fromkeys(tokens))

    def _vocabulary(self, tokens):
        ids = np.arange(len(tokens) + (int(self.random.integers(1, 9)) if self.chance(0.3) else 0))
        ids = self.random.permutation(ids)[: len(tokens)]
        return {token: int(index) for token, index in zip(tokens, ids, strict=True)}

    def _options(self):
        options = {
            "do_lower_case": (True,),
            "replace_word_delimiter_char": ("_", "", "|"),
            "model_max_length": (4, 9),
            "padding_side": ("left", "right"),
            "truncation_side": ("left", "right"),
            "clean_up_tokenization_spaces": (True, False),
            "split_special_tokens": (True,),
            "mask_token": ("<mask>",),
        }
        for name, values in options.items():
            if self.chance(0.2):
                self.arguments[name] = self.pick(values)
        if any(letter.isupper() for letter in self.letters) and self.chance(0.4):
            self.arguments["do_lower_case"] = True
        if self.chance(0.3):
            self.arguments["additional_special_tokens"] = ["<x>", self.pick(self.tokens)]

    def make(self):
        """The tokenizer of transformers and ours, with the same tokens added to both."""
        theirs = transformers.Wav2Vec2CTCTokenizer(str(self.path), **self.arguments)
        ours = Wav2Vec2CTCTokenizer(str(self.path), **self.arguments)
        for _ in range(int(self.random.integers(0, 3))):
            self._add(theirs, ours)
        return theirs, ours

    def _add(self, theirs, ours):
        contents = list({self._new_token(): None for _ in range(int(self.random.integers(1, 3)))})
        self.tokens += [content for content in contents if content not in self.tokens]
        if self.chance(0.3):
            name = self.pick(("pad_token", "mask_token", "cls_token", "additional_special_tokens"))
            value = contents if name == "additional_special_tokens" else contents[0]
            replace = self.chance(0.5)
            counts = [
                t.add_special_tokens({name: value}, replace_additional_special_tokens=replace) for t in (theirs, ours)
            ]
        elif self.chance(0.5):
            special = self.chance(0.3)
            counts = [t.add_tokens(contents, special_tokens=special) for t in (theirs, ours)]
        else:
            flags = [{name: self.chance(0.4) for name in FLAGS} for _ in contents]
            pairs = list(zip(contents, flags, strict=True))
            counts = [
                theirs.add_tokens([transformers.AddedToken(text, **flag) for text, flag in pairs]),
                ours.add_tokens([AddedToken(text, **flag) for text, flag in pairs]),
            ]
        assert counts[0] == counts[1]

    def _new_token(self):
        if self.chance(0.15):
            return self.pick(self.tokens)
        text = "".join(self.pick(self.letters) for _ in range(int(self.random.integers(1, 4))))
        return text if self.chance(0.6) else f"<{text}>"

    def text(self):
        """Letters, tokens, white space of all kinds and what is in no vocabulary."""
        parts = []
        for _ in range(int(self.random.integers(0, 12))):
            kind = self.random.random()
            if kind < 0.5:
                parts.append(self.pick(self.letters))
            elif kind < 0.75:
                parts.append(self.pick(self.tokens))
            elif kind < 0.92:
                parts.append(self.pick((" ", " ", "  ", "\n", "\t", "\u00a0")))
            else:
                parts.append(self.pick(("Z", "ß", "İ", "|", "@", "é", "ΟΔΟΣ")))
        return "".join(parts)

    def ids(self):
        """A row of ids with repeats, blanks and now and then an id outside of the vocabulary."""
        known = list(self.vocabulary.values())
        row = []
        for _ in range(int(self.random.integers(0, 20))):
            index = self.pick(known) if self.chance(0.9) else int(self.random.integers(-2, len(known) + 12))
            row += [index] * int(self.random.integers(1, 4))
            if self.chance(0.3):
                row.append(self.vocabulary[self.arguments["pad_token"]])
        return row


def outcome(function):
    """What a call returns, or the exception that it raises; warnings are not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function()
        except Exception as error:
            return error


def same_split_as_longest_match(theirs, text):
    """Whether transformers cut ``text`` at the leftmost and longest tokens.

    Its splitter now and then keeps a half-matched token alive past a character that does not belong to it, and then
    returns a stretch that is no token. These texts are left out of the comparison.
    """
    if theirs.do_lower_case:
        return all(same for same in (_longest(theirs, variant) for variant in {text, text.lower()}))
    return _longest(theirs, text)


def _longest(theirs, text):
    tokens = sorted(theirs.tokens_trie._tokens, key=len, reverse=True)
    cuts, start, position = [], 0, 0
    while position < len(text):
        token = next((token for token in tokens if token and text.startswith(token, position)), None)
        if token is None:
            position += 1
            continue
        cuts += [text[start:position], token]
        start = position = position + len(token)
    cuts.append(text[start:])
    return [cut for cut in cuts if cut] == [cut for cut in theirs.tokens_trie.split(text) if cut]


def flags(decoder):
    """Id -> content and flags of an added token."""
    return {index: tuple(getattr(token, name) for name in ("content", *FLAGS)) for index, token in decoder.items()}


def plain(value):
    """Arrays as lists with their type, so that they can be compared."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.kind, [plain(row) for row in value] if value.dtype == object else value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {name: plain(item) for name, item in value.items()}
    return value
