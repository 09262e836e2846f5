"""`omnictl chat`: one question, with pictures and sounds, answered in writing and aloud; or a conversation."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.console import Output
from omnictl.cli.options import DeviceOption, JsonOption, RunOption, RunsOption, run_root
from omnictl.errors import RunError, UsageError

if TYPE_CHECKING:
    from omnictl.chat.session import Attachment, Reply
    from omnictl.runs.run import Run
    from omnictl.say import Speaker

TALKERS = ("sft", "pretrain")
"""The stages whose models can be talked to, the ablest first."""


def chat(
    text: Annotated[str | None, typer.Option(help="Something to say.", show_default=False)] = None,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A picture to talk about; repeatable.", show_default=False)
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A question as a recording, or a sound to talk about.", show_default=False)
    ] = None,
    speak: Annotated[
        Path | None, typer.Option(metavar="WAV", help="Say the answer, too, into this file.", show_default=False)
    ] = None,
    run: RunOption = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=10,
            help="0: always the likeliest token, the default of what was trained to answer; else 0.7.",
            show_default=False,
        ),
    ] = None,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Keep the likeliest tokens that together reach this.")] = 0.95,
    top_k: Annotated[int, typer.Option(min=0, help="Keep so many tokens; 0: all.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(min=1, max=10, help="1: none.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 128,
    seed: Annotated[int | None, typer.Option(min=0, help="Make replies repeatable.", show_default=False)] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Talk to the newest model of stage E, else to the newest Thinker; without a question, a conversation.

    A Thinker that was not trained on dialogues continues your text.
    """
    from omnictl.chat.session import Attachment, Session
    from omnictl.cli.conversation import Conversation, answer
    from omnictl.data.cache import cache_dir
    from omnictl.generate.sampling import SamplingConfig
    from omnictl.train.device import choose_device

    output = Output(as_json=as_json)
    shown = [*(Attachment("image", file) for file in image or ()), *([Attachment("audio", audio)] if audio else [])]
    _check_question(text, shown, as_json=as_json)
    chosen = chosen_partner(run_root(runs), run)
    where, cache = choose_device(device), cache_dir()
    voice = open_speaker(run_root(runs), chosen, where, cache) if speak else None
    session = Session.open(chosen.model, where, cache)
    chosen_temperature = temperature if temperature is not None else 0.0 if chosen.stage == "sft" else 0.7
    sampling = SamplingConfig(temperature=chosen_temperature, top_p=top_p, top_k=top_k, repetition_penalty=repetition_penalty)
    if seed is None:
        session.generator.seed()
    else:
        session.generator.manual_seed(seed)
    if text is None and not shown:
        Conversation(session, sampling, max_tokens, output, lambda: open_speaker(run_root(runs), chosen, where, cache), speak).hold(
            chosen.path.name
        )
        return
    began = time.perf_counter()
    said = answer(session, text or "", shown, sampling, max_tokens, output, voice, speak)
    if as_json:
        first_audio = None if said.first_audio is None else said.first_audio - began
        output.result(_as_json(str(chosen.path), said.reply, said.speech, first_audio), "")


def _check_question(text: str | None, shown: "list[Attachment]", *, as_json: bool) -> None:
    """Refuse what is no question.

    Raises:
        UsageError: nothing is asked.
    """
    from omnictl.chat.session import KINDS

    if as_json and text is None and not shown:
        raise UsageError("--json is for one reply, a conversation has many", where="--json", fix="say something with --text TEXT")
    if text is not None and not text.strip() and not shown:
        raise UsageError("the question is empty", where="--text", fix="write something, or leave --text out for a conversation")
    if text is None and shown and all(each.kind == "image" for each in shown):
        raise UsageError(
            f"a {KINDS['image']} alone asks nothing", where="--image", fix="ask with --text TEXT, or aloud with --audio FILE"
        )


def chosen_partner(root: Path, reference: str | None) -> "Run":
    """The run that `--run` names, else the newest finished one of the ablest stage there is.

    Raises:
        RunError: there is none.
    """
    from omnictl.runs.run import Run, find_run, list_runs

    if reference is None:
        for stage in TALKERS:
            finished = next((found for found in list_runs(root, stage) if found.record()["status"] == "finished"), None)
            if finished is not None:
                return finished
        raise RunError(
            f"no finished run of stage `{TALKERS[0]}` or `{TALKERS[1]}` in {root}",
            where=str(root),
            fix="make one with `omnictl pipeline --preset tiny --max-minutes 30`, or a Thinker alone with `omnictl pretrain`",
        )
    if (Path(reference) / "run.json").is_file() and Run(Path(reference)).stage in TALKERS:
        return Run(Path(reference))
    stage = next((stage for stage in TALKERS if (root / stage / reference / "run.json").is_file()), TALKERS[1])
    return find_run(root, stage, reference)


def open_speaker(root: Path, chosen: "Run", device: "object", cache: Path) -> "Speaker":
    """The Talker of a model folder, else the newest finished one.

    Raises:
        RunError: there is none.
    """
    import torch

    from omnictl.runs.run import newest_run
    from omnictl.say import open_voice

    assert isinstance(device, torch.device)
    own = chosen.model / "talker"
    return open_voice(own if own.is_dir() else newest_run(root, "talker", "finished").model, device, cache)


def _as_json(run: str, reply: "Reply", speech: Path | None, first_audio: float | None) -> dict[str, object]:
    media = reply.media_tokens
    tokens = {"text": reply.prompt_tokens, "image": media["image"], "audio": media["audio"], "new": reply.new_tokens}
    return {
        "run": run,
        "answer": reply.text,
        "speech": None if speech is None else str(speech),
        "tokens": tokens,
        "first_token_seconds": reply.first_token_seconds,
        "first_audio_seconds": first_audio,
    }
