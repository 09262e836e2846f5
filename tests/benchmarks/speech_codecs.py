"""The codec of a run beside Codec2 and Opus, on the same test recordings: bits a second, STOI, PESQ.

Bits are nominal and as counted: whole frames and, of Codec2, whole bytes; of Opus its container too.

    python tests/benchmarks/speech_codecs.py runs/codec/RUN [--data my/recordings] [--limit 71]

STOI and PESQ compare with the 16 kHz original (pip install pystoi pesq). Codec2 (`c2enc`, `c2dec`, 8 kHz, which PESQ's wide band is
unfair to) and Opus (`opusenc`, `opusdec`) are taken from the system, and left out where they are not installed. The codec's own
audio is made by Griffin-Lim; `unquantised` is what that makes of the original mel frames.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from omnictl.data.audio.resample import resample
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.source import read_recordings
from omnictl.generate.griffin_lim import GriffinLim, synthesise
from omnictl.metrics.intelligibility import RATE, quality, quality_estimates
from omnictl.nn.audio.mel import log_mel
from omnictl.runs.run import Run
from omnictl.stages.codec import CodecStage
from omnictl.stages.protocol import open_trained

CODEC2_HZ = 8_000
CODEC2_MODES = ("700C", "1300", "1600", "2400", "3200")
OPUS_KBITS = (6,)

Samples = NDArray[np.float32]
Passing = Callable[[Samples], tuple[Samples, float]]  # audio in, audio and bits out


def ours(stage: CodecStage, books: int, audio: Samples) -> tuple[Samples, float]:
    mel = log_mel(audio, stage.config.model.mel)[None]
    with torch.no_grad():
        codes = stage.model.encode(mel)[:, :books]
        back = stage.model.decode(codes)[0, : mel.shape[1]]
    return synthesise(GriffinLim(stage.config.model.mel), back), codes.numel() * np.log2(stage.config.model.quantiser.codes)


def unquantised(stage: CodecStage, audio: Samples) -> tuple[Samples, float]:
    mel = log_mel(audio, stage.config.model.mel)
    return synthesise(GriffinLim(stage.config.model.mel), mel), float("nan")


def codec2(mode: str, audio: Samples) -> tuple[Samples, float]:
    with tempfile.TemporaryDirectory() as folder:
        raw, coded, back = (Path(folder) / name for name in ("in.raw", "coded", "out.raw"))
        raw.write_bytes((resample(audio, RATE, CODEC2_HZ).clip(-1, 1) * 32767).astype("<i2").tobytes())
        subprocess.run(["c2enc", mode, raw, coded], check=True, capture_output=True)
        subprocess.run(["c2dec", mode, coded, back], check=True, capture_output=True)
        samples = np.frombuffer(back.read_bytes(), "<i2").astype(np.float32) / 32768
        return resample(samples, CODEC2_HZ, RATE), 8.0 * coded.stat().st_size


def opus(kbits: int, audio: Samples) -> tuple[Samples, float]:
    with tempfile.TemporaryDirectory() as folder:
        wav, coded, back = (Path(folder) / name for name in ("in.wav", "coded.opus", "out.wav"))
        soundfile.write(wav, audio, RATE)
        flags = ["--bitrate", str(kbits), "--hard-cbr", "--framesize", "60", "--speech", "--quiet"]
        subprocess.run(["opusenc", *flags, wav, coded], check=True, capture_output=True)
        subprocess.run(["opusdec", "--rate", str(RATE), "--quiet", coded, back], check=True, capture_output=True)
        return soundfile.read(back, dtype="float32")[0], 8.0 * coded.stat().st_size


def candidates(stage: CodecStage) -> Iterator[tuple[str, float, Passing]]:
    """Name, nominal bits a second, and what passes audio through."""
    model = stage.config.model
    yield "unquantised", float("nan"), partial(unquantised, stage)
    for books in range(1, model.quantiser.books + 1):
        yield f"{books} books", model.bits_per_second * books / model.quantiser.books, partial(ours, stage, books)
    if shutil.which("c2enc"):
        for mode in CODEC2_MODES:
            yield f"Codec2 {mode}", float(mode.rstrip("C")), partial(codec2, mode)
    else:
        print("Codec2 is left out: c2enc is not installed (apt install codec2)")
    if shutil.which("opusenc"):
        for kbits in OPUS_KBITS:
            yield f"Opus {kbits} kbit/s", 1000.0 * kbits, partial(opus, kbits)
    else:
        print("Opus is left out: opusenc is not installed (apt install opus-tools)")


def in_time(original: Samples, made: Samples, furthest: int = 1_600) -> Samples:
    """The audio moved by what the codec delays it: where its envelope fits the original's best, up to a tenth of a second."""
    one, other = (np.convolve(np.abs(audio), np.ones(80) / 80, "same") for audio in (original, made))
    length = min(len(one), len(other)) - furthest
    shifts = range(0, furthest, 8)
    best = max(shifts, key=lambda shift: float(np.dot(one[:length], other[shift : shift + length])))
    return made[best:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int, default=71)
    given = parser.parse_args()
    stage = open_trained(CodecStage, Run(given.run), device=torch.device("cpu"), cache=cache_dir(), data=given.data)
    found = stage.data.split("test")
    found = found.only(range(min(given.limit, len(found))), ())
    recordings = list(read_recordings(stage.data.corpus, "test", found, RATE))
    seconds = sum(map(len, recordings)) / RATE
    print(f"{len(recordings)} recordings, {seconds:.0f} s")
    print(f"{'':<16} bit/s counted STOI   PESQ")
    for name, nominal, passing in candidates(stage):
        passed = [passing(audio) for audio in recordings]
        scores = quality_estimates([quality(one, in_time(one, made)) for one, (made, _) in zip(recordings, passed, strict=True)])
        bits = sum(bits for _, bits in passed) / seconds
        measured = "  ".join(f"{scores[key].value if key in scores else float('nan'):.3f}" for key in ("stoi", "pesq"))
        print(f"{name:<16} {nominal:>5.0f} {bits:>7.0f} {measured}", flush=True)


if __name__ == "__main__":
    main()
