"""Grad-CAM finds the one place that matters, in a ViT of a known one and in the embedded RN."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_toy import make_folder
from PIL import Image

from clip_core.encoder import ClipEncoder
from clip_core.shipped import MODEL, TAG
from vl_tasks.__main__ import main
from vl_tasks.grad_cam import grad_cam
from vl_tasks.overlay import LABEL_PX, TILE_PX, word_sheet

BROWN, YELLOW, PURPLE = (80, 50, 30), (220, 200, 40), (110, 40, 150)


def room() -> Image.Image:
    """A wall with a yellow picture in a frame at the left, something purple on the floor at the right."""
    pixels = np.full((192, 256, 3), (214, 205, 178), np.uint8)
    pixels[150:] = (140, 110, 80)
    pixels[36:94, 26:94] = BROWN
    pixels[40:90, 30:90] = YELLOW
    pixels[120:180, 140:240] = PURPLE
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_heat_of_a_vit_lies_on_the_only_patch_that_matters(tmp_path: Path, size: tuple[int, int]) -> None:
    """All blocks but the last pass on what they get, no patch knows its place, one patch differs; the text is the
    change that this patch makes to the image's vector."""
    encoder = ClipEncoder.load(make_folder(tmp_path / "vit", "vit"))
    visual = encoder.clip.visual
    visual.positional_embedding.data.zero_()
    for block in visual.transformer.resblocks[:-1]:
        for part in (block.attn.out_proj, block.mlp.c_proj):
            part.weight.data.zero_()
            part.bias.data.zero_()
    height, width = encoder.grid_shape(*size)
    generator = torch.Generator().manual_seed(0)
    for place in range(0, height * width, 3):
        y, x = 16 * (place // width), 16 * (place % width)
        blank = torch.full((3, *size), 0.1)
        image = blank.clone()
        image[:, y : y + 16, x : x + 16] = 2 * torch.randn(3, 16, 16, generator=generator)
        with torch.no_grad():
            with_it, without = encoder.image_vectors(torch.stack([image, blank]))
        heat, similar = grad_cam(encoder, image, torch.stack([with_it - without, without - with_it]))
        assert heat.shape == (2, height, width)
        assert int(heat[0].argmax()) == place
        second, first = heat[0].flatten().sort().values[-2:].tolist()
        assert first > 10 * second
        assert float(heat[1].flatten()[place]) == 0  # what speaks against the text is no heat
        torch.testing.assert_close(similar[0], -similar[1])
    assert not any(parameter.grad is not None for parameter in encoder.parameters())
    assert not visual.transformer.resblocks[-1].ln_1._forward_hooks


def test_the_embedded_clip_finds_what_the_texts_name() -> None:
    encoder = ClipEncoder.load(MODEL, TAG)
    transform = replace(encoder.transform, height_px=192, width_px=256, resize_mode="squash")
    with torch.no_grad():
        texts = encoder.text_vectors(encoder.tokenize(["a purple sofa", "a yellow painting"]))
    heat, similar = grad_cam(encoder, transform(room()), texts)
    assert heat.shape == (2, 6, 8)
    shares = heat / heat.sum((1, 2), keepdim=True)
    assert float(shares[0, 3:, 4:].sum()) > 0.9
    assert float(shares[1, 1:3, :3].sum()) > 0.8
    with torch.no_grad():
        vector = encoder.image_vectors(transform(room())[None])
    torch.testing.assert_close(similar, torch.nn.functional.cosine_similarity(vector, texts))


def test_the_command_draws_a_picture_for_each_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room().save(tmp_path / "room.png")
    out = tmp_path / "cam.png"
    image = ["analyse", "grad-cam", "--image", str(tmp_path / "room.png"), "--out", str(out), "--device", "cpu"]
    assert main([*image, "--texts", "a purple sofa", "a yellow painting"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:2]] == ["a purple sofa", "a yellow painting"]
    with Image.open(out) as picture:
        assert picture.width > 2 * picture.height  # three tiles in a row


def test_long_texts_take_several_lines_above_their_picture() -> None:
    text = "a purple sofa below the yellow painting at the left end of the wall"
    short, long = (word_sheet([("", room()), (words, room()), ("", room())]) for words in ("a sofa", text))
    assert long.height == short.height + 2 * LABEL_PX
    dark = np.asarray(long.convert("L"))[: 3 * LABEL_PX] < 128
    assert dark[:, TILE_PX : 2 * TILE_PX].any()
    assert not dark[:, :TILE_PX].any()
    assert not dark[:, 2 * TILE_PX :].any()


def test_faults_end_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room().save(tmp_path / "room.png")
    average = make_folder(tmp_path / "average", "vit")
    path = tmp_path / "average" / "open_clip_config.json"
    document = json.loads(path.read_text())
    document["model_cfg"]["vision_cfg"]["pool_type"] = "avg"
    path.write_text(json.dumps(document))
    command = ["analyse", "grad-cam", "--device", "cpu", "--out", str(tmp_path / "x.png"), "--image"]
    for more, message in (
        ([str(tmp_path / "none.png"), "--texts", "a"], "no image at"),
        ([str(tmp_path / "room.png"), "--texts", "a", "--encoder", average], "something else than a class token"),
        ([str(tmp_path / "room.png"), "--texts", "a", "--encoder", "RN51"], "RN51"),
    ):
        assert main([*command, *more]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "room.png"), "--texts", " "])
