"""What is refused, and how it is said."""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from loopback import QUESTION, SCENE, serving
from PIL import Image
from starlette.datastructures import Headers

from omnictl.serve.model import ServedModel
from omnictl.serve.traffic.access import _given_keys
from omnictl.serve.traffic.limits import ServeLimits

HELLO = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
IMAGE = "data:image/png;base64," + base64.b64encode(SCENE.read_bytes()).decode()


def shown(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part, {"type": "text", "text": "hi"}]}]


def image(url: str) -> list[dict[str, Any]]:
    return shown({"type": "image_url", "image_url": {"url": url}})


BAD: tuple[tuple[dict[str, Any], int, str, str], ...] = (
    ({"model": "other"}, 404, "model", "does not exist here"),
    ({"messages": []}, 400, "messages", "at least 1"),
    ({"messages": None}, 400, "messages", "valid array"),
    ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role", "'system', 'developer', 'user'"),
    ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "says nothing"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "hi"}]}, 400, "messages.1.role", "the assistant's"),
    ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}, *HELLO]}, 400, "messages.0.audio.id", "audio_1"),
    ({"messages": image("https://example.com/a.png")}, 400, "messages.0.content.0.image_url.url", "fetches nothing"),
    ({"messages": image("file:///etc/passwd")}, 400, "messages.0.content.0.image_url.url", "fetches nothing"),
    ({"messages": image("data:image/png;base64,%%%")}, 400, "messages.0.content.0.image_url.url", "not base64"),
    ({"messages": image("data:image/png;base64,")}, 400, "messages.0.content.0.image_url.url", "0 bytes"),
    ({"messages": image("data:image/png;base64,AAAA")}, 400, "messages.0.content.0", "messages.0.content.0 is not"),
    ({"messages": shown({"type": "input_audio", "input_audio": {"data": "AAAA"}})}, 400, "messages.0.content.0", "is not a WAV"),
    ({"messages": shown({"type": "video"})}, 400, "messages.0.content", "'text', 'image_url', 'input_audio'"),
    ({"temperature": -1}, 400, "temperature", "greater than or equal to 0"),
    ({"temperature": "hot"}, 400, "temperature", "valid number"),
    ({"top_p": 0}, 400, "top_p", "greater than 0"),
    ({"n": 0}, 400, "n", "greater than or equal to 1"),
    ({"n": 99}, 400, "n", "8 are the most"),
    ({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
    ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop", "at most 4"),
    ({"stop": ""}, 400, "stop", "not empty"),
    ({"top_logprobs": 2}, 400, "top_logprobs", "needs `logprobs`"),
    ({"presence_penalty": 0.5}, 400, "presence_penalty", "equal to 0"),
    ({"tools": []}, 400, "tools", "no such parameter"),
    ({"audio": {"voice": "alloy"}}, 400, "audio", "without speech"),
    ({"modalities": ["text", "audio"], "audio": {"voice": "nobody"}}, 400, "voice", "'nobody'"),
    ({"modalities": ["text", "audio"], "audio": {"format": "mp3"}, "stream": True}, 400, "audio.format", "pcm16"),
    ({"modalities": ["text", "audio"], "n": 2}, 400, "n", "one reply at a time"),
)


@pytest.mark.parametrize(("change", "status", "param", "words"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_request_is_named(client: httpx.Client, change: dict[str, Any], status: int, param: str, words: str) -> None:
    body = json.dumps({"model": "omnictl", "messages": HELLO, "max_tokens": 1, **change})
    response = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(param)
    assert words in error["message"]
    assert "omnictl-serve-" not in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model": "\xff"}', b"[" * 100_000, b'{"model": 1e999}', b'{"model": "\\ud800"}']
)
def test_what_is_not_json_is_refused(client: httpx.Client, body: bytes) -> None:
    response = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_a_form_of_another_site_is_refused(client: httpx.Client, address: str) -> None:
    assert client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    asked = {"model": "omnictl", "messages": HELLO, "max_tokens": 1}
    refused = client.post(CHAT, json=asked, headers={"origin": "https://example.com"})
    assert (refused.status_code, "must pass on `Host`" in refused.text) == (403, True)
    assert client.post(CHAT, json=asked, headers={"origin": address}).status_code == 200
    assert client.get("/v1/models", headers={"host": "example.com"}).status_code == 403
    assert client.get("/v1/models", headers={"host": "localhost:1"}).status_code == 200


def test_what_is_not_there(client: httpx.Client) -> None:
    assert client.get("/v1/nothing").json()["error"]["message"].startswith("GET /v1/nothing")
    assert client.get(CHAT).status_code == 405


@pytest.mark.parametrize(
    ("fields", "file", "status", "words"),
    [
        ({}, QUESTION.read_bytes(), 400, "`model`"),
        ({"model": "omnictl"}, None, 415, "multipart"),
        ({"model": "omnictl"}, b"not audio", 400, "file is not a WAV"),
        ({"model": "omnictl", "language": "fr"}, QUESTION.read_bytes(), 400, "`language`"),
        ({"model": "omnictl", "response_format": "srt", "stream": "true"}, QUESTION.read_bytes(), 400, "not streamed"),
        ({"model": "omnictl", "prompt": "names"}, QUESTION.read_bytes(), 400, "`prompt`"),
        ({"model": "omnictl", "temperature[]": "1"}, QUESTION.read_bytes(), 400, "`temperature`"),
        ({"model": "omnictl", "language": "en", "language[]": "en"}, QUESTION.read_bytes(), 400, "`language`"),
    ],
    ids=["no model", "no file", "no audio", "French", "streamed subtitles", "prompt", "temperature", "language twice"],
)
def test_a_bad_form_is_named(client: httpx.Client, fields: dict[str, str], file: bytes | None, status: int, words: str) -> None:
    response = client.post("/v1/audio/transcriptions", data=fields, files=None if file is None else {"file": file})
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize(("text", "words"), [("?!", "no letters"), ("Это кот.", "letters a to z"), ("a" * 5_000, "4,096")])
def test_what_cannot_be_said_is_named(client: httpx.Client, text: str, words: str) -> None:
    response = client.post("/v1/audio/speech", json={"model": "omnictl", "input": text, "voice": "alloy"})
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


@pytest.fixture(scope="module")
def small(served: ServedModel) -> Iterator[httpx.Client]:
    """A server with a key and narrow limits."""
    limits = ServeLimits(body_bytes=40_000, images=1, image_pixels=100, audio_seconds=0.5)
    model = replace(served, names=(*served.names, "org/model"))
    with serving(model, limits, api_key="right") as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


RIGHT = {"authorization": "Bearer right"}


def test_a_key_is_wanted(small: httpx.Client) -> None:
    assert small.get("/health").json()["status"] == "ok"
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic right"}, {"authorization": "Bearer é"}):
        response = small.get("/v1/models", headers=[(k.encode(), v.encode()) for k, v in headers.items()])
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert small.get("/v1/models", headers=RIGHT).status_code == 200
    assert small.get("/v1/models", headers={**RIGHT, "host": "example.com"}).status_code == 200
    assert small.get("/metrics").status_code == 401
    assert small.get("/v1/models/org/model", headers=RIGHT).json()["id"] == "org/model"


@pytest.mark.parametrize("written", ["right", "b%3D%2F%2B%2C%28c%29", "50%"])
def test_a_browser_gives_the_key_with_the_protocol(written: str) -> None:
    headers = Headers({"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{written}"})
    assert unquote(written) in _given_keys(headers, {"type": "websocket"})
    assert not list(_given_keys(headers, {"type": "http"}))


def test_limits_hold(small: httpx.Client) -> None:
    asked = {"model": "omnictl", "messages": [{"role": "user", "content": "x" * 60_000}]}
    assert small.post(CHAT, json=asked, headers=RIGHT).status_code == 413

    def pieces() -> Iterator[bytes]:  # without a Content-Length
        for _ in range(60):
            yield b" " * 1_000

    response = small.post(CHAT, content=pieces(), headers={**RIGHT, "content-type": "application/json"})
    assert response.status_code == 413
    large = io.BytesIO()
    Image.new("RGB", (20, 20)).save(large, "PNG")
    url = "data:image/png;base64," + base64.b64encode(large.getvalue()).decode()
    response = small.post(CHAT, json={"model": "omnictl", "messages": image(url)}, headers=RIGHT)
    assert (response.status_code, "pixels" in response.json()["error"]["message"]) == (400, True)


def test_a_thinker_alone_answers_and_says_what_it_lacks(bare: ServedModel) -> None:
    with serving(bare) as url, httpx.Client(base_url=url, timeout=60) as client:
        asked = {"model": "bare", "messages": HELLO, "max_tokens": 3}
        assert client.post(CHAT, json=asked).status_code == 200
        response = client.post(CHAT, json={**asked, "messages": image(IMAGE)})
        assert "never learned from images" in response.json()["error"]["message"]
        response = client.post("/v1/audio/speech", json={"model": "bare", "input": "hi"})
        assert (response.status_code, "omnictl talker" in response.json()["error"]["message"]) == (501, True)
        form = {"data": {"model": "bare"}, "files": {"file": QUESTION.read_bytes()}}
        response = client.post("/v1/audio/transcriptions", **form)  # type: ignore[arg-type]
        assert (response.status_code, "omnictl asr" in response.json()["error"]["message"]) == (501, True)


def test_metrics_count(client: httpx.Client) -> None:
    client.post(CHAT, json={"model": "omnictl", "messages": HELLO, "max_tokens": 2})
    text = client.get("/metrics").text
    assert 'omnictl_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert 'omnictl_tokens_total{kind="new"}' in text
    assert "omnictl_waiting_requests 0.0" in text
