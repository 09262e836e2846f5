"""A Talker of another language: it reads phonemes, and is judged by the words."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from stage_factory import untrained

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import ConfigError
from omnictl.measure.untrained_stages import save_untrained
from omnictl.stages import stage_recipe, stage_type
from omnictl.stages.protocol import StageContext
from omnictl.stages.talker import TalkerStage
from omnictl.use.say import SpeechSettings, stream

TEXTS = ["Fünf Äpfel.", "Guten Tag!", "Das Mädchen singt.", "Eine grüne Tür.", "Привет!", "Schönes Wetter heute."] * 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("german")
    rng = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["audio", "text", "split"])
        for number, text in enumerate(TEXTS):
            soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, 40_000), 16_000)
            table.writerow([f"{number}.wav", text, ("train", "val", "test")[max(0, number - len(TEXTS) + 3)]])
    return folder


def open_stage(name: str, corpus: Path, upstream: dict[str, Path], *settings: str):
    recipe = stage_recipe(name)
    own = [f"data.source={json.dumps(str(corpus))}", "data.symbols=phonemes", "data.language=de", *settings]
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=own)
    return stage_type(name).create(config, context=StageContext(cache_dir(), upstream=upstream))


class Deaf:
    """Understands the same whatever is said."""

    rate = 16_000

    def read(self, audio: np.ndarray) -> str:
        return "guten tag"


@pytest.mark.slow
def test_it_reads_phonemes_and_is_judged_by_words(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    aligner = open_stage("aligner", corpus, {})
    assert aligner.data.training_set.set_aside == ()
    assert aligner.data.training_set.texts[0].startswith("fˈʏnf")
    save_untrained(aligner, tmp_path / "aligner")
    talker = open_stage("talker", corpus, {"codec": untrained("codec", cache_dir()), "aligner": tmp_path / "aligner"})
    assert isinstance(talker, TalkerStage)
    batches = talker.batches()
    for step in range(2):
        loss = talker.loss(batches.collate(batches.ids(step)))
        loss.sum.backward()
        assert torch.isfinite(loss.sum)
    report = talker.evaluate("test", limit=1, judge=Deaf())
    assert report.predictions[0]["reference"] == "schönes wetter heute"
    samples = list(stream(["Добрый день. Grüß Gott!"], talker.voice(), SpeechSettings()))
    assert sum(map(len, samples)) > 0


@pytest.mark.slow
def test_an_aligner_of_letters_is_refused(corpus: Path) -> None:
    parts = {name: untrained(name, cache_dir()) for name in ("codec", "aligner")}
    with pytest.raises(ConfigError, match=r"the Talker reads phonemes \(de\), its aligner letters"):
        open_stage("talker", corpus, parts)
