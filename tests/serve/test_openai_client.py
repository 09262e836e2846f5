"""OpenAI's own client works against the server as it is."""

import base64
import io
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
import soundfile
import torch
from loopback import QUESTION, SCENE
from openai.types.audio import TranscriptionSegment

from omnictl.generate.token_decoder import Choice
from omnictl.serve.endpoints import transcriptions
from omnictl.serve.model import ServedModel
from omnictl.serve.replies import completion
from omnictl.use.subtitles import Word
from omnictl.use.transcribe import HeardWindow


@pytest.fixture
def ask(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="not needed", max_retries=0, timeout=60)


def question() -> list[dict[str, object]]:
    image = "data:image/png;base64," + base64.b64encode(SCENE.read_bytes()).decode()
    audio = base64.b64encode(QUESTION.read_bytes()).decode()
    return [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": image}},
                {"type": "input_audio", "input_audio": {"data": audio, "format": "wav"}},
                {"type": "text", "text": "Well?"},
            ],
        }
    ]


def test_models_are_listed(ask: openai.OpenAI, served: ServedModel) -> None:
    assert [model.id for model in ask.models.list()] == list(served.names)
    assert ask.models.retrieve("omnictl").owned_by == "omnictl"
    with pytest.raises(openai.NotFoundError, match="gpt-4o"):
        ask.models.retrieve("gpt-4o")


def test_a_reply_to_text_image_and_audio(ask: openai.OpenAI) -> None:
    reply = ask.chat.completions.create(model="omnictl", messages=question(), max_tokens=5)  # type: ignore[arg-type]
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage.completion_tokens <= 5
    details = reply.usage.prompt_tokens_details
    assert details.audio_tokens == pytest.approx(12.5 * soundfile.info(QUESTION).duration, abs=1.5)
    assert details.image_tokens > 0
    assert reply.usage.prompt_tokens == details.audio_tokens + details.image_tokens + details.text_tokens


def test_a_stream_brings_the_same_reply(ask: openai.OpenAI) -> None:
    asked = {"model": "omnictl", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "seed": 3, "temperature": 1}
    whole = ask.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(ask.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == [whole.choices[0].finish_reason]
    for told in (chunks[-1], whole):
        told.usage.prompt_tokens_details.cached_tokens = 0  # the second time it had been read
    assert chunks[-1].usage == whole.usage
    assert chunks[0].choices[0].delta.role == "assistant"


def test_a_seed_makes_a_reply_repeatable(ask: openai.OpenAI) -> None:
    def reply(seed: int) -> str | None:
        asked = [{"role": "user", "content": "hello"}]
        answer = ask.chat.completions.create(model="omnictl", messages=asked, temperature=1.5, seed=seed, max_tokens=12)  # type: ignore[arg-type]
        return answer.choices[0].message.content

    assert reply(1) == reply(1) != reply(2)


def test_several_replies_with_probabilities(ask: openai.OpenAI) -> None:
    reply = ask.chat.completions.create(
        model="omnictl",
        messages=[{"role": "user", "content": "hello"}],
        n=3,
        temperature=1,
        seed=1,
        max_tokens=4,
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    for choice in reply.choices:
        assert choice.logprobs is not None
        for token in choice.logprobs.content or []:
            assert token.logprob <= token.top_logprobs[0].logprob <= 0
            assert len(token.top_logprobs) == 2
        written = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content or [])
        assert written.decode(errors="replace").startswith(choice.message.content or "")


@pytest.mark.slow
def test_a_spoken_reply_and_what_follows_it(ask: openai.OpenAI, served: ServedModel) -> None:
    asked = [{"role": "user", "content": "hello"}]
    settings = {"model": "omnictl", "modalities": ["text", "audio"], "max_tokens": 6}
    reply = ask.chat.completions.create(messages=asked, audio={"voice": "alloy", "format": "wav"}, **settings)  # type: ignore[call-overload]
    audio = reply.choices[0].message.audio
    data, rate = soundfile.read(io.BytesIO(base64.b64decode(audio.data)))
    assert rate == served.require_voice().vocoder.sample_rate
    assert len(data) > 0
    chunks = list(ask.chat.completions.create(messages=asked, audio={"voice": "alloy", "format": "pcm16"}, stream=True, **settings))  # type: ignore[call-overload]
    parts = [chunk.choices[0].delta.audio for chunk in chunks if getattr(chunk.choices[0].delta, "audio", None)]
    assert "".join(part.transcript or "" for part in parts) == audio.transcript
    pcm = b"".join(base64.b64decode(part.data) for part in parts if part.data)
    assert len(pcm) / 2 == pytest.approx(len(data) * 24_000 / rate, abs=2)
    again = ask.chat.completions.create(
        model="omnictl", messages=[*asked, {"role": "assistant", "audio": {"id": audio.id}}, *asked], max_tokens=1
    )  # type: ignore[call-overload]
    assert again.usage.prompt_tokens > reply.usage.prompt_tokens


@pytest.mark.parametrize("streamed", [False, True])
def test_a_recording_is_transcribed(ask: openai.OpenAI, streamed: bool) -> None:
    with QUESTION.open("rb") as file:
        if streamed:
            events = list(ask.audio.transcriptions.create(model="omnictl", file=file, stream=True))
            assert events[-1].type == "transcript.text.done"
            assert events[-1].text == "".join(event.delta for event in events if event.type == "transcript.text.delta")
        else:
            assert isinstance(ask.audio.transcriptions.create(model="omnictl", file=file).text, str)


def test_word_times_and_subtitles(ask: openai.OpenAI, client: httpx.Client) -> None:
    with QUESTION.open("rb") as file:
        told = ask.audio.transcriptions.create(
            model="omnictl", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
    assert told.duration == pytest.approx(soundfile.info(QUESTION).duration, abs=0.01)
    assert " ".join(word.word for word in told.words or []) == told.text
    assert all(0 <= word.start <= word.end <= told.duration for word in told.words or [])
    for kind, beginning in (("vtt", "WEBVTT"), ("srt", ""), ("text", "")):
        form = {"model": "omnictl", "response_format": kind}
        response = client.post("/v1/audio/transcriptions", data=form, files={"file": QUESTION.read_bytes()})
        assert response.status_code == 200, response.text
        assert response.text.startswith(beginning)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "pcm"])
def test_speech_in_every_format(ask: openai.OpenAI, served: ServedModel, kind: str) -> None:
    def say(speed: float) -> float:
        asked = {"model": "omnictl", "voice": "alloy", "input": "Hi.", "response_format": kind, "speed": speed}
        with ask.audio.speech.with_streaming_response.create(**asked) as response:  # type: ignore[arg-type]
            data = response.read()
        if kind == "pcm":
            return len(data) / 48_000
        samples, rate = soundfile.read(io.BytesIO(data))
        assert np.isfinite(samples).all()
        return len(samples) / rate

    assert say(1.0) > say(2.0) > 0


def test_a_segment_is_as_the_client_expects(ask: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    window = HeardWindow([Word("two", 0.1, 0.3), Word("cats", 0.3, 0.7)], 0.0, 1.0, speech=True)
    monkeypatch.setattr(transcriptions, "transcribe_windows", lambda *_: iter([window]))
    with QUESTION.open("rb") as file:
        told = ask.audio.transcriptions.create(model="omnictl", file=file, response_format="verbose_json")
    (segment,) = told.segments or []
    assert TranscriptionSegment.model_validate(segment.to_dict()).text == "two cats"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_reply_that_cannot_be_said_comes_in_writing(
    ask: openai.OpenAI, served: ServedModel, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    tokenizer = served.session.respondent.template.tokenizer

    def choose_tokens(*_: object) -> Iterator[Choice]:
        for token in tokenizer.encode("Это кот.", markup=False):
            yield Choice(token, torch.zeros(tokenizer.vocab_size))
        return "stop"

    monkeypatch.setattr(completion, "choose_tokens", choose_tokens)
    asked = {"model": "omnictl", "messages": [{"role": "user", "content": "hello"}], "modalities": ["text", "audio"]}
    if streamed:
        chunks = list(ask.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert "".join(delta.content or "" for delta in deltas) == "Это кот."
        (reason,) = [delta.omnictl["not_said"] for delta in deltas if hasattr(delta, "omnictl")]
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        message = ask.chat.completions.create(**asked).choices[0].message  # type: ignore[call-overload]
        assert (message.content, message.audio) == ("Это кот.", None)
        reason = message.omnictl["not_said"]
    assert "letters a to z" in reason


def test_what_the_client_raises(ask: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as found:
        ask.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
    assert (found.value.code, found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        ask.chat.completions.create(model="omnictl", messages=[{"role": "user", "content": "word " * 2_000}])
    assert refused.value.code == "context_length_exceeded"
