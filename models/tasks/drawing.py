"""Lines of text drawn in free fonts, then spoiled as a camera would: blur, noise, JPEG.

Pictures are uint8 arrays [height, width, 3]; boxes are (left, top, right, bottom) in pixels around the ink.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import MissingDependency
from lwc.models.packages import Package, fetch

try:
    from PIL import Image, ImageDraw, ImageFilter, ImageFont
except ImportError as error:
    raise MissingDependency("Drawing text needs pillow.", "pip install 'lwc-compiler[zoo]'") from error

Picture = NDArray[np.uint8]
Box = tuple[int, int, int, int]

FONTS = Package(
    name="rendercv-fonts",
    version="0.5.1",
    sha256="e82ee2cc9f6078c8aa05ea8bb5ab38b369e3487f638c44e4f329092f433dd460",
    licence="OFL-1.1, Apache-2.0, UFL-1.0 by family",
)
CHINESE_FONTS = Package(
    name="paperang-p2-fonts-cjk",
    version="0.1.0",
    sha256="dfbbaccd48c012581a8f328b6e68033fa83e40ce609ae524fe2eeba3f3c75955",
    licence="Apache-2.0 or GPL-3.0 with font exception (WenQuanYi Micro Hei)",
)
LATIN_FAMILIES = (
    "EB Garamond", "Gentium Book Plus", "Lato", "Open Sans", "Open Sauce Sans",
    "Poppins", "Raleway", "Roboto", "Source Sans 3", "Ubuntu", "XCharter",
)  # fmt: skip



@dataclass(frozen=True)
class Ink:
    """Colours of one line: both are (red, green, blue)."""

    paper: tuple[int, int, int]
    text: tuple[int, int, int]


@dataclass(frozen=True)
class Wear:
    """How far a picture is spoiled: largest blur radius in pixels, largest noise deviation, lowest quality."""

    blur: float
    noise: float
    jpeg: int


@lru_cache(maxsize=4)
def font_files(language: str) -> tuple[Path, ...]:
    """Font files that hold the letters of a language, "en" or "zh"."""
    root = fetch(FONTS) / "rendercv_fonts"
    if language == "zh":
        other = fetch(CHINESE_FONTS) / "paperang_p2_fonts_cjk" / "fonts" / "wqy-microhei.ttc"
        return (root / "Noto Sans" / "NotoSansSC-Regular.ttf", root / "Noto Sans" / "NotoSansSC-Bold.ttf", other)
    files = [path for family in LATIN_FAMILIES for path in (root / family).glob("*.[to]tf")]
    return tuple(sorted(files))


@lru_cache(maxsize=512)
def font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font at a size in pixels, kept open."""
    return ImageFont.truetype(path, size)


def random_font(rng: np.random.Generator, language: str, sizes: tuple[int, int]) -> ImageFont.FreeTypeFont:
    """One of the language's fonts at an even size within sizes (both ends included)."""
    files = font_files(language)
    low, high = sizes
    return font(files[rng.integers(len(files))], int(rng.integers(low // 2, high // 2 + 1)) * 2)


def random_ink(rng: np.random.Generator) -> Ink:
    """Dark text on light paper or, one time in four, the reverse; both slightly tinted."""
    light = tuple(int(value) for value in rng.integers(190, 256, size=3))
    dark = tuple(int(value) for value in rng.integers(0, 80, size=3))
    paper, text = (dark, light) if rng.random() < 0.25 else (light, dark)
    return Ink((paper[0], paper[1], paper[2]), (text[0], text[1], text[2]))


def draw_line(text: str, face: ImageFont.FreeTypeFont, ink: Ink, margin: int) -> Picture:
    """One line of text on paper, with the given margin in pixels around its ink."""
    left, top, right, bottom = (int(edge) for edge in face.getbbox(text))
    size = (right - left + 2 * margin, bottom - top + 2 * margin)
    image = Image.new("RGB", size, ink.paper)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=face, fill=ink.text)
    return np.asarray(image)


class Page:
    """A square sheet that remembers nothing but its ink; side in pixels."""

    def __init__(self, side: int, ink: Ink) -> None:
        self._image = Image.new("RGB", (side, side), ink.paper)
        self._ink = ink

    def write(self, text: str, face: ImageFont.FreeTypeFont, left: int, top: int) -> Box | None:
        """Draw a line whose ink starts at (left, top); return the ink's box, or None if it does not fit."""
        mask = Image.new("L", self._image.size)
        inset = face.getbbox(text)
        at = (left - int(inset[0]), top - int(inset[1]))
        ImageDraw.Draw(mask).text(at, text, font=face, fill=255)
        box = mask.getbbox()
        if box is None or left + inset[2] - inset[0] >= mask.width or top + inset[3] - inset[1] >= mask.height:
            return None
        self._image.paste(self._ink.text, box, mask.crop(box))
        return box

    def picture(self) -> Picture:
        return np.asarray(self._image)


def random_line(rng: np.random.Generator, text: str, language: str, sizes: tuple[int, int], limits: Wear) -> Picture:
    """One line in a random font, size, colour and margin, spoiled."""
    face = random_font(rng, language, sizes)
    return wear(draw_line(text, face, random_ink(rng), int(rng.integers(2, 8))), rng, limits)


def wear(picture: Picture, rng: np.random.Generator, limits: Wear) -> Picture:
    """Blur, add noise, and pass through JPEG, each by a random amount within the limits."""
    radius = float(rng.uniform(0.0, limits.blur))
    image = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius))
    sigma = np.float32(rng.uniform(0.0, limits.noise))
    noisy = np.asarray(image, dtype=np.float32) + sigma * rng.standard_normal(picture.shape, dtype=np.float32)
    clean = Image.fromarray(np.clip(noisy, 0.0, 255.0).astype(np.uint8))
    buffer = io.BytesIO()
    clean.save(buffer, format="JPEG", quality=int(rng.integers(limits.jpeg, 96)))
    return np.asarray(Image.open(buffer).convert("RGB"))


def scale_to_height(picture: Picture, height: int, widest: int | None = None) -> Picture:
    """Resize to a height and keep the proportions; squeeze to the widest width where that is narrower."""
    width = max(1, -(-picture.shape[1] * height // picture.shape[0]))
    width = width if widest is None else min(width, widest)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def to_network(picture: Picture, width: int | None = None) -> NDArray[np.float32]:
    """[height, width, 3] RGB in 0..255 -> [1, 3, height, width] BGR in -1..1, padded with zeros to the right."""
    planes = picture[..., ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    missing = 0 if width is None else max(0, width - planes.shape[2])
    return np.ascontiguousarray(np.pad(planes, ((0, 0), (0, 0), (0, missing)))[np.newaxis])
