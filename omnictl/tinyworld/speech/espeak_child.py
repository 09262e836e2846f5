"""Speaks a list of texts with espeak-ng: a program of its own, run in a fresh process for every block of utterances.

espeak-ng keeps state from one call to the next, so that the same text said twice sounds a little different; the same *sequence* of
calls in a fresh process is the same to the bit. The process also keeps a library under the GPL out of ours.

Reads one JSON object `{library, data, requests: [{text, voice, rate, pitch}]}`; writes the sample rate (uint32, little-endian),
then for each request the number of samples (uint32) and the samples (int16).
"""

import ctypes
import json
import struct
import sys

SYNCHRONOUS = 2
RATE, VOLUME, PITCH = 1, 2, 3
POS_CHARACTER, CHARS_UTF8 = 1, 1

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> None:
    """Speak what standard input asks for to standard output."""
    job = json.load(sys.stdin)
    espeak = ctypes.CDLL(job["library"])
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, job["data"].encode(), 0)
    if rate <= 0:
        sys.exit(f"espeak-ng cannot start with the voices in {job['data']}")
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath and jitter of some voices: seeded by the clock unless told
    pieces: list[bytes] = []

    def hear(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = Callback(hear)
    espeak.espeak_SetSynthCallback(callback)
    sys.stdout.buffer.write(struct.pack("<I", rate))
    for request in job["requests"]:
        pieces.clear()
        if espeak.espeak_SetVoiceByName(request["voice"].encode()) != 0:
            sys.exit(f"espeak-ng has no voice {request['voice']!r}")
        for parameter, value in ((RATE, request["rate"]), (VOLUME, 80), (PITCH, request["pitch"])):
            espeak.espeak_SetParameter(parameter, value, 0)
        text = request["text"].encode()
        if espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None) != 0:
            sys.exit(f"espeak-ng cannot say {request['text']!r}")
        audio = b"".join(pieces)
        sys.stdout.buffer.write(struct.pack("<I", len(audio) // 2) + audio)


if __name__ == "__main__":
    main()
