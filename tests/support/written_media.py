"""Recordings in every container that soundfile and PyAV write, for tests that must not need ffmpeg's command."""

import io

import numpy as np
import soundfile

RATE = 16_000
#: name -> (container, codec) of PyAV.
MEDIA = {
    "m4a": ("mp4", "aac"),
    "mov": ("mov", "pcm_s16le"),
    "fragmented mp4": ("mp4", "aac"),
    "mkv": ("matroska", "aac"),
    "mka flac": ("matroska", "flac"),
    "webm": ("webm", "libopus"),
    "ts": ("mpegts", "aac"),
    "avi": ("avi", "mp3"),
    "wma": ("asf", "wmav2"),
    "flv": ("flv", "aac"),
    "aac": ("adts", "aac"),
    "ac3": ("ac3", "ac3"),
    "mp2": ("mp2", "mp2"),
}
#: Kinds whose encoders know few rates.
FEW_RATES = {"ac3": 48_000, "wma": 44_100}
#: name -> format and subtype of soundfile.
SOUND = {
    "wav": ("WAV", "PCM_16"),
    "float wav": ("WAV", "FLOAT"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def tone(seconds=1.0, rate=RATE, frequency=440.0, seed=0):
    """(samples,) float32: a tone with a little noise, so that no two places are alike."""
    time = np.arange(round(rate * seconds)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return (0.4 * np.sin(2 * np.pi * frequency * time) + noise).astype(np.float32)


def write_sound(samples, kind="wav", rate=RATE):
    """The bytes of a file that soundfile writes."""
    file = io.BytesIO()
    form, subtype = SOUND[kind]
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def write_media(samples, kind="m4a", rate=RATE, *, late=0.0, layout=None, languages=("",), video=0.0):
    """The bytes of a file that PyAV writes.

    ``samples``: (samples,) or (channels, samples) float32; ``late``: seconds after which the sound begins;
    ``languages``: a track for each; ``video``: seconds of a picture beside the sound.
    """
    import av

    form, codec = MEDIA[kind]
    file = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"} if kind.startswith("fragmented") else {}
    samples = np.atleast_2d(samples)
    with av.open(file, "w", format=form, options=options) as container:
        if video:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        tracks = []
        for language in languages:
            track = container.add_stream(codec, rate=rate, layout=layout or ("mono", "stereo")[len(samples) - 1])
            if kind == "wma":
                track.bit_rate = 64_000
            if language:
                track.metadata["language"] = language
            tracks.append(track)
        if video:
            for _ in range(round(10 * video)):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
            container.mux(picture.encode(None))
        for track in tracks:
            for packet in _encoded(track, samples, rate, round(late * rate)):
                container.mux(packet)
    return file.getvalue()


def _encoded(track, samples, rate, first):
    import av

    size = 1024
    for begin in range(0, samples.shape[1], size):
        block = np.ascontiguousarray(samples[:, begin : begin + size])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=track.layout.name)
        frame.sample_rate, frame.pts = rate, first + begin
        yield from track.encode(frame)
    yield from track.encode(None)
