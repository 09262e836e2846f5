"""An omni model of omnictl for the `transformers` library: config, model and processor, without omnictl.

    from transformers import AutoModel, AutoProcessor

    processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
    model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "audio"}, {"type": "text", "text": "What is this?"}]}]
    written = model.generate(**processor(turns, images=[image], audio=[samples]))
    print(processor.decode(written[0]))

Images are PIL images, recordings arrays of samples from -1 to 1 at `processor.sample_rate`. One example at a time; shapes: T
tokens, S encoder frames, F mel bins, P patches, H heads, D width.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import cached_file

RANGE = 8 * math.log(10)
SMALLEST_POWER = 1e-10


class OmnictlConfig(PretrainedConfig):
    """Shapes of the parts: `thinker` as of a Qwen3, `audio` and `vision` as of omnictl's encoders, or nothing."""

    model_type = "omnictl"

    def __init__(self, thinker=None, audio=None, vision=None, projectors=None, placeholders=None, **rest):
        self.thinker, self.audio, self.vision = thinker or {}, audio, vision
        self.projectors, self.placeholders = projectors or {}, placeholders or {}
        super().__init__(**rest)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        """Normalise `(…, D)`."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Attention of everything to everything with QK-norm and, if given, rotary positions."""

    def __init__(self, width, heads, eps):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.q_norm, self.k_norm = RMSNorm(width // heads, eps), RMSNorm(width // heads, eps)

    def forward(self, x, rotary=None):
        """Map `(1, T, D)`."""
        q, k, v = (proj(x).unflatten(-1, (self.heads, -1)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2), v.transpose(1, 2)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def rotary_table(length, width, like):
    """Cosines and sines `(T, d)`, half-split, with the minus of the rotation in the sines."""
    frequencies = 10_000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).to(like), torch.cat([-sin, sin], -1).to(like)


def rotate(x, cos, sin):
    """Rotate `(1, H, T, d)`."""
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


class SwiGLU(nn.Module):
    """Gated feed-forward layer."""

    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        """Map `(…, D)`."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution over time, norm, SiLU, projection."""

    def __init__(self, width, kernel, eps):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, width, bias=False)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = RMSNorm(width, eps)

    def forward(self, x):
        """Map `(1, S, D)`."""
        return self.out_proj(F.silu(self.norm(self.depthwise(F.glu(self.in_proj(x), dim=-1).mT).mT)))


class Block(nn.Module):
    """Attention, perhaps a convolution module, SwiGLU, each behind a norm and added to its input."""

    def __init__(self, config, kernel=0):
        super().__init__()
        width, eps = config["width"], config["norm_eps"]
        self.attention_norm, self.attention = RMSNorm(width, eps), Attention(width, config["heads"], eps)
        if kernel:
            self.convolution_norm, self.convolution = RMSNorm(width, eps), ConvolutionModule(width, kernel, eps)
        self.mlp_norm, self.mlp = RMSNorm(width, eps), SwiGLU(width, config["hidden"])

    def forward(self, x, rotary=None):
        """Map `(1, T, D)`."""
        x = x + self.attention(self.attention_norm(x), rotary)
        if hasattr(self, "convolution"):
            x = x + self.convolution(self.convolution_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class AudioEncoder(nn.Module):
    """Log-mels `(T, F)` to features `(S, 2 D)` at an eighth of their rate."""

    def __init__(self, config):
        super().__init__()
        bins, width = config["mel"]["bins"], config["width"]
        self.head_width = width // config["heads"]
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("std", torch.ones(bins))
        self.subsampling = nn.ModuleDict({"first": nn.Conv1d(bins, width, 3, 2, 1), "second": nn.Conv1d(width, width, 3, 2, 1)})
        self.blocks = nn.ModuleList(Block(config, config["kernel"]) for _ in range(config["layers"]))
        self.norm = RMSNorm(width, config["norm_eps"])

    def forward(self, mel):
        """Encode one recording."""
        x = ((mel - self.mean) / self.std).T[None]
        x = F.gelu(self.subsampling["second"](F.gelu(self.subsampling["first"](x)))).mT
        rotary = rotary_table(x.shape[1], self.head_width, x)
        for block in self.blocks:
            x = block(x, rotary)
        x = self.norm(x)[0]
        return F.pad(x, (0, 0, 0, len(x) % 2)).reshape(-1, 2 * x.shape[1])


class VisionEncoder(nn.Module):
    """Images `(3, S, S)` uint8 to merged patches `(P, merge² · D)`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        width, grid = config["width"], config["image_size"] // config["patch"]
        layers, channels = [], 3
        for wider in config["stem"]:
            for depth in range(config["stem_depth"]):
                convolution = nn.Conv2d(channels, wider, 3, 1 if depth else 2, 1, bias=False)
                layers += [convolution, nn.GroupNorm(wider // 16, wider), nn.GELU()]
                channels = wider
        left = config["patch"] // 2 ** len(config["stem"])
        self.embedding = nn.Sequential(*layers, nn.Conv2d(channels, width, left, left))
        self.positions = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.num_extra = config["registers"] + (config["pooling"] == "class")
        self.extra = nn.Parameter(torch.zeros(self.num_extra, width)) if self.num_extra else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.norm = RMSNorm(width, config["norm_eps"])

    def forward(self, image):
        """Encode one image."""
        config = self.config
        x = self.embedding((image[None].to(self.positions) / 255 - config["mean"]) / config["std"]) + self.positions
        rows = x.shape[2]
        x = x.flatten(2).mT  # (1, P, D)
        if self.extra is not None:
            x = torch.cat([self.extra[None], x], 1)
        for block in self.blocks:
            x = block(x)
        merge, width = config["merge"], x.shape[2]
        patches = self.norm(x)[0, self.num_extra :].view(rows // merge, merge, rows // merge, merge, width)
        return patches.transpose(1, 2).reshape(-1, merge**2 * width)


class Projector(nn.Module):
    """Features to embeddings of the Thinker."""

    def __init__(self, config):
        super().__init__()
        self.up, self.down = nn.Linear(config["features"], config["hidden"]), nn.Linear(config["hidden"], config["width"])
        self.place = nn.Parameter(torch.zeros(config["places"], config["hidden"])) if config["places"] else None
        self.norm = RMSNorm(config["width"], config["eps"])

    def forward(self, features):
        """Map `(N, features)` of one image or recording to `(N, D)`."""
        inner = self.up(features)
        if self.place is not None:
            inner = inner + self.place
        return self.norm(self.down(F.gelu(inner)))


class OmnictlModel(PreTrainedModel):
    """A language model that reads images and recordings in the place of placeholder tokens."""

    config_class = OmnictlConfig

    def __init__(self, config):
        super().__init__(config)
        self.thinker = Qwen3ForCausalLM(Qwen3Config(**config.thinker))
        encoders = {"audio": (AudioEncoder, config.audio), "image": (VisionEncoder, config.vision)}
        self.encoders = nn.ModuleDict({kind: make(shape) for kind, (make, shape) in encoders.items() if shape})
        self.projectors = nn.ModuleDict({kind: Projector(shape) for kind, shape in config.projectors.items()})
        self.post_init()

    def _init_weights(self, module):
        """Nothing: all weights are loaded."""

    def embed(self, input_ids, images=(), audio=()):
        """Embeddings `(1, T, D)` of tokens `(1, T)`; images `(3, S, S)` uint8, recordings as log-mels `(T, F)`."""
        embeddings = self.thinker.get_input_embeddings()(input_ids)
        for kind, some in (("image", images), ("audio", audio)):
            if len(some):
                features = torch.cat([self.projectors[kind](self.encoders[kind](one.to(self.device))) for one in some])
                places = input_ids == self.config.placeholders[kind]
                if int(places.sum()) != len(features):
                    raise ValueError(f"{len(features)} {kind} features for {int(places.sum())} places in the tokens")
                embeddings = embeddings.masked_scatter(places[..., None], features.to(embeddings.dtype))
        return embeddings

    def forward(self, input_ids, images=(), audio=(), **rest):
        """Scores of what may come next at every position, as of `Qwen3ForCausalLM`."""
        return self.thinker(inputs_embeds=self.embed(input_ids, images, audio), **rest)

    @torch.no_grad()
    def generate(self, input_ids, images=(), audio=(), **rest):
        """The tokens `(1, n)` that are written after the prompt; further arguments are those of `generate` everywhere."""
        embeddings = self.embed(input_ids, images, audio)
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=self.device)
        return self.thinker.generate(inputs_embeds=embeddings, attention_mask=mask, **rest)


class OmnictlProcessor:
    """Turns a conversation with PIL images and recordings into what the model reads, and tokens into text."""

    def __init__(self, tokenizer, config):
        self.tokenizer, self.config = tokenizer, config
        self.sample_rate = config["audio"]["mel"]["sample_rate"] if config.get("audio") else None

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoProcessor"):
        """As `AutoProcessor` asks."""

    @classmethod
    def from_pretrained(cls, folder, **rest):  # noqa: ARG003  of hubs
        """The processor of a folder or a repository."""
        file = cached_file(folder, "config.json", _raise_exceptions_for_missing_entries=True)
        return cls(PreTrainedTokenizerFast.from_pretrained(folder), json.loads(Path(file).read_text(encoding="utf-8")))

    def __call__(self, turns, images=(), audio=()):
        """Inputs of the model; media stand where the turns say, those of each kind in order."""
        for kind, encoder, some in (("image", "vision", images), ("audio", "audio", audio)):
            if len(some) and not self.config.get(encoder):
                raise ValueError(f"this model has no {encoder} encoder: it reads nothing of kind {kind}")
        images, audio = [self.read_image(one) for one in images], [self.read_audio(one) for one in audio]
        ids = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        counts = {"image": [self.count_patches() for _ in images], "audio": [-(-len(one) // 8) for one in audio]}
        kinds = {token: kind for kind, token in self.config["placeholders"].items()}
        for kind, some in counts.items():
            places = sum(kinds.get(token) == kind for token in ids)
            if places != len(some):
                raise ValueError(f"the turns have places for {places} of kind {kind}, and {len(some)} are given")
        waiting = {kind: iter(some) for kind, some in counts.items()}
        tokens = [token for one in ids for token in ([one] * next(waiting[kinds[one]]) if one in kinds else [one])]
        return {"input_ids": torch.tensor([tokens]), "images": images, "audio": audio}

    def decode(self, tokens):
        """The text of tokens, without special ones."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def count_patches(self):
        """Placeholders of an image."""
        vision = self.config["vision"]
        return (vision["image_size"] // vision["patch"] // vision["merge"]) ** 2

    def read_image(self, image):
        """`(3, S, S)` uint8: the central square of a PIL image, turned as its EXIF says, on white where it is transparent."""
        size = self.config["vision"]["image_size"]
        shown = ImageOps.exif_transpose(image).convert("RGBA")
        opaque = Image.composite(shown.convert("RGB"), Image.new("RGB", shown.size, "white"), shown)
        square = ImageOps.fit(opaque, (size, size), Image.Resampling.BICUBIC)
        return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)

    def read_audio(self, samples):
        """Log-mels `(T, F)` of samples `(n,)`."""
        mel = self.config["audio"]["mel"]
        sound = torch.as_tensor(samples, dtype=torch.float32)
        window = torch.hann_window(mel["window"])
        spectrum = torch.stft(
            sound, mel["fft"], mel["hop"], mel["window"], window, center=True, pad_mode="constant", return_complex=True
        )
        power = spectrum.abs().square().T @ mel_filters(mel)
        log = power.clamp(min=SMALLEST_POWER).log()
        return (log - log.max()).clamp(min=-RANGE) if power.max() > SMALLEST_POWER else torch.full_like(log, -RANGE)


def mel_filters(mel):
    """Triangles `(fft / 2 + 1, F)` on the HTK mel scale."""

    def to_mel(hertz):
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    frequencies = torch.linspace(0, mel["sample_rate"] // 2, mel["fft"] // 2 + 1)
    points = torch.linspace(to_mel(mel["low_hz"]), to_mel(mel["high_hz"]), mel["bins"] + 2)
    hertz = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    slopes = hertz[None] - frequencies[:, None]
    gaps = hertz[1:] - hertz[:-1]
    return torch.minimum(-slopes[:, :-2] / gaps[:-1], slopes[:, 2:] / gaps[1:]).clamp(min=0)
