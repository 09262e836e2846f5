"""Whether ONNX graphs give what the run gives: each against the run's own function, and greedy texts and codes."""

from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.data.dialogues.modalities import MODALITIES
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.export.agreement import Agreement, compare, compare_choices, room, sample_prompts, scale_of
from omnictl.export.extras import require
from omnictl.export.omni import OmniParts, sample_sound
from omnictl.export.onnx.graph_files import OnnxSession
from omnictl.generate.griffin_lim import Neural, Samples, synthesise
from omnictl.generate.tts import CodeSampling, Voice, code_frames
from omnictl.models.omni import Omni, Projector
from omnictl.models.talker import round_durations
from omnictl.nn.audio.length_regulator import spread_text
from omnictl.nn.audio.mel import RANGE, MelConfig, log_mel

TOLERANCE = 1e-3
"""Times the largest number of an output."""

SENTENCE = "there are two cats, and a dog."

MEL_SLACK = 0.15
"""Nats by which Griffin-Lim over a whole sentence may miss the wanted log-mels more than the run's, chunk by chunk."""


def compare_graphs(parts: OmniParts, folder: Path) -> list[Agreement]:
    """Compare every graph of a folder with the run.

    Raises:
        ExportError: one gives something else.
        UsageError: `onnxruntime` is not installed.
    """
    onnxruntime = require("onnxruntime", "export")

    def session(name: str) -> OnnxSession:
        return OnnxSession(onnxruntime, folder / f"{name}.onnx")

    found = _compare_thinker(session("thinker"), parts.omni)
    projectors: Any = parts.omni.projectors
    if parts.ear is not None:
        for seconds in (0.37, 1.6):
            samples = sample_sound(parts.ear.encoder.config.mel, seconds)
            features = parts.ear([log_mel(samples, parts.ear.encoder.config.mel).numpy()])[0]
            found.append(_compare("audio encoder", session("audio_encoder"), projectors["audio"], features, samples=samples))
    if parts.eye is not None:
        size = parts.eye.encoder.config.image_size
        image = torch.randint(256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
        features = parts.eye([image])[0]
        found.append(_compare("vision encoder", session("vision_encoder"), projectors["image"], features, image=image))
    if parts.voice is not None:
        graphs = {name: session(name) for name in ("talker_text", "talker_frames", "talker_step", "codec_decoder", "vocoder")}
        found += _compare_voice(graphs, parts.voice)
    return found


def _compare(what: str, graph: OnnxSession, projector: Projector, features: Tensor, **given: NDArray[Any]) -> Agreement:
    """What a graph makes of an input, and the run's features through the run's projector."""
    expected = projector(features)
    (got,) = graph(**{name: torch.from_numpy(value) for name, value in given.items()})
    return compare(what, got, expected, allowed=TOLERANCE * scale_of(expected))


@torch.no_grad()
def _compare_thinker(graph: OnnxSession, omni: Omni) -> list[Agreement]:
    """Scores after a prompt with features, one step after it, and greedy texts."""
    thinker = omni.thinker
    config = thinker.config
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(9, thinker.embedding.weight.shape[0], (min(24, config.context - 1),), generator=generator)
    image, audio = MODALITIES["image"].placeholder, MODALITIES["audio"].placeholder
    tokens[2:5], tokens[7] = image, audio
    features = torch.randn(4, config.width, generator=generator)
    is_media = ((tokens == image) | (tokens == audio))[None, :, None]
    embeddings = thinker.embedding(tokens[None]).masked_scatter(is_media, features)
    expected = thinker.logits(thinker(embeddings=embeddings).hidden)[0]
    scale = scale_of(expected)
    none = torch.zeros(config.layers, config.kv_heads, 0, config.head_width)
    half = len(tokens) // 2
    first, keys, values = graph(tokens=tokens[:half], features=features, positions=torch.arange(half), keys=none, values=none)
    nothing = features[:0]
    second, _, _ = graph(
        tokens=tokens[half:], features=nothing, positions=torch.arange(half, len(tokens)), keys=keys, values=values
    )
    got = torch.stack([first, second])
    scores = compare("Thinker's scores", got, expected[[half - 1, -1]], allowed=TOLERANCE * scale)
    prompts = sample_prompts(thinker)
    written = [_write(graph, prompt, nothing, none, room(thinker, prompts)) for prompt in prompts]
    return [scores, compare_choices("greedy text", thinker, prompts, written, tie=TOLERANCE * scale)]


def _write(graph: OnnxSession, prompt: list[int], features: Tensor, keys: Tensor, number: int) -> list[int]:
    """The likeliest tokens after a prompt without media."""
    values, written, tokens, start = keys, list[int](), prompt, 0
    for _ in range(number):
        positions = torch.arange(start, start + len(tokens))
        scores, keys, values = graph(tokens=torch.tensor(tokens), features=features, positions=positions, keys=keys, values=values)
        start += len(tokens)
        tokens = [int(scores.argmax())]
        written += tokens
    return written


@torch.no_grad()
def _compare_voice(graphs: dict[str, OnnxSession], voice: Voice) -> list[Agreement]:
    """States, durations and codes of a sentence, its mel frames, and the sound."""
    talker = voice.talker
    symbols = ReadAloud().encode(SENTENCE)
    speaker = {"speaker": torch.zeros(1).long()} if talker.interface.speakers else {}
    states, log_durations = graphs["talker_text"](symbols=torch.tensor(symbols), **speaker)
    expected = talker.read(torch.tensor([symbols]), torch.tensor([len(symbols)]), torch.zeros(1).long())
    found = [
        _as_expected("Talker's states", states, expected[0]),
        _as_expected("Talker's durations", log_durations, talker.log_durations(expected)[0]),
    ]
    spread = spread_text([round_durations(log_durations).numpy()], talker.interface.subframes)
    (frames,) = graphs["talker_frames"](states=states, owner=spread.owner[0], before=spread.before[0], after=spread.after[0])
    found.append(_as_expected("Talker's frames", frames, talker.frames(expected, spread)[0]))
    likeliest = CodeSampling(temperature=0)
    codes = torch.stack(list(code_frames(talker, symbols, likeliest, torch.Generator())), 1)  # (K, S)
    got = likeliest_codes(graphs["talker_step"], frames, talker.interface.books, talker.interface.codes, _talker_cache(voice))
    found.append(compare("Talker's likeliest codes", got, codes, allowed=0.0))
    (mel,) = graphs["codec_decoder"](codes=codes)
    found.append(_as_expected("codec", mel, voice.codec.decode(codes[None])[0]))
    (sound,) = graphs["vocoder"](mel=mel)
    return [*found, _compare_sound(sound, mel, voice)]


def _as_expected(what: str, got: Tensor, expected: Tensor) -> Agreement:
    return compare(what, got, expected, allowed=TOLERANCE * scale_of(expected))


def _talker_cache(voice: Voice) -> Tensor:
    config = voice.talker.config
    return torch.zeros(config.layers, config.heads, 0, config.width // config.heads)


def likeliest_codes(step: OnnxSession, frames: Tensor, books: int, codes: int, cache: Tensor) -> Tensor:
    """Codes `(K, S)` that a Talker writes for frames `(S, D)`, always the likeliest; book k comes k steps later."""
    count = len(frames)
    written = torch.full((books, count + books - 1), codes)
    last, keys, values, book = torch.full((books,), codes), cache, cache, torch.arange(books)
    nothing = torch.zeros_like(frames[:1])
    for number in range(count + books - 1):
        frame = frames[number : number + 1] if number < count else nothing
        scores, keys, values = step(frame=frame, last=last, positions=torch.tensor([number]), keys=keys, values=values)
        inside = (book <= number) & (number - book < count)
        last = torch.where(inside, scores.argmax(-1), codes)
        written[:, number] = last
    return torch.stack([written[k, k : k + count] for k in range(books)])


def _compare_sound(sound: Tensor, mel: Tensor, voice: Voice) -> Agreement:
    """Samples of a trained vocoder; of Griffin-Lim, whose phases are free, how well the sound has the wanted log-mels."""
    if isinstance(voice.vocoder, Neural):
        expected = voice.vocoder.network(mel[None])[0].clamp(-1, 1)
        return _as_expected("vocoder", sound, expected)
    config = voice.codec.config.mel
    own = _miss(torch.from_numpy(synthesise(voice.vocoder, mel)), mel, config)
    worse = max(0.0, _miss(sound, mel, config) - own)
    allowed = max(MEL_SLACK, own / 2)  # of frames that no sound has, which an untrained codec makes, luck decides how much is met
    return compare("Griffin-Lim's log-mels, nats worse", torch.tensor([worse]), torch.zeros(1), allowed=allowed)


def _miss(sound: Tensor, mel: Tensor, config: MelConfig) -> float:
    """Mean distance of the log-mels of some samples from the wanted ones, each with its loudest value at 0."""
    got = log_mel(cast("Samples", sound.numpy()), config)[: len(mel)]
    wanted = (mel - mel.max()).clamp(min=-RANGE)
    return float((got - wanted).abs().mean())
