"""Structured sparsity: passes that apply the plan's choices, before those of precision."""

from lwc.compiler.core.pass_ import Pass
from lwc.passes.sparsity.prune_channels import PruneChannels

SPARSITY_PASSES: tuple[Pass, ...] = (PruneChannels(),)

__all__ = ["SPARSITY_PASSES"]
