"""Training code shared by the back ends. Losses, gradients and optimizers are theirs, in ``wav2vec2_*.train``."""
