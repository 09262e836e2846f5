"""What was shown a moment ago is neither decoded nor encoded again."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnictl.use.media_memory import MediaMemory, features_of


def test_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    loads: list[Path] = []
    encoded: list[int] = []

    def load(file: Path) -> NDArray[np.float32]:
        loads.append(file)
        return np.full(10, len(file.read_bytes()), np.float32)

    def encode(raw: NDArray[np.float32]) -> NDArray[np.float32]:
        encoded.append(int(raw[0]))
        return raw * 2

    memory = MediaMemory(most_bytes=170)
    files = {name: tmp_path / name for name in ("one", "same as one", "two", "three")}
    for name, size in (("one", 3), ("same as one", 3), ("two", 4), ("three", 5)):
        files[name].write_bytes(bytes(size))
    for name in ("one", "same as one", "two", "one"):
        known = memory.load(files[name], load)
        assert (features_of(known, encode) == 2 * known.raw).all()
    assert loads == [files["one"], files["two"]]
    assert encoded == [3, 4]
    memory.load(files["three"], load)  # two of 80 bytes and one of 40 are too many: the one asked for least recently goes
    memory.load(files["one"], load)
    assert len(loads) == 3
    memory.load(files["two"], load)
    assert loads[3:] == [files["two"]]
