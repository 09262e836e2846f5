"""A recording of a few megabytes that unpacks to gigabytes is resampled a block at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 192_000

MINUTES = min(59, int(os.environ.get("OMNICTL_FAULTS", "2")))
"""Of silence; 59, nearly the longest that is read, for the figures in docs/reliability.md."""

READ = """
import json, resource, sys
from pathlib import Path
from omnictl.data.audio.decoder import read_audio
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_audio(Path(sys.argv[2]), rate=16_000)
before = peak()
samples = read_audio(Path(sys.argv[1]), rate=16_000)
print(json.dumps([len(samples), float(abs(samples).max()), samples.nbytes, (peak() - before) * 1024]))
"""


@pytest.mark.faults
def test_memory_is_that_of_the_result(tmp_path: Path) -> None:
    long, short = tmp_path / "long.flac", tmp_path / "short.flac"
    for path, minutes in ((long, MINUTES), (short, 1 / 60)):
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for _ in range(max(1, round(minutes))):
                file.write(np.zeros(round(min(1, minutes) * 60 * RATE), np.int16))
    assert long.stat().st_size < MINUTES * 100_000
    done = subprocess.run([sys.executable, "-c", READ, long, short], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, loudest, result, peak = json.loads(done.stdout)
    assert (count, loudest) == (MINUTES * 60 * 16_000, 0)
    assert peak < 2 * result + 64 * 2**20
