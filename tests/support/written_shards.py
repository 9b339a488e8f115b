"""Tars as users have them, for tests of shards."""

import io
import json
import tarfile

import numpy as np
import soundfile


def sound(seconds=0.5, rate=16_000, seed=0, format="FLAC"):
    """The bytes of a recording of noise."""
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=format)
    return content.getvalue()


def write_tar(path, files, format=tarfile.GNU_FORMAT, **attributes):
    """Write a tar of name -> bytes; its path."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_shard(path, count, first=0, **options):
    """Write a shard of ``count`` samples with texts and speakers; its path."""
    files = {}
    for number in range(first, first + count):
        files[f"{number:04d}.flac"] = sound(seed=number)
        files[f"{number:04d}.txt"] = f"text {number}".encode()
        files[f"{number:04d}.json"] = json.dumps({"text": "other", "speaker": f"s{number % 3}"}).encode()
    return write_tar(path, files, **options)
