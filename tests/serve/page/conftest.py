"""Chromium in front of a server over the embedded model."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_core.audio import Recording


@pytest.fixture(scope="session")
def chromium(tmp_path_factory, path):
    """A browser whose microphone says "three one four" once, after half a second."""
    import soundfile

    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with pip install playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("the page is tested in Chromium, which is not installed")
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    silence = np.zeros(8000, np.float32)
    samples = np.concatenate([silence, Recording.open(path).read(), np.tile(silence, 120)])
    soundfile.write(spoken, samples, 16_000, subtype="PCM_16")
    options = [
        "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}%noloop",
    ]  # fmt: skip
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """``visit(server, name)`` opens the page; ``page.picture(state)`` keeps a screenshot, in ``PAGE_PICTURES``.

    The test fails where the page logs an error, throws one or asks another address than the server's.
    """
    pictures = Path(os.environ.get("PAGE_PICTURES", tmp_path))
    contexts, wrong = [], []

    def visit(server, name, *, expected=(), microphone=True, **options):
        context = chromium.new_context(permissions=["microphone"] if microphone else [], **options)
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and not any(part in message.text for part in expected)
                and wrong.append(message.text)
            ),
        )
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((server.url, "blob:", server.url.replace("http", "ws"))) or wrong.append(asked.url)
            ),
        )
        page.picture = lambda state: page.screenshot(path=pictures / f"{name}-{state}.png")
        page.goto(server.url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []
