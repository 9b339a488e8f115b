"""Files of n-gram language models, and their estimation from text; decoding reads them through ``decoding.ngram``."""
