"""What an architecture of the table is, and inputs drawn for it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 96
# Sizes that configurations share: an encoder's, one's that reads patches of an image, an encoder and a decoder's.
ENCODER: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
IMAGE_ENCODER: dict[str, Any] = {**ENCODER, "hidden_size": 48, "image_size": 32, "patch_size": 8}
TEXT_ENCODER: dict[str, Any] = {**ENCODER, "vocab_size": VOCABULARY, "hidden_size": 64, "pad_token_id": 0}
ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2}
ENCODER_AND_DECODER: dict[str, Any] = {
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
}
TRANSLATOR: dict[str, Any] = {
    **ENCODER_AND_DECODER,
    **ENDS,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "decoder_start_token_id": 2,
    "use_cache": False,
}


@dataclass(frozen=True)
class Input:
    """One input of a model's forward.

    below: integers from 0 to below - 1; 0: normal floats; 1: a mask of ones whose second row ends in two zeros
    """

    name: str
    shape: tuple[int, ...]
    below: int = 0

    def draw(self, rng: np.random.Generator) -> NDArray[Any]:
        """int64 or float32 of this shape."""
        if self.below == 1:
            mask = np.ones(self.shape, np.int64)
            mask[1:, -2:] = 0
            return mask
        if self.below:
            return rng.integers(0, self.below, self.shape)
        return rng.standard_normal(self.shape).astype(np.float32)


@dataclass(frozen=True)
class Architecture:
    """A class of `transformers` and the sizes it is built with.

    model: name of the class;  options: of its configuration; a mapping with 'model_type' is a configuration of its own
    output: the field of what forward returns that becomes the graph's output, by default the first that is a float
    """

    name: str
    model: str
    inputs: tuple[Input, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""

    def feeds(self, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Inputs for one run; the same seed gives the same."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        return {item.name: item.draw(rng) for item in self.inputs}


def image(size: int = 32, batch: int = 2) -> tuple[Input, ...]:
    return (Input("pixel_values", (batch, 3, size, size)),)


def ids(length: int = 12) -> tuple[Input, ...]:
    return (Input("input_ids", (2, length), VOCABULARY),)


def text(length: int = 12) -> tuple[Input, ...]:
    """Token numbers with a padded tail."""
    return (*ids(length), Input("attention_mask", (2, length), 1))


def translation(length: int = 12) -> tuple[Input, ...]:
    """Token numbers of an encoder, and those of its decoder, one fewer."""
    return (*text(length), Input("decoder_input_ids", (2, length - 1), VOCABULARY))


def sound(samples: int = 1600) -> tuple[Input, ...]:
    return (Input("input_values", (2, samples)),)
