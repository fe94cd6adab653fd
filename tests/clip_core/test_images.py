"""Preprocessing: equal to the bit to open_clip's on PIL images, near to it on a device; broken images are named."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clip_core.images import ImageTransform, as_rgb, batch_of_arrays, open_image

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawing(height, width):
    """Smooth shades, with edges where they wrap."""
    y, x = np.mgrid[:height, :width] / 40
    return (np.stack([np.sin(x * y), np.cos(x + y), np.sin(x * x / 3)], -1) * 127 + 128).astype(np.uint8)


def levels(transform, normalised):
    """Grey levels of normalised pixels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (transform.mean, transform.std))
    return (normalised * std + mean) * 255


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [224, (64, 64), (60, 100), (120, 77)])
def test_equal_to_open_clip_to_the_bit(size, resize_mode, interpolation):
    import open_clip

    theirs = open_clip.image_transform(
        size, is_train=False, resize_mode=resize_mode, interpolation=interpolation, fill_color=90
    )
    config = {"resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 90}
    ours = ImageTransform.from_config(config, size)
    for height, width in [(480, 640), (640, 480), (333, 500), (224, 224), (100, 31), (50, 301), (64, 64)]:
        image = Image.fromarray(noise(height, width))
        result = ours(image)
        assert result.dtype == torch.float32
        assert torch.equal(result, theirs(image)), (height, width)


def test_constants_travel_with_the_config():
    import open_clip

    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    image = Image.fromarray(noise(50, 60))
    ours = ImageTransform.from_config({"mean": mean, "std": std, "interpolation": "bilinear", "mode": "RGB"}, (32, 32))
    assert torch.equal(ours(image), open_clip.image_transform(32, False, mean, std, interpolation="bilinear")(image))
    assert ours.describe() == "shortest side to the size, centre crop, 32 x 32 px, bilinear"
    assert ImageTransform.from_config({}, 224) == ImageTransform()
    assert ImageTransform.from_config({"mean": 0.5, "std": 0.5}, 8).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_its_rgb_image(mode):
    import open_clip

    source = Image.fromarray(noise(90, 70)).convert("L" if mode == "LA" else "P" if mode == "PA" else "RGB")
    image = source.convert(mode)
    expected = (image.convert("RGBA") if mode in ("P", "PA") else image).convert("RGB")
    theirs = open_clip.image_transform(32, is_train=False)
    result = ImageTransform(32, 32)(image)
    assert torch.equal(result, theirs(expected))
    if mode in ("RGB", "L", "1"):
        assert mode == "1" or torch.equal(result, theirs(image))


def test_transparent_palettes_do_not_warn(tmp_path):
    image = Image.fromarray(noise(20, 20)).quantize(16)
    image.info["transparency"] = bytes(range(16))
    image.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    assert open_image(tmp_path / "palette.png").mode == "RGB"


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "LAB"])
def test_other_depths_are_refused(mode):
    with pytest.raises(ValueError, match=f"mode '{mode}' is not of 8 bits a channel"):
        as_rgb(Image.new(mode, (4, 4)))


@pytest.mark.parametrize(("size", "resize_mode"), [(224, "shortest"), ((448, 448), "squash"), ((60, 100), "longest")])
@pytest.mark.parametrize(("interpolation", "share"), [("bicubic", 0.012), ("bilinear", 0.03)])
def test_device_twin_is_near(size, resize_mode, interpolation, share):
    """The deviation that the docstring of `batch` states."""
    transform = ImageTransform.from_config({"resize_mode": resize_mode, "interpolation": interpolation}, size)
    for height, width in [(480, 640), (640, 480), (300, 224)]:
        for array in (noise(height, width), drawing(height, width)):
            exact = levels(transform, transform(Image.fromarray(array)))
            twin = levels(transform, transform.batch(batch_of_arrays([array]))[0])
            difference = (exact - twin).abs()
            assert difference.max() < 2.01
            assert (difference > 1.5).float().mean() < 3e-4
            assert (difference > 0.5).float().mean() <= share


def test_device_twin_of_images_of_the_right_size_is_exact():
    transform = ImageTransform(40, 40)
    arrays = [noise(40, 40, seed) for seed in range(3)]
    exact = torch.stack([transform(Image.fromarray(array)) for array in arrays])
    assert torch.equal(transform.batch(batch_of_arrays(arrays)), exact)


def test_channel_orders():
    arrays = np.stack([noise(5, 7, seed) for seed in range(2)])
    rgb = batch_of_arrays(arrays, "RGB")
    assert rgb.shape == (2, 3, 5, 7)
    assert rgb[1, 0, 4, 6] == arrays[1, 4, 6, 0]
    assert torch.equal(batch_of_arrays(arrays[..., ::-1], "BGR"), rgb)
    assert torch.equal(batch_of_arrays(list(arrays), "BGR"), rgb.flip(1))


@pytest.mark.parametrize(
    ("arrays", "order", "message"),
    [
        ([np.zeros((4, 4, 3), np.float32)], "RGB", r"image 0 is float32 \(4, 4, 3\); expected uint8"),
        ([noise(4, 4), noise(4, 4)[..., 0]], "RGB", r"image 1 is uint8 \(4, 4\)"),
        ([noise(4, 4), noise(4, 5)], "RGB", "image 1 has 5 x 4 pixels, image 0 has 4 x 4"),
        ([], "RGB", "no image"),
        ([noise(4, 4)], "GBR", "channel order is 'GBR'"),
    ],
)
def test_bad_arrays(arrays, order, message):
    with pytest.raises(ValueError, match=message):
        batch_of_arrays(arrays, order)


def test_bad_batches_and_settings():
    with pytest.raises(ValueError, match=r"images are torch.float32 \(1, 3, 4, 4\)"):
        ImageTransform().batch(torch.zeros(1, 3, 4, 4))
    for faulty in ({"interpolation": "random"}, {"resize_mode": "crop"}, {"std": (0, 1, 1)}, {"height_px": 0}):
        with pytest.raises(ValueError, match="expected"):
            ImageTransform(**faulty)


def test_broken_files_are_named(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(whole, "JPEG")
    for name, content, message in [
        ("cut.jpg", whole.getvalue()[:-700], "cut.jpg is a broken image .*truncated"),
        ("text.png", b"not an image", "text.png is no image that Pillow can read"),
        ("empty.jpg", b"", "empty.jpg is no image"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            open_image(tmp_path / name)
    with pytest.raises(ValueError, match=r"no image at .*absent.jpg"):
        open_image(tmp_path / "absent.jpg")
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep.png: an image of mode 'I;16'"):
        open_image(tmp_path / "deep.png")
    Image.fromarray(noise(8, 8)).convert("CMYK").save(tmp_path / "print.jpg")
    assert open_image(tmp_path / "print.jpg").mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag_is_applied_when_asked_for(tmp_path, orientation):
    """Each tag undoes what a camera that was held that way did to the picture."""
    held = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    held |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    image = Image.fromarray(noise(20, 30))
    stored = image.transpose(Image.Transpose[held[orientation]]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(open_image(tmp_path / "photo.png", upright=True), image)
    assert np.array_equal(open_image(tmp_path / "photo.png"), stored)


def test_a_damaged_orientation_tag_is_no_tag(tmp_path):
    image = Image.fromarray(noise(20, 30))
    image.save(tmp_path / "photo.png", exif=b"Exif\0\0II*\0nonsense")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        assert np.array_equal(open_image(tmp_path / "photo.png", upright=True), image)


def test_the_two_halves_make_the_whole():
    transform = ImageTransform(32, 48)
    image = Image.fromarray(drawing(100, 90))
    pixels = transform.pixels(image)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert torch.equal(transform.normalised(pixels[None])[0], transform(image))


def test_an_image_too_thin_to_be_resized_is_refused():
    with pytest.raises(ValueError, match="an image of 60000 x 1 px would have 13440000 x 224 px before cropping"):
        ImageTransform()(Image.new("RGB", (60_000, 1)))
    assert ImageTransform(resize_mode="squash")(Image.new("RGB", (60_000, 1))).shape == (3, 224, 224)
