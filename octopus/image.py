"""Pictures: anything a user may hand over becomes an upright RGB photo, and a photo becomes model pixels.

In goes a path, URL, bytes, PIL image or array; out comes `Pixels` with a long side of at most 1024, or an `ImageError`
that says what is wrong. Memory stays bounded whatever the file claims. The sizes and means the model wants come from
the manifest; nothing here knows the model. Only numpy and Pillow.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from octopus.core import Pixels
from octopus.errors import ImageError

if TYPE_CHECKING:
    from octopus.manifest import ImageSpec

LONG_SIDE = 1024  # pixels kept: enough for the model and for an attachment
MAX_PIXELS = 40_000_000  # decoded at once; JPEG is decoded at down to 1/8 scale, so it may be 64 times larger
MAX_DOWNLOAD = 32 * 1024 * 1024  # bytes
TIMEOUT = 20.0  # seconds for a whole download

_FORMATS = ("PNG", "GIF", "BMP", "WEBP", "TIFF")  # and JPEG; others stay shut: Pillow runs Ghostscript on EPS
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEIC_HINT = "convert it to JPEG or PNG first; iPhone: Settings > Camera > Formats > Most Compatible"
_NOT_IMAGE_HINT = "JPEG, PNG, WebP, GIF, BMP and TIFF can be read"


def load_photo(source: str | Path | bytes | Image.Image | NDArray[Any]) -> Pixels:
    """Read a picture from a path, an http(s) URL, encoded bytes, a PIL image or an `[H, W]`/`[H, W, 1|3|4]` array.

    Transparency becomes white, an animation its first frame, EXIF rotation is applied. Float arrays are 0..1.

    Raises:
        ImageError: if there is no such picture, or it is broken, too large or of an unknown kind.
    """
    if isinstance(source, np.ndarray):
        return _finish(_from_array(source), "the array")
    if isinstance(source, Image.Image):
        _check_size(source, "the picture")
        with _image_errors("the picture"):  # one that was only opened is read while it is copied
            return _finish(source.copy(), "the picture")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), "the picture")
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        return _decode(io.BytesIO(_download(source)), source)
    if isinstance(source, (str, Path)):
        with _open_file(Path(source)) as stream:
            return _decode(stream, str(source))
    raise ImageError(
        f"cannot read a picture from {type(source).__name__}", "give a path, URL, bytes, PIL image or array"
    )


def preprocess(photo: Pixels, spec: ImageSpec) -> NDArray[np.float32]:
    """A photo as the vision encoder wants it: `[3, size, size]`, normalised by the manifest's mean and std."""
    image = Image.fromarray(photo)
    size = (spec.size, spec.size)
    if spec.fit == "crop":
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    else:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels_HWC = np.asarray(image, np.float32) / np.float32(255)
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(((pixels_HWC - mean) / std).transpose(2, 0, 1), dtype=np.float32)


def to_jpeg(photo: Pixels) -> bytes:
    """The photo as JPEG bytes, for attaching it to a message."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _decode(stream: BinaryIO, name: str) -> Pixels:
    """Bytes of an image file to a photo."""
    with _image_errors(name):
        if not stream.seekable():  # a pipe
            stream = io.BytesIO(stream.read(MAX_DOWNLOAD + 1))
            if len(stream.getbuffer()) > MAX_DOWNLOAD:
                raise ImageError(f"{name} is larger than {MAX_DOWNLOAD >> 20} MB", "shrink it first")
        head = stream.read(16)
        stream.seek(0)
    if not head:
        raise ImageError(f"{name} is empty (zero bytes)")
    with _image_errors(name, head):
        if head.startswith(b"\xff\xd8"):  # past Image.open, which refuses a large JPEG before it can be scaled down
            image: Image.Image = JpegImagePlugin.JpegImageFile(stream)
            if "progressive" in image.info:  # these are held in memory in full whatever the scale
                _check_size(image, name)
            image.draft(None, (LONG_SIDE, LONG_SIDE))
        else:
            image = Image.open(stream, formats=_FORMATS)
        return _finish(image, name)


def _finish(image: Image.Image, name: str) -> Pixels:
    """Decode, shrink, turn upright and flatten to RGB."""
    _check_size(image, name)
    with _image_errors(name):
        if image.mode in ("F", "I") or image.mode.startswith("I;16"):
            image = _from_array(np.asarray(image))
        elif image.mode in ("1", "P", "PA"):  # palettes and bits cannot be averaged
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        elif "transparency" in image.info:  # a colour key
            image = image.convert("RGBA")
        image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
        with suppress(Exception):  # odd metadata in a good picture: then it stays as it is
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"), np.uint8)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is too large: {width} x {height} pixels", f"scale it below {MAX_PIXELS // 1_000_000} megapixels"
        )
    if not width or not height:
        raise ImageError(f"{name} has no pixels")


def _from_array(array: NDArray[Any]) -> Image.Image:
    """An array of 8-bit, 16-bit, boolean or 0..1 float values as a picture."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise ImageError(f"an array of shape {list(array.shape)} is no picture", "give [H, W], [H, W, 3] or [H, W, 4]")
    if array.size > 4 * MAX_PIXELS:
        raise ImageError(f"an array of shape {list(array.shape)} is too large")
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ImageError("a picture of floats must have values from 0 to 1", "divide it by its largest value")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype.kind in "iu" and array.dtype.itemsize > 1:  # 16-bit depth, also where Pillow widens it to 32
        if array.min() < 0 or array.max() > 65535:
            raise ImageError("a picture of integers must have values from 0 to 255, or to 65535 for 16 bits")
        sixteen = array.max() > 255 or (array.dtype.kind == "u" and array.dtype.itemsize == 2)
        array = (array >> 8 if sixteen else array).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no picture", "give uint8")
    return Image.fromarray(np.ascontiguousarray(array))


@contextmanager
def _image_errors(name: str, head: bytes = b"") -> Iterator[None]:
    """Turn whatever Pillow raises on a bad file into one clear ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata and large sizes: both are judged here
            yield
    except UnidentifiedImageError as error:
        if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
            raise ImageError(f"{name} is a HEIC photo, which cannot be read", _HEIC_HINT) from error
        raise ImageError(f"{name} is not an image", _NOT_IMAGE_HINT) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large", f"scale it below {MAX_PIXELS // 1_000_000} megapixels") from error
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything
        raise ImageError(f"{name} is broken or incomplete: {error}", "open it in a viewer and save it again") from error


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.expanduser().open("rb")
    except FileNotFoundError:
        raise ImageError(f"there is no file {path}", "check the path of the picture") from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder", "name one picture in it") from None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home folder of nobody
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"cannot open {str(path)[:200]!r}: {reason}") from None


def _download(url: str) -> bytes:
    """The bytes behind an http(s) address, within a time and size limit."""
    import http.client  # imported here: they cost more time to load than the model takes to answer
    import urllib.error
    import urllib.request
    from urllib.parse import quote, urlsplit, urlunsplit

    deadline = time.monotonic() + TIMEOUT
    chunks: list[bytes] = []
    try:
        parts, safe = urlsplit(url), "/%:=&?~+!$,;'@()*[]"  # people paste spaces and 猫.jpg
        address = urlunsplit(parts._replace(path=quote(parts.path, safe), query=quote(parts.query, safe)))
        request = urllib.request.Request(address, headers={"User-Agent": "octopus", "Accept": "image/*"})
        with urllib.request.urlopen(request, timeout=TIMEOUT / 2) as response:
            while chunk := response.read1(1 << 16):
                chunks.append(chunk)
                if sum(map(len, chunks)) > MAX_DOWNLOAD:
                    raise ImageError(f"{url} is larger than {MAX_DOWNLOAD >> 20} MB", "download and shrink it first")
                if time.monotonic() > deadline:
                    raise TimeoutError("it takes too long")
    except urllib.error.HTTPError as error:
        raise ImageError(f"{url} answered {error.code} {error.reason}", "check the address") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ImageError(f"cannot download {url}: {reason}", "check the address and the connection") from None
    return b"".join(chunks)


__all__ = ["LONG_SIDE", "MAX_PIXELS", "load_photo", "preprocess", "to_jpeg"]
