"""`omnictl chat`: one question, or a conversation."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.evaluating import chosen_run
from omnictl.cli.options import DeviceOption, JsonOption, RunOption, RunsOption, run_root
from omnictl.errors import UsageError

if TYPE_CHECKING:
    from omnictl.chat.session import Reply, Session
    from omnictl.generate.sampling import SamplingConfig

HELP = "/reset forgets what was said · /quit or Ctrl-D leaves · anything else is said to the model"


def chat(
    text: Annotated[str | None, typer.Option(help="One thing to say; without it a conversation.", show_default=False)] = None,
    run: RunOption = None,
    temperature: Annotated[float, typer.Option(min=0, max=10, help="0: always the likeliest token.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Keep the likeliest tokens that together reach this.")] = 0.95,
    top_k: Annotated[int, typer.Option(min=0, help="Keep so many tokens; 0: all.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(min=1, max=10, help="1: none.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 128,
    seed: Annotated[int | None, typer.Option(min=0, help="Make replies repeatable.", show_default=False)] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Talk to the newest Thinker: it answers if it was trained on dialogues, else it continues your text."""
    from omnictl.chat.session import Session
    from omnictl.generate.sampling import SamplingConfig
    from omnictl.train.device import choose_device

    output = Output(as_json=as_json)
    if as_json and text is None:
        raise UsageError("--json is for one reply, a conversation has many", where="--json", fix="say something with --text TEXT")
    sampling = SamplingConfig(temperature=temperature, top_p=top_p, top_k=top_k, repetition_penalty=repetition_penalty)
    chosen = chosen_run(run_root(runs), "pretrain", run)
    session = Session.open(chosen.model, choose_device(device))
    if seed is None:
        session.generator.seed()
    else:
        session.generator.manual_seed(seed)
    if text is None:
        _converse(session, sampling, max_tokens, output, name=chosen.path.name)
        return
    reply = _answer(session, text, sampling, max_tokens, output)
    if as_json:
        output.result(_as_json(str(chosen.path), reply), "")


def _answer(session: "Session", text: str, sampling: "SamplingConfig", max_tokens: int, output: Output) -> "Reply":
    """Stream one reply to the terminal; nothing is shown with `--json`."""
    from omnictl.chat.session import Reply

    reply = Reply()
    for piece in session.reply(text, sampling, max_tokens=max_tokens, into=reply):
        if not output.as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    if not output.as_json:
        sys.stdout.write("\n")
    if reply.dropped_tokens:
        output.say(f"[dim](the oldest {reply.dropped_tokens} tokens did not fit into the context and were left out)[/dim]")
    return reply


def _converse(session: "Session", sampling: "SamplingConfig", max_tokens: int, output: Output, *, name: str) -> None:
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history for input()
    manner = "it answers" if session.mode == "chatml" else "it continues what you write"
    output.say(f"[bold]{escape(name)}[/bold]: {manner}. {HELP}")
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            text = input(prompt).strip()
        except EOFError:
            return
        if text in ("/quit", "/exit"):
            return
        if text == "/reset":
            session.history.clear()
            output.say("[dim](forgotten)[/dim]")
        elif text.startswith("/"):
            output.say(HELP)
        elif text:
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C stops a reply, not the conversation
                _answer(session, text, sampling, max_tokens, output)


def _as_json(run: str, reply: "Reply") -> dict[str, object]:
    tokens = {"text": reply.prompt_tokens, "image": 0, "audio": 0, "new": reply.new_tokens}
    return {
        "run": run,
        "answer": reply.text,
        "speech": None,
        "tokens": tokens,
        "first_token_seconds": reply.first_token_seconds,
        "first_audio_seconds": None,
    }
