"""Chats by voice with an exported model, with onnxruntime alone: no torch, no omnictl.

    omnictl export --to onnx --out chat
    python examples/onnx_chat.py chat --audio examples/question.wav --image examples/scene.png --speak reply.wav

Needs `onnxruntime`, `numpy` and `pillow`. Recordings are 16-bit mono WAV at the model's rate.
"""

import argparse
import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def read_wav(path, rate):
    with wave.open(path) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (rate, 1, 2):
            sys.exit(f"{path}: expected 16-bit mono at {rate} Hz, as `ffmpeg -i {path} -ac 1 -ar {rate} out.wav` writes")
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def read_image(path, size):
    shown = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    opaque = Image.composite(shown.convert("RGB"), Image.new("RGB", shown.size, "white"), shown)
    return np.asarray(ImageOps.fit(opaque, (size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def answer(run, facts, prompt, features):
    """Reads the prompt, then one token a step; returns what is written."""
    keys = values = np.zeros(facts["cache"], np.float32)
    tokens, start, written = prompt, 0, []
    while start + len(tokens) < facts["context"] and tokens[-1] not in facts["stop"]:
        given = {"tokens": np.array(tokens), "positions": np.arange(start, start + len(tokens)), "features": features}
        scores, keys, values = run("thinker", **given, keys=keys, values=values)
        start, tokens, features = start + len(tokens), [int(scores.argmax())], features[:0]
        written += [facts["token_bytes"][token] for token in tokens if token not in facts["stop"]]
    return bytes.fromhex("".join(written)).decode("utf-8", "replace").strip()


def speak(run, facts, text, rng):
    """The samples of a text: symbols, how long each lasts, codes one step after the other, mel frames, sound."""
    spelled = "".join(f" {DIGITS[int(c)]} " if c.isdecimal() else c for c in text.lower())
    symbols = np.array([0, *[facts["symbols"].index(c) + 1 for c in " ".join(spelled.split()) if c in facts["symbols"]], 0])
    speaker = {"speaker": np.zeros(1, np.int64)} if facts["speakers"] else {}
    states, log_durations = run("talker_text", symbols=symbols, **speaker)
    times = np.clip(np.round(np.exp(log_durations)), 1, facts["longest_duration"]).astype(np.int64)
    owner, begins = np.repeat(np.arange(len(times)), times), np.repeat(np.cumsum(times) - times, times)
    before = np.arange(len(owner)) - begins
    missing = (0, -len(owner) % facts["subframes"])
    after, before = np.pad(times[owner] - 1 - before, missing), np.pad(before, missing)
    owner = np.pad(owner, missing, constant_values=-1)
    (frames,) = run("talker_frames", states=states, owner=owner, before=before, after=after)
    count, books, book = len(frames), facts["books"], np.arange(facts["books"])
    keys = values = np.zeros(facts["cache"], np.float32)
    last, steps = np.full(books, facts["codes"]), []
    for step in range(count + books - 1):  # book k is written k steps later
        frame = frames[step : step + 1] if step < count else np.zeros_like(frames[:1])
        scores, keys, values = run("talker_step", frame=frame, last=last, positions=np.array([step]), keys=keys, values=values)
        drawn = (scores / facts["temperature"] + rng.gumbel(size=scores.shape)) if facts["temperature"] else scores
        last = np.where((book <= step) & (step - book < count), drawn.argmax(-1), facts["codes"])
        steps.append(last)
    codes = np.stack([np.array(steps)[k : k + count, k] for k in range(books)])
    return run("vocoder", mel=run("codec_decoder", codes=codes)[0])[0]


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--audio", help="a question, spoken")
    options.add_argument("--image", help="what it is about")
    options.add_argument("--speak", help="WAV file for the reply")
    given = options.parse_args()
    for option, part in (("audio", "audio_encoder"), ("image", "vision_encoder"), ("speak", "vocoder")):
        if getattr(given, option) and not (given.folder / f"{part}.onnx").exists():
            sys.exit(f"--{option} needs {part}.onnx, which {given.folder} lacks: this model was made without it")
    if not given.audio and not given.image:
        sys.exit("ask with --audio, with --image or with both")
    facts, sessions = json.loads((given.folder / "chat.json").read_text()), {}

    def run(name, **inputs):
        if name not in sessions:
            sessions[name] = onnxruntime.InferenceSession(given.folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        return sessions[name].run(None, inputs)

    seen = [run("vision_encoder", image=read_image(given.image, facts["image_size"]))[0]] if given.image else []
    heard = [run("audio_encoder", samples=read_wav(given.audio, facts["audio_hz"]))[0]] if given.audio else []
    shown = [facts["placeholders"]["image"]] * sum(map(len, seen)) + [facts["placeholders"]["audio"]] * sum(map(len, heard))
    prompt = [*facts["prompt_begin"], *shown, *facts["prompt_end"]]
    if len(prompt) >= facts["context"]:
        sys.exit(f"the question is {len(prompt)} tokens long, this model reads at most {facts['context'] - 1}: ask a shorter one")
    text = answer(run, facts, prompt, np.concatenate([*seen, *heard]))
    print(text)
    if given.speak:
        samples = speak(run, facts["voice"], text, np.random.default_rng(0))
        with wave.open(given.speak, "wb") as file:
            file.setparams((1, 2, facts["voice"]["sample_hz"], len(samples), "NONE", ""))
            file.writeframes((samples * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
