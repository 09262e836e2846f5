"""Images for reports: confusion matrices, contact sheets of examples, spectrograms and calibration diagrams.

Drawn with Pillow and the font that comes with it, so the same input gives the same bytes on one machine; that font has Latin
letters only, and other characters of names become empty boxes.
"""

import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from omnictl.metrics.classification import Calibration

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)
PALE: Colour = (222, 222, 222)
BLUE: Colour = (8, 48, 107)
RED: Colour = (203, 60, 52)

TEXT = 13
"""Font size in pixels of everything but names and numbers that have no room for it."""
MARGIN = 12

LARGEST_MATRIX = 1_600
CELLS = (1, 72)
"""Pixels: the cells of a confusion matrix together, and the smallest and the largest one."""
FAINTEST = 0.12
"""Shade of the rarest mistake, so that it can be seen at all."""
NAME_WIDTH = 220

TILE = 160
TINY = 80
"""Pixels: the side of an image on a contact sheet, and of one that is magnified without smoothing."""

PLOT = 400

SPECTROGRAM = 2
"""Pixels of a mel bin."""
FRAME_WIDTH = 4
"""Pixels of a mel frame where text stands below it."""
LOUDNESS_RANGE = 18.4
"""Nats of power from the loudest to what is not seen."""


class Tile(NamedTuple):
    """An image on a contact sheet."""

    image: Pixels  # (H, W, 3)
    lines: tuple[str, ...]  # what is written below it


def confusion_image(matrix: NDArray[np.integer], names: Sequence[str]) -> bytes:
    """A confusion matrix as a PNG, at most 2,000 pixels wide and high up to 1,600 classes.

    Rows are the true classes and columns the predicted ones. The shade is a cell's share of its row; numbers that do not fit are
    left out, and so are all but every n-th name.

    Args:
        matrix: `(C, C)` counts.
        names: of the C classes.
    """
    num_classes = len(names)
    smallest, largest = CELLS
    cell = min(largest, max(smallest, LARGEST_MATRIX // num_classes))
    font = _font(max(9, min(TEXT, cell - 2)))
    labels = [_shorten(name, font, NAME_WIDTH) for name in names]
    left = top = MARGIN + 2 * TEXT + math.ceil(max(font.getlength(name) for name in labels)) + 6
    side = cell * num_classes
    image = Image.new("RGB", (left + side + MARGIN, top + side + MARGIN), PAPER)
    image.paste(Image.fromarray(_shades(matrix).repeat(cell, 0).repeat(cell, 1)), (left, top))
    draw = ImageDraw.Draw(image)
    _draw_grid(draw, left, top, side, cell)
    _draw_counts(draw, matrix, left, top, cell)
    _draw_names(image, labels, font, (left, top), cell)
    draw.text((left + side / 2, MARGIN), "predicted", INK, _font(TEXT), anchor="ma")
    _draw_upwards(image, [("truth", (MARGIN + TEXT / 2, top + side / 2))], _font(TEXT), anchor="mm")
    return _png(image)


def _shares(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """Rows that sum to 1, or to 0 where they are empty."""
    shares: NDArray[np.float64] = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return shares


def _shades(matrix: NDArray[np.integer]) -> Pixels:
    """`(C, C, 3)` from white where there is nothing to blue where there is all of a row."""
    shares = _shares(matrix)
    depth = np.where(shares > 0, FAINTEST + (1 - FAINTEST) * shares, 0)[..., None]
    shades: Pixels = np.rint((1 - depth) * np.array(PAPER) + depth * np.array(BLUE)).astype(np.uint8)
    return shades


def _draw_grid(draw: ImageDraw.ImageDraw, left: int, top: int, side: int, cell: int) -> None:
    if cell >= 6:
        for offset in range(0, side, cell):
            draw.line((left, top + offset, left + side, top + offset), PALE)
            draw.line((left + offset, top, left + offset, top + side), PALE)
    draw.rectangle((left, top, left + side, top + side), outline=INK)


def _draw_counts(draw: ImageDraw.ImageDraw, matrix: NDArray[np.integer], left: int, top: int, cell: int) -> None:
    font = _font(max(8, min(TEXT, cell // 2)))
    shares = _shares(matrix)
    for row, column in np.argwhere(matrix > 0).tolist():
        text = str(matrix[row, column])
        if font.getlength(text) + 2 <= cell:
            middle = (left + (column + 0.5) * cell, top + (row + 0.5) * cell)
            draw.text(middle, text, PAPER if shares[row, column] > 0.4 else INK, font, anchor="mm")


def _draw_names(image: Image.Image, names: Sequence[str], font: Font, corner: tuple[int, int], cell: int) -> None:
    """Beside and above the cells whose upper left corner is given."""
    left, top = corner
    draw = ImageDraw.Draw(image)
    step = math.ceil(font.getbbox("Ag|")[3] / cell)
    placed = [(names[number], (number + 0.5) * cell) for number in range(0, len(names), step)]
    for name, middle in placed:
        draw.text((left - 4, top + middle), name, INK, font, anchor="rm")
    _draw_upwards(image, [(name, (left + middle, top - 4)) for name, middle in placed], font, anchor="lm")


def _draw_upwards(image: Image.Image, texts: Iterable[tuple[str, tuple[float, float]]], font: Font, anchor: str) -> None:
    """Texts that are read from below, each with its place; the anchor is as if the page were turned."""
    turned = image.transpose(Image.Transpose.ROTATE_270)
    draw = ImageDraw.Draw(turned)
    for text, (x, y) in texts:
        draw.text((image.height - y, x), text, INK, font, anchor=anchor)
    image.paste(turned.transpose(Image.Transpose.ROTATE_90))


def contact_sheet(tiles: Sequence[Tile], columns: int = 6) -> bytes:
    """Images with captions as a PNG, row by row; blank without any.

    Args:
        tiles: images and their captions, whose lines are cut off at the width of an image.
        columns: images side by side.
    """
    font = _font(TEXT)
    line_height = TEXT + 4
    cell = TILE + MARGIN
    num_lines = max((len(tile.lines) for tile in tiles), default=0)
    row_height = cell + num_lines * line_height
    num_rows = math.ceil(len(tiles) / columns)
    image = Image.new("RGB", (MARGIN + max(1, min(columns, len(tiles))) * cell, MARGIN + max(1, num_rows) * row_height), PAPER)
    draw = ImageDraw.Draw(image)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * cell, MARGIN + row * row_height
        scaled = _fit_tile(tile.image)
        image.paste(scaled, (left + (TILE - scaled.width) // 2, top + (TILE - scaled.height) // 2))
        for place, line in enumerate(tile.lines):
            draw.text((left, top + TILE + 4 + place * line_height), _shorten(line, font, TILE), INK, font)
    return _png(image)


def _fit_tile(pixels: Pixels) -> Image.Image:
    """An image whose longer side is `TILE`; the pixels of a tiny one stay sharp."""
    image = Image.fromarray(pixels)
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if max(image.size) <= TINY else Image.Resampling.LANCZOS)


def spectrogram_image(rows: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Log-mels one below the other as a PNG, time to the right and low frequencies at the bottom, each under its title.

    Args:
        rows: `(T, F)` each by its title, T ≥ 1; the loudest value of each is darkest, what lies 80 dB (18.4 nats) below is paper.
    """
    font = _font(TEXT)
    line, gap = TEXT + 6, MARGIN // 2
    width = max(PLOT, *(len(mel) for mel in rows.values())) + 2 * MARGIN
    height = sum(line + SPECTROGRAM * mel.shape[1] + gap for mel in rows.values()) + 2 * MARGIN
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    top = MARGIN
    for title, mel in rows.items():
        draw.text((MARGIN, top), _shorten(title, font, width - 2 * MARGIN), INK, font)
        pixels = _mel_pixels(mel)
        image.paste(Image.fromarray(pixels), (MARGIN, top + line))
        top += line + len(pixels) + gap
    return _png(image)


class TimedText(NamedTuple):
    """A piece of text and when it is said, in frames of a spectrogram."""

    text: str
    start: float
    stop: float


def alignment_image(title: str, mel: NDArray[np.float32], times: Sequence[TimedText]) -> bytes:
    """A spectrogram as a PNG, with a line wherever a piece of text begins and the pieces below it.

    Args:
        title: above it, cut off at its width.
        mel: `(T, F)` log-mels, T ≥ 1.
        times: the pieces, in order; what lies beyond the end is drawn at the end.
    """
    font, line = _font(TEXT), TEXT + 6
    pixels = _mel_pixels(mel).repeat(FRAME_WIDTH, axis=1)
    width = max(PLOT, pixels.shape[1]) + 2 * MARGIN
    top, bottom = MARGIN + line, MARGIN + line + len(pixels)
    image = Image.new("RGB", (width, bottom + 2 * line + MARGIN), PAPER)
    image.paste(Image.fromarray(pixels), (MARGIN, top))
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), _shorten(title, font, width - 2 * MARGIN), INK, font)
    for number, (text, start, stop) in enumerate(times):
        left, right = (MARGIN + min(at, len(mel)) * FRAME_WIDTH for at in (start, stop))
        row = bottom + 4 + number % 2 * line  # neighbours side by side would run into one another
        draw.line((left, top, left, row + line), RED)
        draw.line((left, row, right, row), RED, 2)
        draw.text((left + 3, row + 2), text, INK, font)
    return _png(image)


def _mel_pixels(mel: NDArray[np.float32]) -> Pixels:
    """`(F × SPECTROGRAM, T, 3)`: time to the right, low frequencies at the bottom, the loudest darkest."""
    share = np.clip(1 + (mel - mel.max()) / LOUDNESS_RANGE, 0, 1)[:, ::-1, None].swapaxes(0, 1)  # (F, T, 1)
    pixels: Pixels = (np.array(PAPER) + share * (np.array(BLUE) - PAPER)).round().astype(np.uint8).repeat(SPECTROGRAM, axis=0)
    return pixels


def calibration_image(calibration: Calibration) -> bytes:
    """A reliability diagram as a PNG: accuracy over confidence, red where they differ, and below it how many predictions there are.

    Source: Guo et al. 2017, figure 1.
    """
    left, top, strip = MARGIN + 56, MARGIN + 28, 60
    bottom = top + PLOT
    image = Image.new("RGB", (left + PLOT + MARGIN + 12, bottom + strip + 64), PAPER)
    draw = ImageDraw.Draw(image)
    most = max((bin_.count for bin_ in calibration.bins), default=1)
    for bin_ in calibration.bins:
        start, stop = left + bin_.low * PLOT, left + bin_.high * PLOT
        accurate, confident = bottom - bin_.accuracy * PLOT, bottom - bin_.confidence * PLOT
        draw.rectangle((start, accurate, stop, bottom), _blend(BLUE, 0.6), PAPER)
        draw.rectangle((start, min(accurate, confident), stop, max(accurate, confident)), _blend(RED, 0.35), RED)
        draw.rectangle((start, bottom + 8 + strip * (1 - bin_.count / most), stop, bottom + 8 + strip), _blend(INK, 0.4), PAPER)
    for step in range(0, 100, 4):  # a dashed diagonal
        start, stop = step * PLOT / 100, (step + 2) * PLOT / 100
        draw.line((left + start, bottom - start, left + stop, bottom - stop), INK, 1)
    draw.rectangle((left, top, left + PLOT, bottom), outline=INK)
    draw.line((left, bottom + 8 + strip, left + PLOT, bottom + 8 + strip), INK)
    _draw_ticks(image, left, bottom, strip)
    draw.text((left, MARGIN), f"expected calibration error {calibration.error:.3f}", INK, _font(TEXT + 2))
    return _png(image)


def _draw_ticks(image: Image.Image, left: int, bottom: int, strip: int) -> None:
    """The numbers and names of a reliability diagram's axes."""
    draw, font = ImageDraw.Draw(image), _font(TEXT)
    below = bottom + 8 + strip + 6
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        draw.text((left - 6, bottom - share * PLOT), f"{share:.1f}", INK, font, anchor="rm")
        draw.text((left + share * PLOT, below), f"{share:.1f}", INK, font, anchor="ma")
    draw.text((left + PLOT / 2, below + TEXT + 4), "confidence", INK, font, anchor="ma")
    draw.text((left - 6, bottom + 8 + strip / 2), "number", INK, font, anchor="rm")
    _draw_upwards(image, [("accuracy", (MARGIN + TEXT / 2, bottom - PLOT / 2))], font, anchor="mm")


def _blend(colour: Colour, share: float) -> Colour:
    """A colour on paper."""
    red, green, blue = (round(share * channel + (1 - share) * paper) for channel, paper in zip(colour, PAPER, strict=True))
    return red, green, blue


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _shorten(text: str, font: Font, width: float) -> str:
    """As much of a text as fits into a line, with … for the rest."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    beginnings = itertools.accumulate(text)
    fitting = itertools.takewhile(lambda part: font.getlength(part + "…") <= width, beginnings)
    return max(fitting, key=len, default="").rstrip() + "…"


def _png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()
