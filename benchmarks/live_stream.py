"""Live captions over a websocket: how late words come, and the server's memory in a stream that goes on for hours.

    pip install -c constraints.txt -e ".[torch,serve]"
    python benchmarks/live_stream.py --seconds 120        # at the pace of speech
    python benchmarks/live_stream.py --hours 24           # as fast as the server reads

Speech is the samples of this repository, over and over. A word is final for the model when ``StreamingTranscriber``,
fed with the same pieces, names it; its delay is the time from sending that piece to reading the word.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import numpy as np
from serving import RATE, computed, memory, server, speech
from websockets.sync.client import ClientConnection, connect

from wav2vec2_core.streaming import StreamingTranscriber
from wav2vec2_core.transcription import Transcriber

PIECE = 0.1  # seconds that a microphone gives at a time
LONG_PIECE = 5.0  # of the stream that is sent as fast as the server reads
HOUR = round(3600 / LONG_PIECE)  # pieces


def pieces(seconds: float, length: float) -> Iterator[np.ndarray]:
    """(samples,) of s16le, of so many seconds each."""
    spoken = speech()
    size, start = round(length * RATE), 0
    for _ in range(round(seconds / length)):
        taken = np.take(spoken, range(start, start + size), mode="wrap")
        start = (start + size) % len(spoken)
        yield np.round(taken * 32767).astype("<i2")


def delays(seconds: float) -> None:
    """Send at the pace of speech, and print how late words came."""
    sounds = list(pieces(seconds, PIECE))
    stream, expected = StreamingTranscriber(Transcriber()), []  # number of the piece, text that became final
    for number, sound in enumerate(sounds):
        if stable := stream.feed(sound.astype(np.float32) / 32768).stable:
            expected.append((number, stable))
    sent: list[float] = []
    late: list[float] = []
    heard: list[str] = []

    def read(timeout: float | None) -> bool:
        try:
            answer = json.loads(live.recv(timeout=timeout))
        except TimeoutError:
            return False
        if answer["text"] and not answer.get("final"):
            heard.append(answer["text"])
            late.append(time.perf_counter() - sent[expected[len(heard) - 1][0]])
        return not answer.get("final")

    with server() as (port, _, _), connect(f"ws://127.0.0.1:{port}/v1/stream") as live:
        started = time.perf_counter()
        for number, sound in enumerate(sounds):
            while (wait := started + number * PIECE - time.perf_counter()) > 0:
                read(wait)
            sent.append(time.perf_counter())
            live.send(sound.tobytes())
        live.send("end")
        while read(60):
            pass
    assert heard == [text for _, text in expected], "the server heard other words than the library"
    late.sort()
    middle, most = statistics.median(late), late[round(0.95 * (len(late) - 1))]
    print(
        f"words became final {len(late)} times in {seconds:g} s; delay: median {1000 * middle:.0f} ms, "
        f"95th percentile {1000 * most:.0f} ms, at most {1000 * late[-1]:.0f} ms"
    )


def waiting(live: ClientConnection) -> Iterator[str]:
    """What became final in the answers that are here already."""
    while True:
        try:
            yield json.loads(live.recv(timeout=0))["text"]
        except TimeoutError:
            return


def hours(count: float) -> None:
    """Send as fast as the server reads, and print its memory."""
    address = "ws://127.0.0.1:{}/v1/stream"
    with server() as (port, process, _), connect(address.format(port), ping_timeout=None) as live:
        started, words = time.perf_counter(), 0
        for number, sound in enumerate(pieces(3600 * count, LONG_PIECE)):
            live.send(sound.tobytes())
            words += sum(len(text.split()) for text in waiting(live))
            if number in (HOUR // 60, HOUR // 6) or (number and number % HOUR == 0):
                print(
                    f"{number / HOUR:5.2f} h: {memory(process):.0f} MB, {words} words, "
                    f"{computed(process):.0f} s of the processor, {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
        live.send("end")
        while not (answer := json.loads(live.recv(timeout=60))).get("final"):
            words += len(answer["text"].split())
        print(f"{count:5.2f} h: {memory(process):.0f} MB, {words} words")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="at the pace of speech")
    parser.add_argument("--hours", type=float, help="as fast as the server reads")
    options = parser.parse_args()
    if options.hours:
        hours(options.hours)
    else:
        delays(options.seconds)


if __name__ == "__main__":
    main()
