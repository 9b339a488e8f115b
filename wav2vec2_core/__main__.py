"""``python -m wav2vec2_core``: the ``wav2vec2`` command, for launchers that start modules."""

from wav2vec2_core.cli import main

if __name__ == "__main__":
    main()
