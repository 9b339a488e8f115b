"""N-gram language models: reading and scoring their files, and estimating them from text."""
