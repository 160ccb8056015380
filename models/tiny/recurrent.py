"""Recurrent layers. X is [time, batch, features]; W and R hold the gates one below the other."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

GRAPHS: Mapping[str, Builder] = {
    "lstm": graph("""(float[T,N,3] x) => (float[T,1,N,4] y) <float[1,16,3] w, float[1,16,4] r, float[1,32] b>
        { y = LSTM <hidden_size = 4> (x, w, r, b) }"""),
    "lstm_bidirectional": graph("""(float[T,N,3] x) => (float[T,2,N,4] y, float[2,N,4] h)
        <float[2,16,3] w, float[2,16,4] r, float[2,32] b>
        { y, h = LSTM <hidden_size = 4, direction = "bidirectional"> (x, w, r, b) }"""),
    "lstm_with_state": graph("""(float[T,N,3] x, float[1,N,4] h0, float[1,N,4] c0)
        => (float[T,1,N,4] y, float[1,N,4] h, float[1,N,4] c)
        <float[1,16,3] w, float[1,16,4] r, float[1,32] b>
        { y, h, c = LSTM <hidden_size = 4> (x, w, r, b, "", h0, c0) }"""),
    "lstm_of_lengths": graph("""(float[5,2,3] x, int32[2] lengths) => (float[1,2,4] h)
        <float[1,16,3] w, float[1,16,4] r, float[1,32] b>
        { y, h = LSTM <hidden_size = 4> (x, w, r, b, lengths) }"""),
    "lstm_last_state_only": graph("""(float[T,N,3] x) => (float[N,4] y)
        <float[1,16,3] w, float[1,16,4] r, int64[1] a = {0}>
        { all, h = LSTM <hidden_size = 4> (x, w, r) y = Squeeze(h, a) }"""),
    "lstm_skips_an_output": graph("""(float[T,N,3] x) => (float[T,1,N,4] y, float[1,N,4] c)
        <float[1,16,3] w, float[1,16,4] r> { y, "", c = LSTM <hidden_size = 4> (x, w, r) }"""),
    "gru": graph("""(float[T,N,3] x) => (float[T,1,N,4] y) <float[1,12,3] w, float[1,12,4] r, float[1,24] b>
        { y = GRU <hidden_size = 4> (x, w, r, b) }"""),
    "gru_linear_before_reset": graph("""(float[T,N,3] x, float[1,N,4] h0) => (float[T,1,N,4] y)
        <float[1,12,3] w, float[1,12,4] r, float[1,24] b>
        { y = GRU <hidden_size = 4, linear_before_reset = 1> (x, w, r, b, "", h0) }"""),
    "gru_reverse": graph("""(float[T,N,3] x) => (float[1,N,4] h) <float[1,12,3] w, float[1,12,4] r>
        { y, h = GRU <hidden_size = 4, direction = "reverse"> (x, w, r) }"""),
    "rnn": graph("""(float[T,N,3] x) => (float[T,1,N,4] y) <float[1,4,3] w, float[1,4,4] r, float[1,8] b>
        { y = RNN <hidden_size = 4, activations = ["Relu"]> (x, w, r, b) }"""),
    "gru_batch_first": graph("""(float[N,T,3] x) => (float[N,T,8] y)
        <float[2,12,3] w, float[2,12,4] r, float[2,24] b, int64[3] s = {0,0,-1}, int64[1] one = {1},
         int64 axis = {0}, int64[1] first = {0}, int64[1] two = {2}, int64[1] four = {4}>
        { xs = Shape(x) n = Gather(xs, axis) nu = Unsqueeze(n, first)
          hs = Concat <axis = 0> (two, nu, four) h0 = ConstantOfShape(hs)
          t = Transpose <perm = [1,0,2]> (x)
          g = GRU <hidden_size = 4, direction = "bidirectional", linear_before_reset = 1> (t, w, r, b, "", h0)
          q = Transpose <perm = [2,0,1,3]> (g) y = Reshape(q, s) }"""),
    "recognizer": graph("""(float[N,1,8,16] x) => (float[16,N,5] y)
        <float[4,1,3,3] w1, float[4] b1, int64[3] s = {0,32,16},
         float[1,24,32] w, float[1,24,6] r, float[1,48] b, int64[1] one = {1}, float[6,5] wo, float[5] bo>
        { c = Conv <pads = [1,1,1,1]> (x, w1, b1) a = Relu(c) f = Reshape(a, s)
          t = Transpose <perm = [2,0,1]> (f) l = LSTM <hidden_size = 6> (t, w, r, b) q = Squeeze(l, one)
          m = MatMul(q, wo) o = Add(m, bo) y = Softmax <axis = -1> (o) }"""),
}
