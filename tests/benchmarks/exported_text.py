"""How many tokens of exported Thinkers' greedy texts are those of the run: 20 texts of 64 tokens, by format.

    python tests/benchmarks/exported_text.py RUN/model

`transformers` reads the Hugging Face folder. A GGUF file is read by the `gguf` package, and by llama.cpp where `llama-cpp-python`
is installed. An export compares the same, and is refused if fewer tokens agree than its format allows.
"""

import sys
import tempfile
from pathlib import Path

from omnictl.data.manifest.cache import cache_dir
from omnictl.export.gguf.write_file import FORMATS
from omnictl.export.targets import ExportSettings, export_model


def main(model: Path) -> None:
    settings = ExportSettings("thinker", cache_dir())
    print("| export | bytes | compared | tokens | alike |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for target, quantisation in [("hf", settings.quantisation), *(("gguf", name) for name in FORMATS)]:
            name = quantisation if target == "gguf" else target
            exported = export_model(target, model, Path(folder) / name, settings._replace(quantisation=quantisation))
            size = max(exported.files.values())
            for one in exported.agreements:
                if one.what.startswith("greedy text"):
                    print(f"| {name} | {size:,} | {one.what} | {one.compared:,} | {1 - one.difference:.4f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
