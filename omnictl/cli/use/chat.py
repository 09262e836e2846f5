"""`omnictl chat`: one question, with images and audio, answered in writing and aloud; or a conversation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import LARGEST_SEED, DeviceOption, JsonOption, RunOption, RunsOption, check_finite
from omnictl.cli.use.voice_options import PitchOption, SpeakerOption, SpeedOption
from omnictl.errors import RunError, UsageError
from omnictl.runs.root import run_root
from omnictl.stages import STAGES
from omnictl.visible_text import is_unicode

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnictl.generate.tts import Voice
    from omnictl.use.chat_session import Reply
    from omnictl.use.say import SpeechSettings

CHAT_STAGES = tuple(name for name, entry in reversed(STAGES.items()) if entry.converses)
"""The stages whose models can be talked to, the ablest first."""


class Partner(NamedTuple):
    """The model that one talks to."""

    path: Path
    """The run, or a model folder that was copied from one."""
    stage: str
    model: Path


def chat(
    text: Annotated[str | None, typer.Option(help="Something to say.", show_default=False)] = None,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An image to talk about; repeatable.", show_default=False)
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A question as a recording, or audio to talk about.", show_default=False)
    ] = None,
    speak: Annotated[
        Path | None, typer.Option(metavar="WAV", help="Say the answer, too, into this file.", show_default=False)
    ] = None,
    speaker: SpeakerOption = None,
    speed: SpeedOption = 1.0,
    pitch: PitchOption = 0.0,
    run: RunOption = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=10,
            callback=check_finite,
            help="0: always the likeliest token, the default of what was trained to answer; else 0.7.",
            show_default=False,
        ),
    ] = None,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1, callback=check_finite, help="Keep the likeliest tokens that together reach this.")
    ] = 0.95,
    top_k: Annotated[int, typer.Option(min=0, max=10**9, help="Keep so many tokens; 0: all.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(min=1, max=10, callback=check_finite, help="1: none.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="Longest reply.")] = 128,
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="Make replies repeatable.", show_default=False)] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Talk to the newest model of stage E, else to the newest Thinker; without a question, a conversation.

    A Thinker that was not trained on dialogues continues your text.
    """
    from omnictl.cli.use.chat_repl import ChatRepl
    from omnictl.cli.use.playback import open_loudspeaker
    from omnictl.cli.use.reply import ReplySettings, SpokenReply, write_reply
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.generate.sampling import SamplingConfig
    from omnictl.trainer.hardware.device import choose_device
    from omnictl.use.chat_session import Attachment, Reply, Session
    from omnictl.use.say import SpeechSettings, check_place, find_speaker, open_voice

    output = Output(as_json=as_json)
    images = image or []
    _check_question(text, images, audio, as_json=as_json)
    speech = SpeechSettings(speaker=speaker, speed=speed, pitch=pitch)
    asks = text is not None or bool(images) or audio is not None
    if speak is not None:
        check_place(speak, "--speak")
    elif asks:
        _check_unsaid(speech)
    partner = find_partner(run_root(runs), run)
    where, cache = choose_device(device), cache_dir()
    session = Session.open(partner.model, where, cache)
    chosen_temperature = temperature if temperature is not None else default_temperature(partner)
    sampling = SamplingConfig(temperature=chosen_temperature, top_p=top_p, top_k=top_k, repetition_penalty=repetition_penalty)
    settings = ReplySettings(sampling, max_tokens, speech)
    if seed is None:
        session.generator.seed()
    else:
        session.generator.manual_seed(seed)

    def voice() -> "Voice":
        opened = open_voice(_find_talker(run_root(runs), partner, lambda line: output.say(escape(line))), where, cache)
        find_speaker(opened, speaker)
        return opened

    if not asks:
        ChatRepl(session, settings, output, voice, speak).run(partner.path.name)
        return
    spoken: SpokenReply | None = None
    if speak is not None:
        opened = voice()
        spoken = SpokenReply(opened, speak, None if as_json else open_loudspeaker(opened.vocoder.sample_rate))
    reply = Reply()
    shown = [session.show(Attachment("image", file)) for file in images]
    shown += [session.show(Attachment("audio", audio))] if audio else []
    said = write_reply(session, (text or "").strip(), shown, settings, output, reply, spoken)
    if as_json:
        output.result(_as_json(str(partner.path), reply, said), "")


def default_temperature(partner: Partner) -> float:
    """What was trained to answer takes the likeliest token; what writes freely would go round in circles that way."""
    return 0.0 if partner.stage == "sft" else 0.7


def _check_question(text: str | None, images: list[Path], audio: Path | None, *, as_json: bool) -> None:
    """Refuse what is not a question.

    Raises:
        UsageError: nothing is asked, or in no encoding.
    """
    if as_json and text is None and not images and audio is None:
        raise UsageError("--json is for one reply, a conversation has many", where="--json", fix="say something with --text TEXT")
    if audio is None and not (text or "").strip():
        if images:
            fix = "ask with --text TEXT, or aloud with --audio FILE"
            raise UsageError("an image alone asks nothing", where="--image", fix=fix)
        if text is not None:
            fix = "write something, or leave --text out for a conversation"
            raise UsageError("the question is empty", where="--text", fix=fix)
    if text is not None and not is_unicode(text):
        raise UsageError("the question is not valid UTF-8", where="--text", fix="write it in a terminal whose encoding is UTF-8")


def _check_unsaid(speech: "SpeechSettings") -> None:
    """Refuse to choose a voice for an answer that is not said.

    Raises:
        UsageError: that is what was asked for.
    """
    if speech != type(speech)():
        fix = "add --speak reply.wav, or leave --speaker, --speed and --pitch out"
        raise UsageError("a voice is chosen for an answer that is not said", where="--speak", fix=fix)


def find_partner(root: Path, reference: str | None) -> Partner:
    """The run or model folder that `--run` names, else the newest finished run of the ablest stage there is.

    Raises:
        RunError: there is none.
    """
    from omnictl.runs.files import read_json
    from omnictl.runs.run import find_run, list_runs, runs_called

    if reference is not None and reference != "latest":
        folder = Path(reference)
        if (folder / "config.json").is_file() and not (folder / "run.json").exists():
            described = read_json(folder / "config.json")
            return Partner(folder, str(described.get("stage")) if isinstance(described, dict) else "", folder)
        meant = (
            stage
            for stage in CHAT_STAGES
            if reference == stage or any(run.stage == stage for run in runs_called(root, stage, reference))
        )
        stage = next(meant, CHAT_STAGES[1])
        run = find_run(root, stage, reference)
        return Partner(run.path, stage, run.model)
    for stage in CHAT_STAGES:
        for run in list_runs(root, stage):
            if reference is not None or run.record()["status"] == "finished":
                return Partner(run.path, stage, run.model)
    raise RunError(
        f"no finished run of stage `{CHAT_STAGES[0]}` or `{CHAT_STAGES[1]}` in {root}",
        where=str(root),
        fix="make one with `omnictl pipeline --preset tiny --max-minutes 30`, or a Thinker alone with `omnictl pretrain`",
    )


def _find_talker(root: Path, partner: Partner, tell: "Callable[[str], None]") -> Path:
    """The Talker that a model folder holds, else that of the newest finished run.

    Raises:
        RunError: there is none.
    """
    from omnictl.runs.run import newest_run

    own = partner.model / "talker"
    if own.is_dir():
        return own
    run = newest_run(root, "talker", "finished")
    tell(f"spoken by {run.path}")
    return run.model


def _as_json(run: str, reply: "Reply", speech: Path | None) -> dict[str, object]:
    media = reply.media_tokens
    tokens = {"text": reply.prompt_tokens, "image": media["image"], "audio": media["audio"], "new": reply.new_tokens}
    return {
        "run": run,
        "answer": reply.text,
        "speech": None if speech is None else str(speech),
        "tokens": tokens,
        "first_token_seconds": reply.first_token_seconds,
        "first_audio_seconds": reply.first_audio_seconds,
    }
