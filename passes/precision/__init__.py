"""Number formats: passes that apply the plan's choices."""

from lwc.compiler.core.pass_ import Pass
from lwc.passes.precision.dynamic_int8 import QuantizeDynamic
from lwc.passes.precision.float8 import QuantizeFloat8
from lwc.passes.precision.formats import required_values
from lwc.passes.precision.half_weights import StoreHalf
from lwc.passes.precision.low_float import ConvertFloats
from lwc.passes.precision.mark_bfloat16 import MarkBFloat16
from lwc.passes.precision.mark_float16 import MarkFloat16
from lwc.passes.precision.static_int8 import QuantizeStatic
from lwc.passes.precision.weight_only import QuantizeWeights

PRECISION_PASSES: tuple[Pass, ...] = (
    MarkBFloat16(),
    MarkFloat16(),
    QuantizeDynamic(),
    QuantizeStatic(),
    QuantizeWeights(),
    StoreHalf(),
    QuantizeFloat8(),
    ConvertFloats(),
)

__all__ = ["PRECISION_PASSES", "required_values"]
