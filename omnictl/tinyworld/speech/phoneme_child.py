"""Writes texts as phonemes with espeak-ng: a program of its own, which keeps a library under the GPL out of ours.

Its arguments are the library, its data and a voice. Reads a JSON string a line, and writes one for each: the text in the
International Phonetic Alphabet, as espeak-ng would say it.
"""

import ctypes
import json
import sys

SYNCHRONOUS = 2
CHARS_UTF8, IPA = 1, 2


def main() -> None:
    """Answer until standard input ends."""
    library, data, voice = sys.argv[1:]
    espeak = ctypes.CDLL(library)
    if espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), 0) <= 0:
        sys.exit(f"espeak-ng cannot start with the voices in {data}")
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice!r}")
    espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
    espeak.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    for line in sys.stdin:
        clauses = []
        # The line end: without it a single character behind a full stop is read in front of the next text.
        rest = ctypes.c_char_p(f"{json.loads(line)}\n".encode())
        while rest.value:  # a clause at a time
            clauses.append((espeak.espeak_TextToPhonemes(ctypes.byref(rest), CHARS_UTF8, IPA) or b"").decode())
        sys.stdout.write(json.dumps(" ".join(clauses)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
