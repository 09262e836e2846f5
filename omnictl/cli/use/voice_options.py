"""Options of the commands that speak."""

from typing import Annotated

import typer

from omnictl.cli.options import check_finite

SpeakerOption = Annotated[str | None, typer.Option("--speaker", help="Whose voice, if the Talker has several.", show_default=False)]
SpeedOption = Annotated[
    float, typer.Option("--speed", min=0.25, max=4, callback=check_finite, help="Of speech: 2 is twice as fast.")
]
PitchOption = Annotated[
    float,
    typer.Option("--pitch", min=-12, max=12, callback=check_finite, help="Of speech, in semitones above the voice's own."),
]
