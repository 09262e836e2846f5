"""The voices of espeak-ng that can ask: TinyWorld's, or some by name."""

from collections.abc import Iterable, Sequence
from functools import cache

from omnictl.data.dialogues.speak.questions import Cast
from omnictl.data.dialogues.tinyworld import say
from omnictl.data.export import RATE
from omnictl.data.speech.corpus import Samples
from omnictl.errors import UsageError
from omnictl.tinyworld.speech.espeak import voice_variants
from omnictl.tinyworld.speech.utterances import Utterance
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, UNSEEN_VOICES

ACCENTS = tuple(sorted({voice.partition("+")[0] for voice in (*KNOWN_VOICES, *UNSEEN_VOICES)}))
"""English alone: numbers and dates are read out in English."""


def say_with_espeak(plans: Sequence[Utterance]) -> Iterable[Samples]:
    """Recordings `(n,)` at `RATE` of a block of utterances.

    Raises:
        DataError: espeak-ng cannot run here.
    """
    return say(plans, RATE)


def choose_voices(names: Sequence[str]) -> Cast:
    """The voices of these names, in all splits; without any, TinyWorld's, of which four are heard in the test split alone.

    Raises:
        UsageError: espeak-ng has no such voice, or it is not English.
    """
    for name in names:
        accent, plus, variant = name.partition("+")
        if accent not in ACCENTS or (plus and variant not in _variants()):
            raise UsageError(
                f"there is no English voice {name!r}; accents: {', '.join(ACCENTS)}; variants behind a +: {', '.join(_variants())}",
                where="--voices",
                fix="name an accent, or one with a variant: --voices en-us,en-gb-x-rp+f2",
            )
    return Cast(tuple(dict.fromkeys(names)), ()) if names else Cast()


@cache
def _variants() -> tuple[str, ...]:
    return tuple(voice_variants())
