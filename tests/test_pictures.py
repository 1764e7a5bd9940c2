"""Pictures of garments: brought to what the network knows, or refused in words."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist_tuning.data.pictures import read_picture
from fmnist_tuning.errors import PictureError


def saved(tmp_path, pixels, name="picture.png", **options):
    path = tmp_path / name
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def shirt(height=200, width=300, background=255, garment=40):
    """A plain box, 100 pixels high and 50 wide, off the centre."""
    pixels = np.full((height, width), background, np.uint8)
    pixels[20:120, 200:250] = garment
    return pixels


def test_28_pixels_are_taken_as_they_are(tmp_path):
    """An image of the data set is already what the network knows."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:20, 3:25] = np.arange(22) * 11 + 5
    assert np.array_equal(read_picture(saved(tmp_path, pixels)), pixels)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_a_photograph_is_trimmed_centred_and_negated(tmp_path, name):
    """Dark on white becomes bright on black, the longest edge 28 pixels."""
    seen = read_picture(saved(tmp_path, shirt(), name))
    assert seen.shape == (28, 28)
    assert seen.dtype == np.uint8
    assert seen[:, :6].max() < 30
    assert seen[:, 22:].max() < 30
    assert seen[1:27, 8:20].min() > 190


def test_bright_on_dark_is_not_negated(tmp_path):
    """The border tells."""
    seen = read_picture(saved(tmp_path, shirt(background=10, garment=200)))
    assert seen[14, 14] > 180
    assert seen[14, 2] == 0


def test_colours_alpha_palettes_16_bits_and_rotation(tmp_path):
    """Whatever a PNG or JPEG may be made of, the garment is the same."""
    plain = read_picture(saved(tmp_path, shirt()))
    colour = np.stack([shirt()] * 3, axis=2)
    alpha = np.dstack([colour, np.where(shirt() == 255, 0, 255).astype(np.uint8)])
    alpha[..., :3][alpha[..., 3] == 0] = 7  # what is transparent has any colour
    deep = shirt().astype(np.uint16) * 257
    palette = tmp_path / "palette.png"
    Image.fromarray(colour).convert("P").save(palette)
    for path in (
        saved(tmp_path, colour, "rgb.png"),
        saved(tmp_path, alpha, "rgba.png"),
        saved(tmp_path, deep, "deep.png"),
        palette,
    ):
        assert np.abs(read_picture(path).astype(int) - plain).max() <= 3, path.name
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    turned = saved(tmp_path, np.rot90(shirt()), "turned.png", exif=exif)
    assert np.abs(read_picture(turned).astype(int) - plain).max() <= 3


def test_white_on_grey_and_dust(tmp_path):
    """What differs from the ground counts, either way; single specks do not."""
    seen = read_picture(saved(tmp_path, shirt(background=190, garment=250)))
    assert seen[14, 14] > 60
    assert seen[14, 2] == 0
    dusty = shirt()
    dusty[3, 3] = dusty[190, 290] = 0
    clean = read_picture(saved(tmp_path, shirt()))
    assert np.array_equal(read_picture(saved(tmp_path, dusty, "dusty.png")), clean)


def test_broken_exif_is_an_error_in_words(tmp_path):
    """Cameras, and people who rewrite what cameras wrote, get it wrong in every way."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    content = saved(tmp_path, shirt()[10:130, 150:260], "photo.jpg", exif=exif).read_bytes()
    start, random = content.index(b"Exif"), np.random.default_rng(0)
    path, refused = tmp_path / "broken.jpg", 0
    for _ in range(1500):
        broken = bytearray(content)
        for place in random.integers(start + 6, start + 76, 3):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        try:
            assert read_picture(path).shape == (28, 28)
        except PictureError:
            refused += 1
    assert refused > 0


def bomb(edge: int) -> bytes:
    """A square PNG of any size in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        framed = kind + content
        return struct.pack(">I", len(content)) + framed + struct.pack(">I", zlib.crc32(framed))

    header = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_what_is_no_picture_of_a_garment(tmp_path):
    """One line each, with the file and the reason."""
    blank = saved(tmp_path, np.full((50, 50), 255, np.uint8), "blank.png")
    cut = saved(tmp_path, np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8), "cut.png")
    cut.write_bytes(cut.read_bytes()[:3000])
    hair = np.full((200, 200), 255, np.uint8)
    hair[100:103, 20:180] = 0
    thin = saved(tmp_path, hair, "thin.png")
    line = saved(tmp_path, np.zeros((1, 50), np.uint8), "line.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "bomb.png").write_bytes(bomb(10_000))
    (tmp_path / "larger.png").write_bytes(bomb(40_000))
    for path, reason in {
        blank: "shows nothing",
        cut: "cannot be read",
        thin: "too thin to be seen",
        line: "50 x 1 pixels, allowed: from 2 x 2",
        tmp_path / "text.png": "not a picture; allowed: PNG, JPEG, WEBP",
        tmp_path / "empty.jpg": "not a picture; allowed: PNG, JPEG, WEBP",
        tmp_path / "bomb.png": "10,000 x 10,000 pixels, allowed: from 2 x 2 to 50 million",
        tmp_path / "larger.png": "could be decompression bomb",
        tmp_path / "missing.png": "No such file or directory",
        tmp_path: "Is a directory",
    }.items():
        with pytest.raises(PictureError) as caught:
            read_picture(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "a.bmp", "a.tiff", "a.ppm"])
def test_other_formats(tmp_path, name):
    """Whatever Pillow reads; the name says nothing."""
    photo = np.full((90, 90), 250, np.uint8)
    photo[20:70, 30:60] = 80
    Image.fromarray(photo).save(tmp_path / name)
    expected = read_picture(saved(tmp_path, photo, "a.png"))
    found = read_picture(tmp_path / name)
    assert np.abs(found.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("paleness", [0, 20, 120])
def test_a_cut_out_is_seen_by_its_silhouette(tmp_path, paleness):
    """A garment as white as paper, on a transparent ground, is no blank picture."""
    cut_out = np.zeros((90, 90, 4), np.uint8)
    cut_out[20:70, 30:60] = (255 - paleness, 255 - paleness, 255 - paleness, 255)
    path = tmp_path / "cut_out.png"
    Image.fromarray(cut_out, "RGBA").save(path)
    found = read_picture(path)
    rows, columns = np.flatnonzero(found.max(1)), np.flatnonzero(found.max(0))
    assert (len(rows), len(columns)) == (28, 17)
    assert found[14, 14] == pytest.approx(max(paleness, 100), abs=2)


def test_an_alpha_channel_that_hides_nothing(tmp_path):
    """Many programs add one: the garment is still what differs from the ground."""
    photo = np.full((90, 90), 250, np.uint8)
    photo[20:70, 30:60] = 80
    plain = read_picture(saved(tmp_path, photo, "plain.png"))
    layers = np.dstack([photo, photo, photo, np.full_like(photo, 255)])
    assert (read_picture(saved(tmp_path, layers, "alpha.png")) == plain).all()


def test_sixteen_bits_that_hold_eight(tmp_path):
    """Values up to 255 are those of a grey level; larger ones are scaled."""
    photo = np.full((90, 90), 250, np.uint16)
    photo[20:70, 30:60] = 80
    for factor in (1, 257):
        Image.fromarray(photo * np.uint16(factor)).save(tmp_path / f"{factor}.png")
    assert (
        np.abs(
            read_picture(tmp_path / "1.png").astype(int) - read_picture(tmp_path / "257.png")
        ).max()
        <= 2
    )


def test_a_pattern_too_fine_to_be_seen(tmp_path):
    """Scaled down, noise would be a grey patch, which looks like a bag."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    with pytest.raises(PictureError, match="too fine to be seen at 28 x 28"):
        read_picture(saved(tmp_path, noise, "noise.png"))


@pytest.mark.slow
def test_what_is_unlike_the_images_seen(real_data):
    """One in a hundred test images, and nearly all noise, stripes and negatives."""
    from fmnist_tuning.data import typical
    from fmnist_tuning.data.files import find
    from fmnist_tuning.data.typical import describe, is_typical

    data = find(real_data)
    assert is_typical(data.test_images).mean() == pytest.approx(0.99, abs=0.001)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (500, 28, 28), np.uint8)
    assert is_typical(noise).mean() < 0.01
    assert is_typical(255 - data.test_images[:500]).mean() < 0.05
    x = np.arange(28)
    stripes = [np.tile(127 + 127 * np.sin(x * w), (28, 1)) for w in rng.uniform(0.5, 2, 100)]
    assert is_typical(np.array(stripes).astype(np.uint8)).mean() < 0.05
    shipped = np.load(Path(typical.__file__).with_name("typical.npz"))
    again = np.load(io.BytesIO(describe(data)))
    assert set(shipped) == set(again)
    assert shipped["limit"] == pytest.approx(float(again["limit"]), abs=0.001)
    assert shipped["mean"] == pytest.approx(again["mean"], abs=0.001)
    # Another processor may turn a component's sign.
    overlap = np.abs((shipped["components"].astype(float) * again["components"]).sum(axis=1))
    assert overlap == pytest.approx(1, abs=0.01)
    assert str(shipped["digest"]) == str(again["digest"]) == data.digest
