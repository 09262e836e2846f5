"""How an export is used, format by format, as its card says."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from omnictl.data.dialogues.modalities import MediaKind

THINKER_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
inputs = {inputs}
written = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(written, skip_special_tokens=True))
```"""

CHAT_INPUTS = """tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello."}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
TEXT_INPUTS = """tokenizer("Once upon a time", return_tensors="pt")"""

ADAPTER_USE = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER/base")
base = AutoModelForCausalLM.from_pretrained("FOLDER/base")
model = PeftModel.from_pretrained(base, "FOLDER")  # model.merge_and_unload() makes them one
```"""


class Usage(NamedTuple):
    """What a format's card says besides the numbers."""

    summary: str
    text: str
    """How it is used, in Markdown."""
    library: str | None = None
    """`library_name` of the card."""
    pipeline: str | None = None
    """`pipeline_tag` of the card."""


def thinker_usage(*, chats: bool) -> Usage:
    """Of the Thinker in the format of `transformers`."""
    return Usage(
        "A small language model (`Qwen3ForCausalLM`).",
        THINKER_USE.replace("{inputs}", CHAT_INPUTS if chats else TEXT_INPUTS),
        "transformers",
        "text-generation",
    )


def adapter_usage() -> Usage:
    """Of low-rank updates in the format of `peft`, with the Thinker that they update."""
    return Usage(
        "Low-rank updates (LoRA) of a small language model, which lies in `base` without them.",
        ADAPTER_USE,
        "peft",
        "text-generation",
    )


def gguf_usage(file: str, *, chats: bool) -> Usage:
    """Of the Thinker as a GGUF file."""
    command = f"llama-cli -m {file} --jinja --temp 0" if chats else f'llama-cli -m {file} -no-cnv -p "Once upon a time"'
    return Usage(
        "A small language model (architecture `qwen3`) for llama.cpp.",
        f"```bash\n{command}\n```\n\nOther number formats: `llama-quantize {file} smaller.gguf Q5_K_M` of an F16 file.",
        None,
        "text-generation",
    )


def folder_usage(media: Sequence[MediaKind]) -> Usage:
    """Of an omni model that perceives these, in the format of `transformers`."""
    imports = [_IMPORTS[kind] for kind in ("audio", "image") if kind in media]
    content = ", ".join(f'{{"type": "{kind}"}}' for kind in media) or '{"type": "text", "text": "Hello."}'
    opened = ['samples, rate = soundfile.read("question.wav")  # mono, at processor.sample_rate'] if "audio" in media else []
    lines = [
        *imports,
        "from transformers import AutoModel, AutoProcessor",
        "",
        'processor = AutoProcessor.from_pretrained("FOLDER", trust_remote_code=True)',
        'model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)',
        f'turns = [{{"role": "user", "content": [{content}]}}]',
        *opened,
        f"written = model.generate(**processor({', '.join(['turns', *(_GIVEN[kind] for kind in media)])}))",
        "print(processor.decode(written[0]))",
    ]
    summary = f"A small omni model ({_describe_abilities(media, speaks=False)}) with its own modelling code."
    return Usage(summary, "\n".join(["```python", *lines, "```"]), "transformers", "any-to-any")


def onnx_usage(media: Sequence[MediaKind], *, speaks: bool) -> Usage:
    """Of an omni model that perceives these, as ONNX graphs."""
    summary = f"A small omni model ({_describe_abilities(media, speaks=speaks)}) as ONNX graphs."
    program = "`onnx_chat.py`, in the examples of omnictl,"
    if not media:
        text = (
            f"{program} shows how such graphs are put together; it asks with recordings and images, which this model does not read."
        )
        return Usage(summary, text, None, "any-to-any")
    options = [*(_OPTIONS[kind] for kind in media), *(["--speak reply.wav"] if speaks else [])]
    command = " ".join(["python onnx_chat.py FOLDER", *options])
    text = f"{program} chats with them: about a hundred lines with onnxruntime alone.\n\n```bash\n{command}\n```"
    return Usage(summary, text, None, "any-to-any")


_IMPORTS: Mapping[MediaKind, str] = {"audio": "import soundfile", "image": "from PIL import Image"}
_GIVEN: Mapping[MediaKind, str] = {"audio": "audio=[samples]", "image": 'images=[Image.open("scene.png")]'}
_OPTIONS: Mapping[MediaKind, str] = {"audio": "--audio question.wav", "image": "--image scene.png"}
_READ: Mapping[MediaKind, str] = {"audio": "speech", "image": "images"}


def _describe_abilities(media: Sequence[MediaKind], *, speaks: bool) -> str:
    """What goes in and comes out."""
    read = ["text", *(_READ[kind] for kind in media)]
    return f"{join_words(read)} in, {'text and speech' if speaks else 'text'} out"


def join_words(words: Sequence[str]) -> str:
    """An enumeration: "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
