"""How Relax may fuse a function of ours with its neighbours."""

from __future__ import annotations

OUT_ELEMENTWISE_FUSABLE = 4  # with what follows element by element (TVM's OpPatternKind, which Python does not name)
