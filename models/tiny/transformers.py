"""Normalization, attention and embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

# fmt: off

_NORM: Mapping[str, Builder] = {
    "layer_norm": graph("""(float[N,T,8] x) => (float[N,T,8] y) <float[8] gamma, float[8] beta>
        { y = LayerNormalization <axis = -1, epsilon = 0.00001> (x, gamma, beta) }"""),
    "layer_norm_decomposed": graph("""(float[N,T,8] x) => (float[N,T,8] y)
        <float[8] gamma, float[8] beta, float two = {2.0}, float eps = {0.00001}>
        { m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean <axes = [-1]> (p)
          e = Add(v, eps) s = Sqrt(e) n = Div(d, s) g = Mul(n, gamma) y = Add(g, beta) }"""),
    "layer_norm_decomposed_by_mul": graph("""(float[N,T,8] x) => (float[N,T,8] y)
        <float[8] gamma, float[8] beta, float eps = {0.00001}, int64[1] a = {-1}>
        { m = ReduceMean(x, a) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, a)
          e = Add(v, eps) s = Sqrt(e) n = Div(d, s) g = Mul(gamma, n) y = Add(beta, g) }""", 18),
    "rms_norm": graph("""(float[N,T,8] x) => (float[N,T,8] y) <float[8] gamma>
        { y = RMSNormalization <axis = -1> (x, gamma) }""", 23),
    "rms_norm_decomposed": graph("""(float[N,T,8] x) => (float[N,T,8] y)
        <float[8] gamma, float two = {2.0}, float one = {1.0}, float eps = {0.00001}>
        { p = Pow(x, two) v = ReduceMean <axes = [-1]> (p) e = Add(v, eps) s = Sqrt(e) r = Div(one, s)
          n = Mul(x, r) y = Mul(gamma, n) }"""),
    "batch_norm": graph("""(float[N,3,5] x) => (float[N,3,5] y)
        <float[3] gamma, float[3] beta, float[3] mean, float[3] var>
        { y = BatchNormalization(x, gamma, beta, mean, var) }"""),
    "instance_norm": graph("""(float[N,3,5,5] x) => (float[N,3,5,5] y) <float[3] gamma, float[3] beta>
        { y = InstanceNormalization(x, gamma, beta) }"""),
    "group_norm_decomposed": graph("""(float[N,6,4,4] x) => (float[N,6,4,4] y)
        <float[2] ones = {1.0,1.0}, float[2] zeros = {0.0,0.0}, float[6,1,1] gamma, float[6,1,1] beta,
         int64[3] s = {0,2,-1}, int64[4] back = {0,6,4,4}>
        { r = Reshape(x, s) n = InstanceNormalization(r, ones, zeros) b = Reshape(n, back)
          g = Mul(b, gamma) y = Add(g, beta) }"""),
    "group_norm": graph("""(float[N,6,4,4] x) => (float[N,6,4,4] y) <float[6] gamma, float[6] beta>
        { y = GroupNormalization <num_groups = 2> (x, gamma, beta) }""", 21),
    "lrn": graph("""(float[N,6,4,4] x) => (float[N,6,4,4] y) { y = LRN <size = 3> (x) }"""),
}

_ATTENTION_WEIGHTS = """float[8,8] wq, float[8] bq, float[8,8] wk, float[8] bk, float[8,8] wv, float[8] bv,
        float[8,8] wo, float[8] bo, int64[4] heads = {0,0,2,4}, int64[3] joined = {0,0,8}, float root = {2.0}"""
_ATTENTION_SCORES = """
          qm = MatMul(x, wq) qa = Add(bq, qm) qr = Reshape(qa, heads) q = Transpose <perm = [0,2,1,3]> (qr)
          km = MatMul(x, wk) ka = Add(bk, km) kr = Reshape(ka, heads) k = Transpose <perm = [0,2,3,1]> (kr)
          vm = MatMul(x, wv) va = Add(bv, vm) vr = Reshape(va, heads) v = Transpose <perm = [0,2,1,3]> (vr)
          raw = MatMul(q, k) scores = Div(raw, root)"""
_ATTENTION_OUTPUT = """
          c = MatMul(p, v) ct = Transpose <perm = [0,2,1,3]> (c) cj = Reshape(ct, joined)
          om = MatMul(cj, wo)"""

_ATTENTION: Mapping[str, Builder] = {
    "attention_block": graph(f"""(float[N,T,8] x) => (float[N,T,8] y) <{_ATTENTION_WEIGHTS}>
        {{ {_ATTENTION_SCORES} p = Softmax <axis = -1> (scores) {_ATTENTION_OUTPUT} y = Add(om, bo) }}"""),
    "attention_block_masked": graph(f"""(float[N,T,8] x, int64[N,T] mask) => (float[N,T,8] y)
        <{_ATTENTION_WEIGHTS}, float one = {{1.0}}, float low = {{-10000.0}}, int64[2] wide = {{1,2}}>
        {{ {_ATTENTION_SCORES}
          mu = Unsqueeze(mask, wide) mf = Cast <to = 1> (mu) mi = Sub(one, mf) ma = Mul(mi, low)
          masked = Add(scores, ma) p = Softmax <axis = -1> (masked) {_ATTENTION_OUTPUT} y = Add(om, bo) }}"""),
    "encoder_block": graph(f"""(float[N,T,8] x) => (float[N,T,8] y)
        <{_ATTENTION_WEIGHTS}, float[8] gamma1, float[8] beta1, float[8] gamma2, float[8] beta2,
         float[8,16] w1, float[16] b1, float[16,8] w2, float[8] b2,
         float rt = {{1.4142135}}, float one = {{1.0}}, float half = {{0.5}}>
        {{ {_ATTENTION_SCORES} p = Softmax <axis = -1> (scores) {_ATTENTION_OUTPUT} oa = Add(om, bo)
          r1 = Add(oa, x) n1 = LayerNormalization <axis = -1> (r1, gamma1, beta1)
          m1 = MatMul(n1, w1) a1 = Add(m1, b1)
          d = Div(a1, rt) e = Erf(d) ea = Add(e, one) em = Mul(a1, ea) g = Mul(em, half)
          m2 = MatMul(g, w2) a2 = Add(m2, b2)
          r2 = Add(a2, n1) y = LayerNormalization <axis = -1> (r2, gamma2, beta2) }}"""),
    "attention_packed": graph("""(float[N,T,8] x) => (float[N,T,8] y)
        <float[8,24] w, float[24] b, int64[4] heads = {0,0,2,4}, int64[3] joined = {0,0,8}, float half = {0.5}>
        { m = MatMul(x, w) a = Add(m, b) qf, kf, vf = Split <axis = -1> (a)
          qr = Reshape(qf, heads) q = Transpose <perm = [0,2,1,3]> (qr) qs = Mul(q, half)
          kr = Reshape(kf, heads) k = Transpose <perm = [0,2,3,1]> (kr)
          vr = Reshape(vf, heads) v = Transpose <perm = [0,2,1,3]> (vr)
          s = MatMul(qs, k) p = Softmax <axis = -1> (s) c = MatMul(p, v)
          ct = Transpose <perm = [0,2,1,3]> (c) y = Reshape(ct, joined) }"""),
    "attention_fused": graph("""(float[N,T,8] x) => (float[N,T,8] y)
        <float[8,8] wq, float[8,8] wk, float[8,8] wv>
        { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
          y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v) }""", 23),
    "skip_layer_norm": graph("""(float[N,T,8] a, float[N,T,8] b) => (float[N,T,8] y)
        <float[8] gamma, float[8] beta> { s = Add(a, b) y = LayerNormalization <axis = -1> (s, gamma, beta) }"""),
}

_EMBEDDING: Mapping[str, Builder] = {
    "embedding": graph("""(int64[N,T] ids) => (float[N,T,6] y) <float[10,6] table, float[6,6] w>
        { e = Gather(table, ids) y = MatMul(e, w) }"""),
    "tied_embedding": graph("""(int64[N,T] ids) => (float[N,T,10] y) <float[10,6] table>
        { e = Gather(table, ids) h = Tanh(e) t = Transpose <perm = [1,0]> (table) y = MatMul(h, t) }"""),
    "embedding_sum_norm": graph("""(int64[N,T] ids, int32[N,T] kinds) => (float[N,T,6] y)
        <float[10,6] words, float[4,6] types, float[6] gamma, float[6] beta>
        { w = Gather(words, ids) t = Gather(types, kinds) s = Add(w, t)
          y = LayerNormalization <axis = -1> (s, gamma, beta) }"""),
    "one_hot_embedding": graph("""(int64[N] ids) => (float[N,6] y)
        <float[4,6] table, int64 depth = {4}, float[2] values = {0.0,1.0}>
        { o = OneHot(ids, depth, values) y = MatMul(o, table) }"""),
}

GRAPHS: Mapping[str, Builder] = {**_NORM, **_ATTENTION, **_EMBEDDING}
