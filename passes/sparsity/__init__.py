"""Structured sparsity: passes that apply the plan's choices, before those of precision."""

from lwc.compiler.core.pass_ import Pass
from lwc.passes.sparsity.drop_blocks import DropBlocks
from lwc.passes.sparsity.factor_weights import FactorWeights
from lwc.passes.sparsity.mask_weights import MaskWeights
from lwc.passes.sparsity.prune_channels import PruneChannels

CHANNEL_PASSES: tuple[Pass, ...] = (PruneChannels(),)
# What sees the channels that stay: statistics of layers are cut to these before.
LAYER_PASSES: tuple[Pass, ...] = (DropBlocks(), MaskWeights(), FactorWeights())
SPARSITY_PASSES = (*CHANNEL_PASSES, *LAYER_PASSES)

__all__ = ["CHANNEL_PASSES", "LAYER_PASSES", "SPARSITY_PASSES"]
