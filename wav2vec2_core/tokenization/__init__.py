"""The CTC tokenizer: converts text to labels and tokens to text, and reads and writes vocabulary files."""

from wav2vec2_core.tokenization.added_tokens import AddedToken
from wav2vec2_core.tokenization.building import TextVocabulary, build_vocabulary
from wav2vec2_core.tokenization.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2_core.tokenization.tokenizer import Wav2Vec2CTCTokenizer, Wav2Vec2CTCTokenizerOutput
from wav2vec2_core.tokenization.vocabulary import is_nested

__all__ = [
    "AddedToken",
    "TextVocabulary",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2CTCTokenizerOutput",
    "Wav2Vec2PhonemeCTCTokenizer",
    "build_vocabulary",
    "is_nested",
]
