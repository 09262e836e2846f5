"""The voices of TinyWorld: espeak-ng's English accents with variants of its synthesiser, each a speaker of its own.

Some voices speak only in the test split, and the Scottish accent is heard nowhere else.
"""

KNOWN_VOICES = (
    "en-us", "en-us+f1", "en-us+f2", "en-us+f4", "en-us+f5", "en-us+m1", "en-us+m3", "en-us+m7",
    "en-gb-x-rp", "en-gb-x-rp+f2", "en-gb-x-rp+f3", "en-gb-x-rp+m2", "en-gb-x-rp+m5",
    "en", "en+f1", "en+f3", "en+f4", "en+m4", "en+m6", "en+m8",
    "en-us-nyc", "en-us-nyc+f2", "en-us-nyc+m3", "en-us-nyc+m8",
    "en-gb-x-gbclan", "en-gb-x-gbclan+f3", "en-gb-x-gbclan+m1", "en-gb-x-gbcwmd+m2", "en-gb-x-gbcwmd+f5", "en-gb-x-gbcwmd+f1",
    "en-029", "en-029+f2", "en-029+m3",
)  # fmt: skip
"""Speakers of the training and validation splits, and of half of the test split."""

UNSEEN_VOICES = ("en-gb-scotland", "en-gb-scotland+f2", "en-us+f3", "en-gb-x-rp+m8")
"""Speakers of the other half of the test split."""

REPLY_VOICE = "en-us"
"""The one clear voice of TinyWorld's replies, which a Talker learns."""

REPLY_VOICES = (REPLY_VOICE, "en-us+f2", "en-us+m3", "en-gb-x-rp", "en-gb-x-rp+f3", "en+m4")
"""Six clear voices of replies, which a Talker can learn by name."""
