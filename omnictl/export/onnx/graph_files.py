"""An omni model as ONNX graphs that onnxruntime runs without torch, and what a program must know to chat with them.

    thinker.onnx  audio_encoder.onnx  vision_encoder.onnx  talker_text.onnx  talker_frames.onnx  talker_step.onnx
    codec_decoder.onnx  vocoder.onnx  chat.json

Encoders hold their projectors. `examples/onnx_chat.py` is the reference for how the graphs are put together.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omnictl.data.dialogues.modalities import MODALITIES
from omnictl.data.speech.transcripts.spoken_text import SYMBOLS
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.data.text.tokenizer import END, IM_END, IM_START
from omnictl.errors import ConfigError
from omnictl.export.extras import require
from omnictl.export.omni import OmniParts
from omnictl.export.onnx.graphs import (
    CodecGraph,
    EarGraph,
    EyeGraph,
    FrameGraph,
    GriffinLimGraph,
    NeuralVocoderGraph,
    SpeechGraph,
    TextGraph,
    ThinkerGraph,
    make_traceable,
)
from omnictl.generate.griffin_lim import Neural
from omnictl.generate.tts import Voice
from omnictl.models.omni import Omni
from omnictl.models.talker import LONGEST_DURATION
from omnictl.runs.files import write_json

OPSET = 17

Arrays = dict[str, NDArray[Any]]


class Graph(NamedTuple):
    """A module to be traced."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples."""
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]]
    """Of inputs and outputs, the axes whose length is open."""


def write_graphs(parts: OmniParts, folder: Path) -> None:
    """Write every graph, and `chat.json`.

    Raises:
        UsageError: `onnx` is not installed.
        ConfigError: the Talker needs what has no graph.
        DiskFull, RunError: they cannot be written.
    """
    require("onnx", "export")
    facts = chat_facts(parts)
    for name, graph in graphs(parts).items():
        _trace(graph, folder / f"{name}.onnx")
    write_json(folder / "chat.json", facts)


def _trace(graph: Graph, path: Path) -> None:
    """Write one graph. The tracing exporter, since it keeps the module's own operations and needs no further library."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it is the older one, and that constants of shapes are constants
        torch.onnx.register_custom_op_symbolic("aten::mT", _transpose, OPSET)  # type: ignore[attr-defined]
        torch.onnx.export(
            make_traceable(graph.module),
            tuple(graph.inputs.values()),
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=graph.axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _transpose(graph: Any, matrices: Any) -> Any:
    """The ONNX operation of `Tensor.mT`, which torch's exporter does not know."""
    rank = matrices.type().dim()
    return graph.op("Transpose", matrices, perm_i=[*range(rank - 2), rank - 1, rank - 2])


def graphs(parts: OmniParts) -> dict[str, Graph]:
    """The graphs of an omni model, by name."""
    found = {"thinker": _thinker_graph(parts.omni)}
    projectors: Any = parts.omni.projectors
    if parts.ear is not None:
        ear = EarGraph(parts.ear, projectors["audio"], parts.omni.thinker.config.context)
        axes = {"samples": {0: "n"}, "features": {0: "S"}}
        found["audio_encoder"] = Graph(ear, {"samples": torch.randn(8_000)}, ("features",), axes)
    if parts.eye is not None:
        size = parts.eye.encoder.config.image_size
        image = torch.zeros(3, size, size, dtype=torch.uint8)
        found["vision_encoder"] = Graph(EyeGraph(parts.eye, projectors["image"]), {"image": image}, ("features",), {})
    return found | (_voice_graphs(parts.voice) if parts.voice is not None else {})


def _thinker_graph(omni: Omni) -> Graph:
    config = omni.thinker.config
    past = torch.randn(config.layers, config.kv_heads, 3, config.head_width)
    inputs = {
        "tokens": torch.tensor([0, MODALITIES["image"].placeholder, MODALITIES["audio"].placeholder, 9]),
        "features": torch.randn(2, config.width),
        "positions": torch.arange(3, 7),
        "keys": past,
        "values": past,
    }
    axes = {"tokens": {0: "T"}, "features": {0: "N"}, "positions": {0: "T"}}
    return Graph(ThinkerGraph(omni.thinker), inputs, ("scores", "new_keys", "new_values"), axes | _CACHE_AXES)


_CACHE_AXES = {name: {2: axis} for name, axis in (("keys", "P"), ("values", "P"), ("new_keys", "L"), ("new_values", "L"))}


def _voice_graphs(voice: Voice) -> dict[str, Graph]:
    talker = voice.talker
    interface, config = talker.interface, talker.config
    symbols = {"symbols": torch.tensor([0, 2, 3, 0])} | ({"speaker": torch.zeros(1).long()} if interface.speakers else {})
    owner, count = torch.tensor([0, 0, 1, 1, 2, -1]).repeat_interleave(interface.subframes), 6 * interface.subframes
    spread = {"states": torch.randn(4, config.width), "owner": owner, "before": torch.arange(count), "after": torch.arange(count)}
    past = torch.randn(config.layers, config.heads, 3, config.width // config.heads)
    step = {
        "frame": torch.randn(1, config.width),
        "last": torch.full((interface.books,), interface.codes),
        "positions": torch.tensor([3]),
        "keys": past,
        "values": past,
    }
    mel = voice.codec.config.mel
    vocoder = NeuralVocoderGraph(voice.vocoder.network) if isinstance(voice.vocoder, Neural) else GriffinLimGraph(mel)
    return {
        "talker_text": Graph(
            TextGraph(talker),
            symbols,
            ("states", "log_durations"),
            {"symbols": {0: "T"}, "states": {0: "T"}, "log_durations": {0: "T"}},
        ),
        "talker_frames": Graph(
            FrameGraph(talker),
            spread,
            ("frames",),
            {"states": {0: "T"}, "frames": {0: "S"}} | {name: {0: "U"} for name in ("owner", "before", "after")},
        ),
        "talker_step": Graph(SpeechGraph(talker), step, ("scores", "new_keys", "new_values"), _CACHE_AXES),
        "codec_decoder": Graph(
            CodecGraph(voice.codec),
            {"codes": torch.zeros(interface.books, 5).long()},
            ("mel",),
            {"codes": {1: "S"}, "mel": {0: "T"}},
        ),
        "vocoder": Graph(vocoder, {"mel": torch.full((12, mel.bins), -3.0)}, ("samples",), {"mel": {0: "T"}, "samples": {0: "n"}}),
    }


def chat_facts(parts: OmniParts) -> dict[str, Any]:
    """What a program must know to chat, the contents of `chat.json`.

    Raises:
        ConfigError: the Talker needs what has no graph.
    """
    tokenizer, thinker = parts.tokenizer, parts.omni.thinker.config

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, markup=False)

    facts: dict[str, Any] = {
        "prompt_begin": [END, IM_START, *ids("user"), *ids("\n")],
        "prompt_end": [IM_END, *ids("\n"), IM_START, *ids("assistant"), *ids("\n")],
        "stop": [END, IM_START, IM_END],
        "placeholders": {kind: modality.placeholder for kind, modality in MODALITIES.items()},
        "token_bytes": [token.hex() for token in tokenizer.token_bytes],
        "context": thinker.context,
        "cache": [thinker.layers, thinker.kv_heads, 0, thinker.head_width],
    }
    if parts.ear is not None:
        facts["audio_hz"] = parts.ear.encoder.config.mel.sample_rate
    if parts.eye is not None:
        facts["image_size"] = parts.eye.encoder.config.image_size
    if parts.voice is not None:
        facts["voice"] = _voice_facts(parts.voice)
    return facts


def _voice_facts(voice: Voice) -> dict[str, Any]:
    """What a program must know to speak.

    Raises:
        ConfigError: the Talker needs what has no graph.
    """
    without = "`omnictl export --to folder --out DIR` leaves the Talker out"
    if voice.conditioner is not None:
        raise ConfigError(
            "the Talker of this model reads a Thinker's states along, which has no graph yet",
            where="--to",
            fix=f"{without}; or join with one that was trained without --thinker",
        )
    if not isinstance(voice.pronunciation, ReadAloud):
        raise ConfigError(
            "a Talker of phonemes needs espeak-ng beside its graphs",
            where="data.symbols",
            fix=f"{without}; or join with one that reads letters",
        )
    talker = voice.talker
    return {
        "symbols": SYMBOLS,
        "speakers": list(voice.speakers) if talker.interface.speakers else [],
        "books": talker.interface.books,
        "codes": talker.interface.codes,
        "subframes": talker.interface.subframes,
        "longest_duration": LONGEST_DURATION,
        "temperature": voice.sampling.temperature,
        "cache": [talker.config.layers, talker.config.heads, 0, talker.config.width // talker.config.heads],
        "sample_hz": voice.vocoder.sample_rate,
    }


class OnnxSession:
    """A graph that onnxruntime runs on the CPU.

    Args:
        onnxruntime: the library.
        path: of the graph.
    """

    def __init__(self, onnxruntime: Any, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Tensor) -> list[Tensor]:
        """The outputs, in order."""
        found = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(np.asarray(one)) for one in found]
