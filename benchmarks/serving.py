"""The server: 1,000 requests from 100 clients, one client alone, and short requests beside a long one.

    python benchmarks/serving.py [--requests 1000] [--clients 100] [--model M | --random-base] [--long-seconds 7200]
    python benchmarks/serving.py --starts 3
    python benchmarks/serving.py --random-base --requests 60 --wrapper OTHER/bin/python    # beside plain_wrapper.py

Recordings are made of the embedded model's sample digits, 1 to 10 seconds each, in a fixed order. The server is a
process of its own; its answers are compared with the texts of ``Transcriber``, and its memory is read from /proc.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2_core.audio import Recording, read_audio
from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber
from wav2vec2_torch import Wav2Vec2ForCTC

RATE = 16_000
SAMPLES = Path(__file__).parent.parent / "samples"
PATH = "/v1/audio/transcriptions"


def speech() -> np.ndarray:
    """(samples,) at 16 kHz: all samples of the repository, one after the other."""
    return np.concatenate([read_audio(path) for path in sorted(SAMPLES.glob("*.flac"))])


def recordings(count: int) -> list[bytes]:
    """FLAC of digits, 1 to 10 seconds."""
    spoken = np.tile(speech(), 4)
    draws = np.random.default_rng(0)
    made = []
    for seconds in draws.uniform(1, 10, count):
        first = draws.integers(0, len(spoken) - round(seconds * RATE))
        made.append(flac(spoken[first : first + round(seconds * RATE)]))
    return made


def flac(samples: np.ndarray) -> bytes:
    """(samples,) at 16 kHz as a file."""
    target = io.BytesIO()
    soundfile.write(target, samples, RATE, format="FLAC", subtype="PCM_16")
    return target.getvalue()


@contextmanager
def server(*options: str) -> Iterator[tuple[int, int, float]]:
    """A server process: its port, its number, and the seconds until it answered."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "wav2vec2_core", "serve", "--port", "0", *options], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while not (found := re.search(r"answers at http://127\.0\.0\.1:(\d+)", line := process.stderr.readline())):
        assert line, "the server did not start"
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        yield int(found[1]), process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        print(f"ended with {process.wait(60)}")


def ask(port: int, content: bytes) -> tuple[int, str, float]:
    """Status, text and seconds of one request."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.flac"\r\n\r\n' + content + b"\r\n--b--\r\n"
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    connection.request("POST", PATH, body, {"content-type": "multipart/form-data; boundary=b"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found.get("text", ""), time.perf_counter() - started


def memory(process: int) -> float:
    """Resident megabytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def computed(process: int) -> float:
    """Processor seconds so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, process: int, sounds: list[bytes], expected: list[str], clients: int) -> tuple[float, float]:
    """All requests from so many clients at once; returns seconds, and the server's processor seconds."""
    ask(port, sounds[0])
    before = computed(process)
    statuses: Counter[int] = Counter()
    wrong, done, sizes, lock = [], 0, {}, threading.Lock()
    waits: list[float] = []

    def one(number: int) -> None:
        nonlocal done
        status, text, seconds = ask(port, sounds[number])
        with lock:
            statuses[status] += 1
            waits.append(seconds)
            done += 1
            if done in (len(sounds) // 10, len(sounds)):
                sizes[done] = memory(process)
            if status == 200 and text != expected[number]:
                wrong.append(number)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(len(sounds))))
    took = time.perf_counter() - started
    print(f"{len(sounds)} requests from {clients} clients: {took:.1f} s, by status {dict(statuses)}")
    print(f"  texts that differ from the command's: {len(wrong)}; median wait {statistics.median(waits):.2f} s")
    first, last = sizes[len(sounds) // 10], sizes[len(sounds)]
    print(f"  memory after a tenth {first:.0f} MB, after all {last:.0f} MB: {last / first:.3f}x")
    return took, computed(process) - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--model", default=str(EMBEDDED_MODEL))
    parser.add_argument("--random-base", action="store_true", help="a model of base size with random weights")
    parser.add_argument("--dtype", default="float32", help="of the server")
    parser.add_argument("--wrapper", help="Python with transformers and FastAPI: compare with plain_wrapper.py alone")
    parser.add_argument("--long-seconds", type=float, default=7200.0)
    parser.add_argument("--starts", type=int, help="measure only the start of so many servers")
    given = parser.parse_args()
    if given.starts:
        starts(given.starts)
        return
    sounds = recordings(given.requests)
    with TemporaryDirectory() as folder:
        if given.random_base:
            given.model = random_base(Path(folder))
        if given.wrapper:
            beside_wrapper(given, sounds)
        else:
            alone(given, sounds)


def random_base(folder: Path) -> str:
    """A folder with a CTC model of base size and the letters of English."""
    torch.manual_seed(0)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(letters), pad_token_id=0)).save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer(vocabulary)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return str(folder)


def beside_wrapper(given: argparse.Namespace, sounds: list[bytes]) -> None:
    """Requests a second of both, one server after the other, three times."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).with_name("plain_wrapper.py")
    wrapper = subprocess.Popen([given.wrapper, str(script), given.model, str(port)], stderr=subprocess.DEVNULL)
    ratios = []
    try:
        with server("--model", given.model, "--dtype", given.dtype, "--max-queue", "256") as (ours, _, _):
            for _ in range(600):
                try:
                    ask(port, sounds[0])
                    break
                except ConnectionRefusedError:
                    time.sleep(0.2)
            ask(ours, sounds[0])
            for _ in range(3):
                taken = []
                for one in (ours, port):
                    started = time.perf_counter()
                    with ThreadPoolExecutor(given.clients) as pool:
                        answers = list(pool.map(partial(ask, one), sounds))
                    taken.append(time.perf_counter() - started)
                    assert all(status == 200 for status, _, _ in answers)
                ratios.append(taken[1] / taken[0])
                each = " and ".join(f"{len(sounds) / seconds:.2f}" for seconds in taken)
                print(f"{given.clients} clients: {each} requests a second, {ratios[-1]:.2f}x")
    finally:
        wrapper.terminate()
        wrapper.wait()
    print(f"beside the wrapper, median: {statistics.median(ratios):.2f}x")


def alone(given: argparse.Namespace, sounds: list[bytes]) -> None:
    """The server beside the library."""
    transcriber = Transcriber(given.model, dtype=given.dtype)
    files = [Recording.from_bytes(sound, name=str(number)) for number, sound in enumerate(sounds)]
    transcriber.transcribe(files[0])
    started, before = time.perf_counter(), time.process_time()
    expected = [result.unwrap().text for result in transcriber.transcribe_all(files)]
    plain, work = time.perf_counter() - started, time.process_time() - before
    print(f"the library alone, in batches: {plain:.1f} s, {work:.1f} s of the processor")
    with server("--model", given.model, "--dtype", given.dtype, "--max-queue", "256") as (port, process, ready):
        print(f"ready after {ready:.2f} s")
        took, served = load(port, process, sounds, expected, given.clients)
        print(
            f"  {plain / took:.2f}x of the library's throughput; {served:.1f} s of the processor: {work / served:.2f}x"
        )
        pairs = []
        for sound, file in zip(sounds[:50], files[:50], strict=True):  # in pairs, each after the other
            started = time.perf_counter()
            transcriber.transcribe(file)
            middle = time.perf_counter()
            ask(port, sound)
            pairs.append((time.perf_counter() - middle) - (middle - started))
        print(f"one client alone: {1000 * statistics.median(pairs):.1f} ms above the library call, median of 50 pairs")
        if given.long_seconds:
            beside(port, sounds[:50], given.long_seconds)


def starts(count: int) -> None:
    """Servers one after another: seconds, and processor seconds, from the process to its first answer."""
    sound = (SAMPLES / "three-one-four.flac").read_bytes()
    for _ in range(count):
        begun = time.perf_counter()
        with server() as (port, process, _):
            text = ask(port, sound)[1]
            took = time.perf_counter() - begun
            print(f"first answer ({text}) after {took:.2f} s, {computed(process):.2f} s of the processor")


def beside(port: int, sounds: list[bytes], seconds: float) -> None:
    """Fifty short requests with and without a long one."""

    def ninety_fifth() -> float:
        with ThreadPoolExecutor(len(sounds)) as pool:
            waits = sorted(wait for _, _, wait in pool.map(lambda sound: ask(port, sound), sounds))
        return waits[round(0.95 * (len(waits) - 1))]

    spoken = speech()
    long = flac(np.tile(spoken, round(seconds * RATE / len(spoken))))
    without = min(ninety_fifth() for _ in range(3))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, port, long)
        time.sleep(min(10.0, seconds / 100))
        others: list[float] = []
        while not waiting.done() and len(others) < 3:
            others.append(ninety_fifth())
        took = waiting.result()[2]
    beside_it = min(others, default=float("nan"))
    print(
        f"95th percentile of 50 short requests: {without:.2f} s, beside {seconds / 3600:.1f} hours "
        f"{beside_it:.2f} s: {beside_it / without:.2f}x; the long one took {took:.0f} s"
    )


if __name__ == "__main__":
    main()
