from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import octopus.image as image_module
from octopus.core import Pixels
from octopus.errors import ImageError
from octopus.image import LONG_SIDE, load_photo, preprocess, to_jpeg
from octopus.manifest import ImageSpec

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Left half red, right half blue, a green bar at the top of both."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    image.paste(GREEN, (0, 0, width, height // 4))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(photo: Pixels, x: int, y: int, color: tuple[int, ...]) -> bool:
    return bool(np.abs(photo[y, x].astype(int) - color).max() < 60)


def large_jpeg(side: int, marker: bytes = b"\xff\xc0") -> bytes:
    """A true baseline JPEG, all grey, of any size: every block of 8 x 8 is the same six bits."""
    head = encoded(Image.new("L", (8, 8), 128), "JPEG")
    frame, scan = head.index(b"\xff\xc0"), head.index(b"\xff\xda")
    size = side.to_bytes(2, "big")
    head = head[:frame] + marker + head[frame + 2 : frame + 5] + size + size + head[frame + 9 : scan + 10]
    return head + b"\x28\xa2\x8a" * ((side // 8) ** 2 // 4) + b"\xff\xd9"


def large_png(side: int) -> bytes:
    """A black PNG of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    data = zlib.compress(bytes((side // 8 + 1) * side), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_reads_the_usual_kinds(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded(picture(), kind))
    for source in (path, str(path), path.read_bytes()):
        photo = load_photo(source)
        assert photo.shape == (40, 60, 3) and photo.dtype == np.uint8
        assert near(photo, 5, 30, RED) and near(photo, 50, 30, BLUE) and near(photo, 30, 3, GREEN)


def test_large_pictures_are_scaled_down_in_proportion() -> None:
    assert load_photo(encoded(picture(3000, 1500), "JPEG")).shape == (LONG_SIDE // 2, LONG_SIDE, 3)
    assert load_photo(picture(1500, 3000)).shape == (LONG_SIDE, LONG_SIDE // 2, 3)
    assert load_photo(picture(5000, 1)).shape == (1, LONG_SIDE, 3)


def test_one_pixel() -> None:
    photo = load_photo(encoded(Image.new("RGB", (1, 1), RED), "PNG"))
    assert photo.shape == (1, 1, 3) and near(photo, 0, 0, RED)
    assert preprocess(photo, ImageSpec(size=32)).shape == (3, 32, 32)


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter clockwise
    for kind in ("JPEG", "PNG", "WEBP"):
        photo = load_photo(encoded(picture(), kind, exif=exif))
        assert photo.shape == (60, 40, 3)
        assert near(photo, 37, 30, GREEN) and near(photo, 5, 10, RED) and near(photo, 5, 50, BLUE)


def test_cmyk() -> None:
    photo = load_photo(encoded(picture().convert("CMYK"), "JPEG"))
    assert near(photo, 5, 30, RED) and near(photo, 50, 30, BLUE)


def test_sixteen_bits() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    photo = load_photo(encoded(Image.fromarray(ramp), "PNG"))
    assert (photo[..., 0] == ramp >> 8).all()
    assert (load_photo(ramp) == photo).all()


def test_animated_gif_is_its_first_frame() -> None:
    frames = [picture(), Image.new("RGB", (60, 40), "white"), Image.new("RGB", (60, 40), "black")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0)
    assert near(load_photo(data), 5, 30, RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_becomes_white(mode: str) -> None:
    image = picture().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    options = {}
    if mode == "P":
        image, options = picture().quantize(4), {"transparency": b"\0\0\0\0"}
    elif mode != "PA":
        image = image.convert(mode)
    assert (load_photo(encoded(image, "PNG", **options)) == 255).all()


def test_one_bit_and_grey() -> None:
    for mode in ("1", "L"):
        photo = load_photo(encoded(Image.new(mode, (9, 9), 255), "PNG"))
        assert photo.shape == (9, 9, 3) and (photo == 255).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_huge_jpeg_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    path.write_bytes(large_jpeg(20_000))
    code = (
        "import sys; from octopus.image import load_photo; photo = load_photo(sys.argv[1]);"
        "print(photo.shape, int(photo.mean()), *(line for line in open('/proc/self/status') if 'VmHWM' in line))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seen, peak = done.stdout.split(" VmHWM:")
    assert seen == f"({LONG_SIDE}, {LONG_SIDE}, 3) 128"
    assert int(peak.split()[0]) < 150_000  # KiB


def test_huge_pictures_that_cannot_be_scaled_while_reading_are_refused() -> None:
    for data in (
        large_png(20_000),
        large_png(7_000),
        large_jpeg(20_000, marker=b"\xff\xc2"),
        large_jpeg(60_000)[:4096],
    ):
        with pytest.raises(ImageError, match=r"too large: \d+ x \d+|too large") as error:
            load_photo(data)
        assert "megapixels" in error.value.hint


def test_broken_files(tmp_path: Path) -> None:
    rng = random.Random(0)
    noisy = Image.frombytes("RGB", (64, 64), rng.randbytes(64 * 64 * 3))
    cases = {
        "is empty": b"",
        "is not an image": b"Dear diary, this is no picture at all.",
        "is broken": encoded(noisy, "JPEG")[:-900],
        "is broken or": encoded(noisy, "PNG")[:-900],
        "is broken or inc": b"\xff\xd8",
        "is broken or inco": b"\xff\xd8\xff\xe0" + rng.randbytes(100),
    }
    for message, data in cases.items():
        (tmp_path / "x.jpg").write_bytes(data)
        with pytest.raises(ImageError, match=message) as error:
            load_photo(tmp_path / "x.jpg")
        assert error.value.exit_code == 2 and "\n" not in str(error.value)


def test_heic_says_what_to_do() -> None:
    data = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200)
    with pytest.raises(ImageError, match="HEIC") as error:
        load_photo(data)
    assert "JPEG" in error.value.hint


def test_missing_files(tmp_path: Path) -> None:
    cases = {
        "no file": tmp_path / "none.jpg",
        "is a folder": tmp_path,
        "cannot open": "a\0b",
        "cannot": "x" * 5000,
        "home": "~nobody-here/a.jpg",
    }
    for message, source in cases.items():
        with pytest.raises(ImageError, match=message) as error:
            load_photo(source)
        assert len(str(error.value)) < 400


def test_arrays() -> None:
    pixels = np.asarray(picture())
    assert (load_photo(pixels) == pixels).all()
    assert (load_photo(pixels / np.float64(255)) == pixels).all()
    assert (load_photo(pixels.astype(np.int64) * 256) == pixels).all()
    assert (load_photo(pixels.astype(np.int64)) == pixels).all()
    assert (load_photo(np.ones((4, 5), bool)) == 255).all()
    assert load_photo(np.zeros((4, 5, 1), np.uint8)).shape == (4, 5, 3)
    clear = np.zeros((4, 5, 4), np.uint8)
    assert (load_photo(clear) == 255).all()
    assert (load_photo(pixels[::-1, ::2]) == pixels[::-1, ::2]).all()  # not contiguous


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((3, 40, 60), np.uint8),  # channels first
        np.zeros(7, np.uint8),
        np.full((4, 4), np.nan),
        np.full((4, 4, 3), 200.0),
        np.full((4, 4, 3), -1),
        np.array([["a"]]),
        np.zeros((4, 4), complex),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        load_photo(array)


def test_other_objects() -> None:
    with pytest.raises(ImageError, match="from dict"):
        load_photo({})  # type: ignore[arg-type]


def test_a_pil_image_is_left_as_it_was() -> None:
    image = picture(3000, 2000)
    load_photo(image)
    assert image.size == (3000, 2000)
    with Image.open(io.BytesIO(encoded(picture(), "JPEG"))) as lazy:
        assert near(load_photo(lazy), 5, 30, RED)


def test_a_broken_pil_image() -> None:
    data = encoded(Image.effect_noise((300, 300), 90), "JPEG")
    with pytest.raises(ImageError, match="broken"):
        load_photo(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_eps_is_never_handed_to_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was run"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ImageError, match="is not an image"):
        load_photo(eps)


def test_odd_metadata_does_not_hide_a_good_picture() -> None:
    assert near(load_photo(encoded(picture(), "PNG", exif=b"garbage")), 5, 30, RED)


def test_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(encoded(picture(), "PNG"),), daemon=True).start()
    assert near(load_photo(pipe), 5, 30, RED)


def test_no_warning_escapes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError):
            load_photo(large_png(10_000))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.integers(0, 2**32))
def test_damaged_files_never_crash(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(encoded(picture(), kind))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        photo = load_photo(bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data))
    except ImageError:
        return
    assert photo.ndim == 3 and photo.shape[2] == 3


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], str]]:
    """Answers every request with the given bytes and status."""
    answer: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer["status"])  # type: ignore[arg-type]
            self.end_headers()
            self.wfile.write(answer["body"])  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def start(body: bytes, status: int = 200) -> str:
            answer.update(body=body, status=status)
            return f"http://127.0.0.1:{server.server_port}/photo"

        yield start
        server.shutdown()
        thread.join()


def test_download(serve: Callable[..., str]) -> None:
    address = serve(encoded(picture(), "PNG"))
    for url in (address, address + "/猫 1.png?q=猫"):
        assert near(load_photo(url), 5, 30, RED)


def test_download_failures(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="answered 404"):
        load_photo(serve(b"", 404))
    with pytest.raises(ImageError, match="is not an image"):
        load_photo(serve(b"<html>hello</html>"))
    with pytest.raises(ImageError, match="is empty"):
        load_photo(serve(b""))
    monkeypatch.setattr(image_module, "MAX_DOWNLOAD", 1000)
    with pytest.raises(ImageError, match="is larger than"):
        load_photo(serve(bytes(2000)))
    for url in ("http://127.0.0.1:9/x.jpg", "http://", "http://[bad/x", "https://a b/c"):
        with pytest.raises(ImageError, match="cannot download"):
            load_photo(url)


def test_preprocess_squash() -> None:
    spec = ImageSpec(size=24, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    photo = np.asarray(picture(96, 48))
    pixels = preprocess(photo, spec)
    assert pixels.shape == (3, 24, 24) and pixels.dtype == np.float32 and pixels.flags.c_contiguous
    expected = [(c / 255 - m) / s for c, m, s in zip(RED, spec.mean, spec.std, strict=True)]
    assert pixels[:, 20, 3] == pytest.approx(expected, abs=1e-5)
    assert pixels[2, 20, 20] == pytest.approx((BLUE[2] / 255 - 0.3) / 0.125, abs=1e-5)  # the whole width is seen


def test_preprocess_crop() -> None:
    photo = np.asarray(picture(96, 48))
    photo = np.concatenate([np.full((48, 48, 3), 255, np.uint8), photo, np.full((48, 48, 3), 255, np.uint8)], axis=1)
    pixels = preprocess(photo, ImageSpec(size=24, mean=(0, 0, 0), std=(1, 1, 1), fit="crop"))
    assert pixels[0, 20, 2] == pytest.approx(RED[0] / 255, abs=0.05)  # the white margins are cut off
    assert pixels[2, 20, 21] == pytest.approx(BLUE[2] / 255, abs=0.05)


def test_to_jpeg_round_trip() -> None:
    photo = np.asarray(picture())
    assert np.abs(load_photo(to_jpeg(photo)).astype(int) - photo).mean() < 10
