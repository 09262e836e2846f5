"""An omni model as a Hugging Face folder with its own modelling code: images and recordings in, text out.

    config.json  generation_config.json  model.safetensors  modeling_omnictl.py  tokenizer.json  …  README.md

`modeling_omnictl.py` needs `transformers` alone. The Talker stays behind: speech is made by omnictl, or by the ONNX graphs.
"""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from omnictl.config import to_dict
from omnictl.data.dialogues.chat_template import ChatTemplate, Media, Message
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.text.tokenizer import PAD
from omnictl.export.agreement import (
    Agreement,
    compare,
    compare_choices,
    room,
    sample_prompts,
    scale_of,
)
from omnictl.export.extras import require_transformers
from omnictl.export.hugging_face.write_thinker import TOLERANCE, compare_tokenizer, stop_tokens, write_tokenizer
from omnictl.export.omni import OmniParts, sample_sound
from omnictl.export.thinker import ThinkerExport
from omnictl.features.media_encoders import Raw
from omnictl.models.qwen3 import qwen3_config, qwen3_state_dict
from omnictl.nn.audio.mel import log_mel
from omnictl.runs.files import write_json
from omnictl.trainer.checkpoint import plain_state_dict, save_tensors

CODE = "modeling_omnictl"
FEATURE_TOLERANCE = 1e-3
"""Of what depends on log-mels, which another Fourier transform rounds otherwise; times the largest number."""


def write_omni_folder(parts: OmniParts, folder: Path) -> list[Agreement]:
    """Write an omni model in the format of `transformers`, load it from there, and compare.

    Args:
        parts: the omni model's.
        folder: exists; takes the files.

    Raises:
        ExportError: what is loaded differs from the run.
        UsageError: `transformers` is not installed.
        DiskFull, RunError: it cannot be written.
    """
    transformers = require_transformers()
    export = ThinkerExport(parts.omni.thinker, parts.tokenizer, chats=True)
    stops = stop_tokens(chats=True)
    write_json(folder / "config.json", {**_describe(parts), **stops})
    write_json(folder / "generation_config.json", {**stops, "max_new_tokens": 128, "do_sample": False})
    save_tensors(_tensors(parts), folder / "model.safetensors", {"format": "pt"})
    write_tokenizer(export, folder)
    shutil.copyfile(Path(__file__).parent / f"{CODE}.py", folder / f"{CODE}.py")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return [*compare_tokenizer(tokenizer, export), *_compare(_load(folder), parts, folder)]


def _describe(parts: OmniParts) -> dict[str, Any]:
    """The contents of `config.json`."""
    thinker = parts.omni.thinker
    projectors: Any = parts.omni.projectors
    return {
        "architectures": ["OmnictlModel"],
        "model_type": "omnictl",
        "auto_map": {
            "AutoConfig": f"{CODE}.OmnictlConfig",
            "AutoModel": f"{CODE}.OmnictlModel",
            "AutoProcessor": f"{CODE}.OmnictlProcessor",
        },
        "dtype": "float32",
        "thinker": qwen3_config(thinker.config, thinker.embedding.weight.shape[0]),
        "audio": None if parts.ear is None else to_dict(parts.ear.encoder.config),
        "vision": None if parts.eye is None else to_dict(parts.eye.encoder.config),
        "projectors": {
            kind: {
                "features": projector.up.in_features,
                "hidden": projector.up.out_features,
                "width": projector.down.out_features,
                "places": 0 if projector.place is None else len(projector.place),
                "eps": projector.norm.eps,
            }
            for kind, projector in projectors.items()
        },
        "placeholders": {kind: MODALITIES[kind].placeholder for kind in projectors},
    }


def _tensors(parts: OmniParts) -> dict[str, Tensor]:
    """Weights under the names of `OmnictlModel`; heads that only name what is seen and heard are left out."""
    found = {f"thinker.{name}": tensor for name, tensor in qwen3_state_dict(plain_state_dict(parts.omni.thinker)).items()}
    found |= {f"projectors.{name}": tensor for name, tensor in plain_state_dict(parts.omni.projectors).items()}
    for kind, frontend in (("audio", parts.ear), ("image", parts.eye)):
        if frontend is not None:
            tensors = plain_state_dict(frontend.encoder)
            found |= {f"encoders.{kind}.{name}": tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    return found


def _load(folder: Path) -> ModuleType:
    """The modelling code of a folder, without the cache that `trust_remote_code` puts it into."""
    described = importlib.util.spec_from_file_location(CODE, folder / f"{CODE}.py")
    assert described is not None
    assert described.loader is not None
    code = importlib.util.module_from_spec(described)
    described.loader.exec_module(code)
    return code


@torch.no_grad()
def _compare(code: ModuleType, parts: OmniParts, folder: Path) -> list[Agreement]:
    """Inputs, embeddings, scores and greedy text for an image and a recording."""
    model = code.OmnictlModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = code.OmnictlProcessor.from_pretrained(folder)
    raws, given, content = sample_media(parts)
    turns = [{"role": "user", "content": [*({"type": kind} for kind in raws), {"type": "text", "text": "What is this?"}]}]
    inputs = processor(turns, **given)
    tokens, embeddings = _expect(parts, raws, content)
    scores = parts.omni.thinker.logits(parts.omni.thinker(embeddings=embeddings).hidden)
    got = model(**inputs).logits
    agreements = [
        compare("positions of a question with media", inputs["input_ids"], tokens, allowed=0.0),
        compare(
            "its embeddings",
            model.embed(**inputs),
            embeddings,
            allowed=FEATURE_TOLERANCE * scale_of(embeddings),
        ),
        compare("its scores", got, scores, allowed=FEATURE_TOLERANCE * scale_of(scores)),
    ]
    prompts = sample_prompts(parts.omni.thinker)
    ids = torch.tensor(prompts)
    number = room(parts.omni.thinker, prompts)
    model.thinker.generation_config = require_transformers().GenerationConfig(do_sample=False, pad_token_id=PAD)
    written = model.generate(ids, max_new_tokens=number).tolist()
    tie = TOLERANCE * scale_of(scores)
    return [*agreements, compare_choices("greedy text in transformers", parts.omni.thinker, prompts, written, tie=tie)]


def sample_media(parts: OmniParts) -> tuple[dict[MediaKind, Raw], dict[str, list[Any]], list[Media]]:
    """An image and a recording that a model reads: as its encoders take them, as a processor takes them, and their places."""
    raws: dict[MediaKind, Raw] = {}
    given: dict[str, list[Any]] = {}
    if parts.eye is not None:
        size = parts.eye.encoder.config.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        raws["image"], given["images"] = pixels.transpose(2, 0, 1), [Image.fromarray(pixels)]
    if parts.ear is not None:
        mel = parts.ear.encoder.config.mel
        samples = sample_sound(mel, 0.7)
        raws["audio"], given["audio"] = log_mel(samples, mel).numpy(), [samples]
    return raws, given, [Media(kind, 0) for kind in raws]


def _expect(parts: OmniParts, raws: dict[MediaKind, Raw], media: list[Media]) -> tuple[Tensor, Tensor]:
    """Tokens `(1, T)` and embeddings `(1, T, D)` of the run for the same question."""
    encoders = {"image": parts.eye, "audio": parts.ear}
    features = {}
    for kind, raw in raws.items():
        encoder = encoders[kind]
        assert encoder is not None
        features[kind] = encoder([raw])[0]
    message = Message("user", (*media, "What is this?"))
    prompt = ChatTemplate(parts.tokenizer).prompt([message], lambda one: len(features[one.kind]))
    tokens = torch.tensor([prompt.tokens])
    return tokens, parts.omni.embed(tokens, features)
