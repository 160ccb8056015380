"""Subgraphs that use values from around them, and local functions."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

# fmt: off

_BRANCHES: Mapping[str, Builder] = {
    "if_of_input": graph("""(bool c, float[N,4] x) => (float[N,4] y) <float[4,4] w, float[4] b>
        { y = If (c) <
            then_branch = positive () => (float[N,4] p) { m = MatMul(x, w) p = Add(m, b) },
            else_branch = negative () => (float[N,4] n) { n = Neg(x) }> }"""),
    "if_captures_computed": graph("""(float[N,4] x) => (float[N,4] y) <float[4,4] w, float zero = {0.0}>
        { h = MatMul(x, w) s = ReduceSum <keepdims = 0> (h) c = Greater(s, zero)
          y = If (c) <
            then_branch = yes () => (float[N,4] p) { p = Relu(h) },
            else_branch = no () => (float[N,4] q) { q = Sigmoid(h) }> }"""),
    "if_with_own_weights": graph("""(bool c, float[N,4] x) => (float[N,3] y)
        { y = If (c) <
            then_branch = yes () => (float[N,3] p) <float[4,3] w> { i = Identity(w) p = MatMul(x, i) },
            else_branch = no () => (float[N,3] q) <float[4,3] w> { q = MatMul(x, w) }> }"""),
    "if_of_constant": graph("""(float[N,4] x) => (float[N,4] y) <bool c = {1}>
        { y = If (c) <
            then_branch = yes () => (float[N,4] p) { p = Relu(x) },
            else_branch = no () => (float[N,4] q) { q = Neg(x) }> }"""),
    "if_nested": graph("""(bool c, bool d, float[N,4] x) => (float[N,4] y) <float[4] b>
        { a = Add(x, b)
          y = If (c) <
            then_branch = outer () => (float[N,4] p) {
                p = If (d) <
                    then_branch = inner () => (float[N,4] r) { r = Mul(a, b) },
                    else_branch = other () => (float[N,4] s) { s = Sub(a, x) }> },
            else_branch = no () => (float[N,4] q) { q = Neg(a) }> }"""),
    "if_branches_hold_constants": graph("""(bool c, float[N,4] x) => (float[N,4] y)
        { z = If (c) <
            then_branch = yes () => (float[1] p) { p = Constant <value_floats = [2.0]> () },
            else_branch = no () => (float[1] q) { q = Constant <value_floats = [3.0]> () }>
          y = Mul(x, z) }"""),
}

_LOOPS: Mapping[str, Builder] = {
    "loop_of_count": graph("""(float[N,4] x) => (float[N,4] y) <int64 count = {3}, bool go = {1}, float[4,4] w>
        { y = Loop (count, go, x) <body = step (int64 i, bool on, float[N,4] h) => (bool more, float[N,4] t)
            { more = Identity(on) m = MatMul(h, w) t = Tanh(m) }> }"""),
    "loop_while": graph("""(float[4] x) => (float[4] y) <bool go = {1}, float limit = {8.0}, float half = {0.75}>
        { a = Abs(x)
          y = Loop ("", go, a) <body = step (int64 i, bool on, float[4] h) => (bool more, float[4] t)
            { t = Add(h, half) s = ReduceSum <keepdims = 0> (t) more = Less(s, limit) }> }"""),
    "loop_that_collects": graph("""(float[N,4] x, int64 count) => (float[N,4] y, float[K,N,4] steps)
        <bool go = {1}, float[4] b>
        { y, steps = Loop (count, go, x)
            <body = step (int64 i, bool on, float[N,4] h) => (bool more, float[N,4] t, float[N,4] o)
            { more = Identity(on) t = Add(h, b) o = Mul(t, x) }> }"""),
    "scan": graph("""(float[4] h0, float[T,4] x) => (float[4] h, float[T,4] y) <float[4,4] w>
        { h, y = Scan (h0, x) <num_scan_inputs = 1,
            body = step (float[4] before, float[4] now) => (float[4] after, float[4] out)
            { m = MatMul(before, w) s = Add(m, now) after = Tanh(s) out = Identity(after) }> }"""),
    "scan_reversed": graph("""(float[4] h0, float[T,4] x) => (float[4] h, float[T,4] y) <float[4] b>
        { c = Relu(b)
          h, y = Scan (h0, x) <num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1],
            body = step (float[4] before, float[4] now) => (float[4] after, float[4] out)
            { s = Mul(before, c) after = Add(s, now) out = Neg(after) }> }"""),
    "sequence": graph("""(float[N,3] a, float[N,2] b) => (float[N,5] y)
        { s = SequenceConstruct(a, b) y = ConcatFromSequence <axis = 1> (s) }"""),
}

_FUNCTIONS: Mapping[str, Builder] = {
    "function": graph("""(float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] b>
        { y = local.Linear(x, w, b) }
        <domain: "local", opset_import: ["" : 17]>
        Linear (a, w, b) => (c) { m = MatMul(a, w) c = Add(m, b) }""", domains=["local"]),
    "function_used_twice": graph("""(float[N,4] x) => (float[N,4] y) <float[4,4] w1, float[4,4] w2>
        { h = local.Layer(x, w1) y = local.Layer(h, w2) }
        <domain: "local", opset_import: ["" : 17]>
        Layer (a, w) => (c) { m = MatMul(a, w) i = Identity(m) c = Tanh(i) }""", domains=["local"]),
    "function_with_attribute": graph("""(float[N,4] x) => (float[N,4] y)
        { a = local.Leaky <slope = 0.25> (x) b = Neg(a) y = local.Leaky <slope = 0.5> (b) }
        <domain: "local", opset_import: ["" : 17]>
        Leaky <slope> (a) => (c) { c = LeakyRelu <alpha : float = @slope> (a) }""", domains=["local"]),
    "function_of_function": graph("""(float[N,4] x) => (float[N,4] y)
        { y = local.Outer(x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        Outer (a) => (c) { b = local.Inner(a) c = Add(b, a) }
        <domain: "local", opset_import: ["" : 17]>
        Inner (a) => (c) { r = Relu(a) c = Mul(r, r) }""", domains=["local"]),
    "function_in_branch": graph("""(bool c, float[N,4] x) => (float[N,4] y)
        { y = If (c) <
            then_branch = yes () => (float[N,4] p) { p = local.Twice(x) },
            else_branch = no () => (float[N,4] q) { q = Neg(x) }> }
        <domain: "local", opset_import: ["" : 17]>
        Twice (a) => (b) { b = Add(a, a) }""", domains=["local"]),
}

GRAPHS: Mapping[str, Builder] = {**_BRANCHES, **_LOOPS, **_FUNCTIONS}
