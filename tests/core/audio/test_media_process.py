"""The process that decodes containers: it crashes alone, is started again, and never outlives who asked for it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV comes with the media extra")

from written_media import tone, write_media

from wav2vec2_core.audio import Recording, media
from wav2vec2_core.errors import AudioError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
LONG = 60.0


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / "a.m4a"
    path.write_bytes(write_media(tone(LONG), "m4a"))
    return path


@pytest.fixture(autouse=True)
def no_process():
    media._end_all()
    yield
    media._end_all()


def workers(parent):
    """Process ids of the decoders that a process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if int(status[1]) == parent and status[0] != "Z" and b"media_worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError, ValueError):
            continue
    return found


def is_gone(process):
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_an_error_of_that_file_alone(long_file, number):
    blocks = iter(Recording(long_file))
    next(blocks)
    (worker,) = workers(os.getpid())
    os.kill(worker, number)
    with pytest.raises(AudioError, match=rf"a\.m4a cannot be decoded: the decoder crashed \(signal {number.name}\)"):
        list(blocks)
    assert len(Recording(long_file).read()) == LONG * 16_000
    assert workers(os.getpid()) != [worker]


def test_one_process_reads_one_file_after_the_other(long_file):
    Recording(long_file).read()
    first = workers(os.getpid())
    assert len(first) == 1
    next(iter(Recording(long_file)))  # left early
    assert Recording.open(long_file, 5.0, 6.0).read().shape == (16_000,)
    with pytest.raises(AudioError):
        Recording.from_bytes(b"\0\0\0\x18ftypmp42" + bytes(100)).read()
    assert len(Recording(long_file).read()) == LONG * 16_000
    assert workers(os.getpid()) == first


def test_recordings_read_at_the_same_time(long_file):
    whole = Recording(long_file).read()
    for one, other in zip(Recording(long_file), Recording(long_file), strict=True):
        assert np.array_equal(one, other)
    results = []
    threads = [threading.Thread(target=lambda: results.append(Recording(long_file).read())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, whole) for result in results)
    assert len(results) == 4
    assert len(workers(os.getpid())) <= 2


def test_a_forked_process_starts_its_own(long_file):
    whole = Recording(long_file).read()
    child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = np.array_equal(Recording(long_file).read(), whole)
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(Recording(long_file).read(), whole)


PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
from wav2vec2_core.audio import Recording
blocks = iter(Recording(sys.argv[1]))
next(blocks)
print("reading", flush=True)
{rest}
"""


def started(long_file, rest):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(rest=rest), str(long_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "reading\n"
    return program


@pytest.mark.parametrize("rest", ["os.kill(os.getpid(), 9)", "os._exit(0)", "sys.exit()", "1 / 0"])
def test_no_orphan(long_file, rest):
    program = started(long_file, "time.sleep(1); " + rest)
    found = workers(program.pid)
    assert len(found) == 1
    program.communicate(timeout=30)
    assert wait_until(lambda: is_gone(found[0]))


def test_interrupting_a_program_that_reads(long_file):
    program = started(long_file, "while True:\n    list(Recording(sys.argv[1]))")
    found = workers(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert program.returncode in (1, -signal.SIGINT, 130)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1
    assert wait_until(lambda: all(map(is_gone, found)))


def test_the_process_imports_neither_the_package_nor_a_framework(long_file):
    next(iter(Recording(long_file)))
    (worker,) = workers(os.getpid())
    maps = (Path("/proc") / str(worker) / "maps").read_text()
    assert "numpy" in maps
    assert not any(name in maps for name in ("libtorch", "tensorflow", "jaxlib", "_soxr", "libsndfile"))


def test_a_decoder_that_hangs(long_file, monkeypatch):
    blocks = iter(Recording(long_file))
    next(blocks)
    monkeypatch.setattr(media, "_PATIENCE", 0.5)  # not before: a worker needs longer to start on a busy machine
    (worker,) = workers(os.getpid())
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(AudioError, match="the decoder hung"):
        list(blocks)
    assert wait_until(lambda: is_gone(worker))
