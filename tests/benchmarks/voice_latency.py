"""How long a spoken question waits for its answer, part by part: 50 of TinyWorld's, half of them about an image, in real time.

    python tests/benchmarks/voice_latency.py RUN [--silence 0.2] [--questions 50] [--vad silero]

RUN is a run of `sft` with a Talker. The server is a process of its own. A question is sent as a microphone would, 20 ms at a time,
then silence. Times count from the last sample of the question; what belongs to the waiting for silence is told apart.
"""

import argparse
import base64
import io
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import numpy as np
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from omnictl.data.dialogues.chat_template import Media
from omnictl.data.dialogues.corpus import DialogueCorpus, DialogueDataConfig
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.corpus import BLOCK, Samples
from omnictl.serve.replies.audio_formats import PCM_HZ, pcm_bytes

PIECE = PCM_HZ // 50
LEVEL = 10 ** (-60 / 20)
"""Of the room."""
PARTS = {
    "input_audio_buffer.speech_stopped": "turn ended",
    "conversation.item.input_audio_transcription.completed": "transcript",
    "response.output_audio_transcript.delta": "first token",
    "response.output_audio.delta": "first audio",
    "response.done": "all said",
}


@contextmanager
def server(run: str, *arguments: str) -> Iterator[tuple[str, int]]:
    """Its address and process, until the block ends."""
    command = [sys.executable, "-u", "-m", "omnictl", "serve", "--run", run, "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = next(match for line in process.stdout if (match := re.search(r"127\.0\.0\.1:\d+", line)))
            yield found[0], process.pid
        finally:
            process.terminate()


def questions(corpus: DialogueCorpus, number: int) -> Iterator[tuple[Samples, str | None]]:
    """Recordings at 24 kHz, each with the data URL of its image, if it is about one."""
    blocks = range(-(-len(corpus.audio.recordings("test")) // BLOCK))
    spoken = dict(enumerate(chain.from_iterable(corpus.audio.samples("test", block, PCM_HZ) for block in blocks)))
    for index in range(number):
        question = corpus.dialogue("test", ("spoken", "spoken_image")[index % 2], index // 2).messages[0]
        media: Mapping[str, Media] = {part.kind: part for part in question.parts if isinstance(part, Media)}
        audio = spoken[media["audio"].number]
        assert isinstance(audio, np.ndarray)
        url = None
        if "image" in media:
            file = io.BytesIO()
            pixels = corpus.images("test").image(media["image"].number, 224)
            Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
            url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        yield audio, url


def send(opened: ClientConnection, event: Mapping[str, object]) -> None:
    opened.send(json.dumps(event))


def ask(address: str, audio: Samples, url: str | None, silence: float) -> dict[str, float]:
    """Seconds from the end of a question to each part of what follows, and seconds of speech that were said."""
    room = np.random.default_rng(0).standard_normal(PCM_HZ * 60).astype(np.float32) * LEVEL
    loud = np.flatnonzero(np.abs(audio) > 0.02 * np.abs(audio).max())
    audio = audio[: loud[-1] + 1]
    samples = room.copy()
    samples[PCM_HZ : PCM_HZ + len(audio)] += audio
    with connect(f"ws://{address}/v1/realtime", max_size=None) as opened:
        detection = {"type": "server_vad", "silence_duration_ms": round(1_000 * silence)}
        send(opened, {"type": "session.update", "session": {"audio": {"input": {"turn_detection": detection}}}})
        if url is not None:
            item = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}
            send(opened, {"type": "conversation.item.create", "item": item})
        ended, over = threading.Event(), [0.0]

        def speak() -> None:
            began = time.perf_counter()
            for number, start in enumerate(range(0, len(samples), PIECE)):
                time.sleep(max(0.0, began + number / 50 - time.perf_counter()))
                if ended.is_set():
                    return
                data = base64.b64encode(pcm_bytes(samples[start : start + PIECE])).decode()
                send(opened, {"type": "input_audio_buffer.append", "audio": data})
                if not over[0] and start + PIECE >= PCM_HZ + len(audio):
                    over[0] = time.perf_counter()

        microphone = threading.Thread(target=speak)
        microphone.start()
        times: dict[str, float] = {}
        said = 0.0
        while "all said" not in times:
            event = json.loads(opened.recv(timeout=60))
            part = PARTS.get(event["type"])
            if event["type"] == "response.output_audio.delta":
                said += len(base64.b64decode(event["delta"])) / 2 / PCM_HZ
            elif event["type"] == "conversation.item.input_audio_transcription.delta":
                part = "first words heard"
            if part is not None:
                times.setdefault(part, time.perf_counter() - over[0] if over[0] else -1.0)
        ended.set()
        microphone.join()
    return {**times, "said": said}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--silence", type=float, default=0.2)
    parser.add_argument("--vad", default="level")
    given = parser.parse_args()
    corpus = open_dialogues(DialogueDataConfig(num_eval_dialogues=given.questions), cache_dir())
    asked = list(questions(corpus, given.questions))
    with server(given.run, "--vad", given.vad) as (address, _):
        ask(address, *asked[0], given.silence)  # what is made once is made
        found = []
        for question in asked:
            found.append(ask(address, *question, given.silence))
            print(", ".join(f"{part} {1_000 * seconds:.0f}" for part, seconds in found[-1].items()), file=sys.stderr, flush=True)
    print(f"{len(found)} questions, turns end after {given.silence:g} s of silence; ms since the end of speech, p50 and p95:")
    for part in ("turn ended", "transcript", "first token", "first audio", "all said"):
        show(part, [times[part] for times in found if part in times])
        if part not in ("turn ended", "all said"):
            show(f"  since the turn ended: {part}", [times[part] - times["turn ended"] for times in found if part in times])
    rates = [(times["all said"] - times["first token"]) / times["said"] for times in found if times["said"]]
    print(f"seconds that a second of speech took, text included: {statistics.median(rates):.3f} (p50)")


def show(name: str, seconds: list[float]) -> None:
    if seconds:
        p50, p95 = np.quantile(seconds, [0.5, 0.95])
        print(f"{name:40} {1_000 * p50:6.0f} {1_000 * p95:6.0f}   (n {len(seconds)})")


if __name__ == "__main__":
    main()
