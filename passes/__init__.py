"""All passes, in explicit tuples. A new pass is one file, its test, and one line here."""

from __future__ import annotations

from lwc.compiler.core.pass_ import Pass, Pipeline
from lwc.compiler.core.target import Target
from lwc.passes.canonicalize.default_domain import DefaultDomain
from lwc.passes.canonicalize.fold_constants import FoldConstants
from lwc.passes.canonicalize.fold_shapes import FoldShapes
from lwc.passes.canonicalize.infer_shapes import InferShapes
from lwc.passes.canonicalize.inline_branches import InlineBranches
from lwc.passes.canonicalize.inline_functions import InlineFunctions
from lwc.passes.canonicalize.lift_constants import LiftConstants
from lwc.passes.canonicalize.merge_casts import MergeCasts
from lwc.passes.canonicalize.merge_duplicates import MergeDuplicates
from lwc.passes.canonicalize.merge_transposes import MergeTransposes
from lwc.passes.canonicalize.merge_views import MergeViews
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.canonicalize.raise_opset import RaiseOpset
from lwc.passes.canonicalize.remove_no_ops import RemoveNoOps
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.canonicalize.unlist_initializers import UnlistInitializers
from lwc.passes.fuse.apply_onnxscript import ApplyOnnxscript
from lwc.passes.fuse.drop_zero_states import DropZeroStates
from lwc.passes.fuse.fold_affine import FoldAffine
from lwc.passes.fuse.fold_pad import FoldPad
from lwc.passes.fuse.fold_squeeze import FoldSqueeze
from lwc.passes.fuse.merge_clips import MergeClips
from lwc.passes.fuse.merge_gelu import MergeGelu
from lwc.passes.fuse.merge_hard_sigmoid import MergeHardSigmoid
from lwc.passes.fuse.merge_layer_norm import MergeLayerNorm
from lwc.passes.fuse.merge_matmul_add import MergeMatMulAdd
from lwc.passes.merge.fold_scales import FoldScales
from lwc.passes.merge.merge_branches import MergeBranches
from lwc.passes.merge.share_tensors import ShareTensors
from lwc.passes.precision import PRECISION_PASSES
from lwc.passes.sparsity import SPARSITY_PASSES
from lwc.passes.surgery.graph_surgeon import FoldWithGraphSurgeon, GraphSurgeonPass

CANONICALIZE: tuple[Pass, ...] = (
    DefaultDomain(),
    UnlistInitializers(),
    InlineFunctions(),
    NameNodes(),
    LiftConstants(),
    FoldConstants(),
    InlineBranches(),
    InferShapes(),
    FoldShapes(),
    FoldConstants(),
    MergeViews(),
    MergeTransposes(),
    MergeCasts(),
    RemoveNoOps(),
    MergeDuplicates(),
    RemoveUnused(),
)
FUSE: tuple[Pass, ...] = (
    FoldPad(),
    FoldAffine(),
    MergeClips(),
    FoldSqueeze(),
    MergeHardSigmoid(),
    MergeLayerNorm(),
    MergeGelu(),
    DropZeroStates(),
    ApplyOnnxscript(),
    MergeMatMulAdd(),
)
MERGE: tuple[Pass, ...] = (MergeBranches(), FoldScales())
ALL_PASSES: tuple[type[Pass], ...] = (
    *dict.fromkeys(type(step) for step in (*CANONICALIZE, *FUSE, *MERGE)),
    RaiseOpset,
    FoldWithGraphSurgeon,
    GraphSurgeonPass,
    ShareTensors,
    *(type(step) for step in SPARSITY_PASSES),
    *(type(step) for step in PRECISION_PASSES),
)

ROUNDS = 12


def clean(target: Target) -> Pipeline:
    """Canonicalize, fuse and merge, until nothing changes any more."""
    return Pipeline((*CANONICALIZE, *FUSE, *MERGE, NameNodes()), rounds=ROUNDS)
