"""The openai package, as it is, with this server as its address."""

import asyncio
import base64

import numpy as np
import pytest

from wav2vec2_core.audio import Recording

openai = pytest.importorskip("openai", reason='the client needs pip install "openai[realtime]"')
#: The client opens websockets in a way that the library of its own choice deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")
MODEL = "demo-digits"


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one.audio.transcriptions


def test_json_and_text(client, path):
    with path.open("rb") as file:
        found = client.create(model=MODEL, file=file, language="en", temperature=0)
    assert found.text == "three one four"
    assert (found.usage.type, found.usage.seconds) == ("duration", 3)
    assert client.create(model=MODEL, file=path, response_format="text") == "three one four\n"


def test_captions(client, path):
    assert client.create(model=MODEL, file=path, response_format="srt").startswith("1\n00:00:00,120 --> ")
    assert client.create(model=MODEL, file=path, response_format="vtt").startswith("WEBVTT\n\n00:00.120 --> ")


def test_verbose_json_has_segments_and_words_as_they_are_asked_for(client, path):
    options = {"model": MODEL, "file": path, "response_format": "verbose_json"}
    both = client.create(**options, timestamp_granularities=["word", "segment"])
    assert [word.word for word in both.words] == ["three", "one", "four"]
    assert 0 <= both.words[0].start < both.words[0].end < both.words[1].start < both.duration
    (segment,) = both.segments
    assert (segment.id, segment.text, segment.start) == (0, "three one four", both.words[0].start)
    assert segment.avg_logprob < 0
    plain = client.create(**options)
    assert plain.words is None
    assert plain.segments == both.segments
    assert client.create(**options, timestamp_granularities=["word"]).segments is None


def test_a_stream_of_events(client, path):
    events = list(client.create(model=MODEL, file=path, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == "three one four"


def test_a_prompt_becomes_hotwords(client, path, monkeypatch):
    from wav2vec2_core.serving.engine import Place

    given, transcribe = [], Place.transcribe
    monkeypatch.setattr(
        Place, "transcribe", lambda self, *args, **options: given.append(options) or transcribe(self, *args, **options)
    )
    text = client.create(model=MODEL, file=path, prompt="Numbers: three, one; FOUR!").text
    assert given[0]["hotwords"] == ("Numbers", "three", "one", "FOUR")
    assert text == "three one four"


def test_models(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        assert client.models.retrieve(MODEL).owned_by == "wav2vec2"
        with pytest.raises(openai.NotFoundError, match="not served here"):
            client.models.retrieve("whisper-1")


def test_errors_are_the_clients_own(client, path):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.create(model="whisper-1", file=path)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.UnprocessableEntityError, match=r"notes\.txt cannot be decoded"):
        client.create(model=MODEL, file=("notes.txt", b"no sound at all" * 100))
    with pytest.raises(openai.UnprocessableEntityError, match="response_format"):
        client.create(model=MODEL, file=path, response_format="diarized_json")


def test_a_key(start, path):
    with start(api_key="right") as server:
        for key, works in (("right", True), ("wrong", False)):
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
                if works:
                    assert client.audio.transcriptions.create(model=MODEL, file=path).text
                else:
                    with pytest.raises(openai.AuthenticationError, match="Authorization"):
                        client.audio.transcriptions.create(model=MODEL, file=path)


def test_a_full_queue_is_a_rate_limit_that_the_client_waits_for(start, path):
    with start(queue=1) as server:
        place = server.engine.place()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as refused:
                client.audio.transcriptions.create(model=MODEL, file=path)
            assert int(refused.value.response.headers["retry-after"]) >= 1
            place.cancel()
            assert client.audio.transcriptions.create(model=MODEL, file=path).text


def test_async_clients_at_once(server, path):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            calls = [client.audio.transcriptions.create(model=MODEL, file=path) for _ in range(8)]
            return [found.text for found in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == ["three one four"] * 8


# ---- live -----------------------------------------------------------------------------------------------------------


def pcm(path, rate):
    """Samples as s16le, with half a second of silence behind them."""
    samples = Recording.open(path, sampling_rate=rate).read()
    samples = np.concatenate([samples, np.zeros(rate // 2, np.float32)])
    return (samples * 32767).astype("<i2").tobytes()


def append(connection, sound, size):
    for first in range(0, len(sound), size):
        connection.input_audio_buffer.append(audio=base64.b64encode(sound[first : first + size]).decode())


def until(connection, kind):
    events = []
    while not events or events[-1].type != kind:
        events.append(connection.recv())
        assert events[-1].type != "error", events[-1]
    return events


COMPLETED = "conversation.item.input_audio_transcription.completed"


@pytest.mark.parametrize("rate", [24_000, 16_000])
def test_realtime_transcription(server, path, rate):
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        created = connection.recv()
        assert (created.type, created.session.type) == ("session.created", "transcription")
        sound = {"format": {"type": "audio/pcm", "rate": rate}, "transcription": {"model": MODEL, "language": "en"}}
        connection.session.update(
            session={"type": "transcription", "audio": {"input": {**sound, "turn_detection": None}}}
        )
        updated = until(connection, "session.updated")[-1]
        assert updated.session.audio.input.transcription.language == "en"
        previous = None
        for _ in range(2):  # an item follows the other
            append(connection, pcm(path, rate), rate // 5)
            connection.input_audio_buffer.commit()
            events = until(connection, COMPLETED)
            deltas = [event.delta for event in events if event.type.endswith(".delta")]
            assert "".join(deltas) == events[-1].transcript == "three one four"
            committed = next(event for event in events if event.type == "input_audio_buffer.committed")
            assert committed.previous_item_id == previous
            assert {event.item_id for event in events if hasattr(event, "item_id")} == {committed.item_id}
            assert abs(events[-1].usage.seconds - 2.51) < 0.02
            previous = committed.item_id


def test_a_pause_ends_an_item_where_the_server_is_to_find_it(server, path):
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        turns = {"type": "server_vad", "silence_duration_ms": 800}
        connection.session.update(session={"type": "transcription", "audio": {"input": {"turn_detection": turns}}})
        until(connection, "session.updated")
        append(connection, pcm(path, 24_000) + bytes(2 * 24_000 * 6), 24_000)
        assert until(connection, COMPLETED)[-1].transcript == "three one four"


def test_wrong_events_are_answered_with_an_error_and_the_session_goes_on(server, path):
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        connection.recv()
        wrong = [
            ({"type": "response.create", "event_id": "mine"}, "event 'response.create' is unknown"),
            ({"type": "input_audio_buffer.append", "audio": base64.b64encode(b"abc").decode()}, "3 bytes"),
            ({"type": "input_audio_buffer.append", "audio": "?"}, "no base64"),
            ({"type": "input_audio_buffer.append"}, "audio is None"),
            ({"type": "input_audio_buffer.commit"}, "buffer is empty"),
            ({"type": "session.update", "session": 7}, "session is 7"),
            ({"type": "session.update", "session": {"type": "realtime"}}, "session type 'realtime'"),
            ({"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}, "pcmu"),
            ({"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "x"}}}}}, "'x'"),
            ({"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"type": "x"}}}}}, "'x'"),
        ]
        for event, message in wrong:
            connection.send(event)
            answer = connection.recv()
            assert answer.type == "error"
            assert message in answer.error.message
            assert answer.error.event_id == event.get("event_id")
        append(connection, pcm(path, 24_000), 9600)
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")
        append(connection, pcm(path, 24_000), 9600)
        connection.input_audio_buffer.commit()
        assert until(connection, COMPLETED)[-1].transcript == "three one four"
