"""How an export is used, as its card says."""

import ast

from omnictl.data.dialogues.modalities import MODALITIES
from omnictl.export.model_card.usage import folder_usage, onnx_usage


def test_a_card_shows_only_what_the_model_can_do() -> None:
    everything = onnx_usage(["image", "audio"], speaks=True)
    assert "(text, images and speech in, text and speech out)" in everything.summary
    assert "python onnx_chat.py FOLDER --image scene.png --audio question.wav --speak reply.wav\n" in everything.text
    sees = onnx_usage(["image"], speaks=False)
    assert "(text and images in, text out)" in sees.summary
    assert "python onnx_chat.py FOLDER --image scene.png\n" in sees.text
    assert "which this model does not read" in onnx_usage([], speaks=True).text
    hears = folder_usage(["audio"])
    assert "images" not in hears.text
    assert "processor(turns, audio=[samples])" in hears.text
    assert "processor(turns))" in folder_usage([]).text
    for media in ([], *([kind] for kind in MODALITIES), [*MODALITIES]):
        ast.parse(folder_usage(media).text.strip("`").removeprefix("python"))
