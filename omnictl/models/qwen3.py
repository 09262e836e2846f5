"""A Thinker as `Qwen3ForCausalLM` of the `transformers` library, and back: configs and names of tensors.

What the architectures do not share is refused by name, in both directions. A setting of a Thinker that this module does not know
counts as foreign unless it is at its default.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omnictl.errors import CheckpointError, ConfigError
from omnictl.models.thinker import ThinkerConfig

ARCHITECTURE = "Qwen3ForCausalLM"

_SHAPES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
}
"""Settings of a Thinker that Qwen3's config holds under another name."""

_TRAINING_ONLY = {"dropout", "experts_per_token", "balance_weight"}
"""Settings that change nothing in a trained dense Thinker."""

_MEANINGS = {
    "kv_shift": "keys and values mixed with the previous position's",
    "experts": "a mixture of experts",
}
"""Of settings that Qwen3 has not, for messages."""

_PARTS = {"attention_norm": "input_layernorm", "attention": "self_attn", "mlp_norm": "post_attention_layernorm"}
_ENDS = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}

_EXPECTED: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "tie_word_embeddings": (True,),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
}
"""Settings of a Qwen3 that a Thinker cannot have otherwise, with what they must be where they are given."""


def foreign_settings(config: ThinkerConfig) -> list[str]:
    """Settings of a Thinker that `Qwen3ForCausalLM` has no counterpart of, each as `name=value (what it is)`."""
    known = {*_SHAPES, *_TRAINING_ONLY, "rope_theta"}
    changed = [name for name, field in type(config).model_fields.items() if getattr(config, name) != field.default]
    return [
        f"model.{name}={getattr(config, name)}" + (f" ({_MEANINGS[name]})" if name in _MEANINGS else "")
        for name in changed
        if name not in known
    ]


def check_is_qwen3(config: ThinkerConfig, where: str) -> None:
    """Refuse a Thinker that `Qwen3ForCausalLM` cannot hold.

    Raises:
        ConfigError: it has settings without a counterpart there, which are named.
    """
    foreign = foreign_settings(config)
    if foreign:
        raise ConfigError(
            f"this Thinker has what {ARCHITECTURE} has not: {', '.join(foreign)}",
            where=where,
            fix=f"export one that was trained without: omnictl pretrain {' '.join(_without(one) for one in foreign)}",
        )


def _without(setting: str) -> str:
    """The option that gives a foreign setting its default."""
    name = setting.partition("=")[0].removeprefix("model.")
    default = ThinkerConfig.model_fields[name].default
    return f"--set model.{name}={str(default).lower() if isinstance(default, bool) else default}"


def qwen3_config(config: ThinkerConfig, vocab_size: int) -> dict[str, Any]:
    """The `config.json` of a dense Thinker as `Qwen3ForCausalLM`."""
    shapes = {theirs: getattr(config, own) for own, theirs in _SHAPES.items()}
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        **shapes,
        "head_dim": config.head_width,
        "rope_theta": config.rope_theta,  # where transformers before version 5 and llama.cpp look for it
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    }


def qwen3_state_dict(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A dense Thinker's `state_dict` under the names of `Qwen3ForCausalLM` (tied head left out).

    Raises:
        KeyError: a tensor has no counterpart there.
    """
    return {_their_name(name): tensor for name, tensor in tensors.items()}


def _their_name(name: str) -> str:
    if not name.startswith("blocks."):
        return _ENDS[name]
    _, layer, part, rest = name.split(".", 3)
    return f"model.layers.{layer}.{_PARTS.get(part, part)}.{rest}"


def thinker_settings(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The shape of the Thinker that a Qwen3's `config.json` describes, as settings of `ThinkerConfig`.

    Raises:
        CheckpointError: it is another architecture, or has what a Thinker has not; all of that is named.
    """
    if ARCHITECTURE not in (config.get("architectures") or []):
        raise CheckpointError(
            f"{where} describes {config.get('architectures') or config.get('model_type')!r}, expected ['{ARCHITECTURE}']",
            where=where,
            fix="name a folder with a dense Qwen3 in the format of Hugging Face's `transformers`",
        )
    missing = [name for name in ("vocab_size", *_SHAPES.values()) if name not in config]
    if missing:
        raise CheckpointError(
            f"{where} does not say: {', '.join(missing)}", where=where, fix="copy the file anew from where the model came from"
        )
    foreign = _foreign_to_thinkers(config)
    if foreign:
        raise CheckpointError(
            f"{where} describes what a Thinker has not: {'; '.join(foreign)}",
            where=where,
            fix="name a Qwen3 without these, or train a Thinker from scratch",
        )
    settings = {own: config[theirs] for own, theirs in _SHAPES.items()}
    return {**settings, "rope_theta": float(_rope(config).get("rope_theta", config.get("rope_theta", 10_000.0)))}


def _foreign_to_thinkers(config: Mapping[str, Any]) -> list[str]:
    found = [
        f"{name}={config[name]!r}, expected {expected[0]!r}"
        for name, expected in _EXPECTED.items()
        if name in config and config[name] not in expected
    ]
    if "tie_word_embeddings" not in config:  # Qwen3's default
        found.append("tie_word_embeddings=False, expected True")
    head_width = config["hidden_size"] // config["num_attention_heads"]
    if config.get("head_dim", 128) != head_width:  # Qwen3's default is 128
        found.append(f"head_dim={config.get('head_dim', 128)}, expected hidden_size / num_attention_heads = {head_width}")
    rope_type = _rope(config).get("rope_type", "default")
    if rope_type != "default":
        found.append(f"rope_type={rope_type!r}, expected 'default'")
    kinds = sorted(set(config.get("layer_types") or []) - {"full_attention"})
    return found + [f"layer_types with {kind!r}, expected 'full_attention'" for kind in kinds]


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("rope_parameters") or {}


def thinker_state_dict(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A Qwen3's tensors under the names of a Thinker.

    Args:
        tensors: by the names of `Qwen3ForCausalLM`; a head that repeats the embeddings may be among them.
        expected: the `state_dict` of a Thinker of that shape.
        where: they come from, for the error.

    Raises:
        CheckpointError: tensors are missing, are left over or have another shape; each is named.
    """
    given = dict(tensors)
    head = given.pop("lm_head.weight", None)
    embeddings = given.get("model.embed_tokens.weight")
    wrong = []
    if head is not None and (embeddings is None or head.shape != embeddings.shape or not bool((head == embeddings).all())):
        wrong.append("lm_head.weight: other than the embeddings, expected to be tied to them")
    names = {_their_name(name): name for name in expected}
    for name in sorted(names.keys() | given.keys(), key=_by_number):
        found, wanted = given.get(name), expected.get(names.get(name, ""))
        if found is None and wanted is not None:
            wrong.append(f"{name}: missing, expected {_shape(wanted)}")
        elif wanted is None and found is not None:
            wrong.append(f"{name}: left over, {_shape(found)}")
        elif found is not None and wanted is not None and found.shape != wanted.shape:
            wrong.append(f"{name}: found {_shape(found)}, expected {_shape(wanted)}")
    if wrong:
        raise CheckpointError(
            f"the weights in {where} are not those that its config.json describes:\n" + "\n".join(wrong),
            where=where,
            fix="copy the folder anew from where the model came from; adapters must be merged first",
        )
    return {names[name]: tensor for name, tensor in given.items()}


def _by_number(name: str) -> list[tuple[int, str]]:
    """Orders layers by number."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"\.", name)]


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
