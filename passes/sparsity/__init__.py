"""Structured sparsity: passes that apply the plan's choices, before those of precision."""

from lwc.compiler.core.pass_ import Pass
from lwc.passes.sparsity.drop_blocks import DropBlocks
from lwc.passes.sparsity.factor_weights import FactorWeights
from lwc.passes.sparsity.mask_weights import MaskWeights
from lwc.passes.sparsity.prune_channels import PruneChannels

SPARSITY_PASSES: tuple[Pass, ...] = (PruneChannels(), DropBlocks(), MaskWeights(), FactorWeights())

__all__ = ["SPARSITY_PASSES"]
