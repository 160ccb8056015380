"""Plans become models: the one place where choices are handed to the passes that carry them out."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

from lwc.compiler.analysis.shapes import forget_inner_shapes
from lwc.compiler.core.external import move_to_file
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import OLDEST, ensure_opset
from lwc.compiler.core.pass_ import PassContext, Pipeline, Skip
from lwc.compiler.core.plan import Plan, Pruned, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import Target
from lwc.compiler.search.sliced import Sliced
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.precision import PRECISION_PASSES
from lwc.passes.sparsity import CHANNEL_PASSES, LAYER_PASSES


@dataclass(frozen=True)
class Applier:
    """Applies plans on forks, as they will be handed out.

    stats: of the sites whose weights are solved with them; whoever collects them puts them here
    solved: weights solved before, for forks that share tensors; stays behind when it is pickled
    """

    target: Target
    stats: MutableMapping[Site, LayerStats] = field(default_factory=dict)
    solved: MutableMapping[Any, Any] = field(default_factory=dict, compare=False)

    def __call__(self, model: Model, plan: Plan) -> Model:
        """A fork with the plan applied."""
        return self.with_skips(model, plan)[0]

    def with_skips(self, model: Model, plan: Plan) -> tuple[Model, tuple[Skip, ...]]:
        """The fork, and the sites that could not be changed. Raises BadPlan when statistics are missing."""
        fork = model.fork()
        context = PassContext(self.target, plan, self.stats, solved=self.solved)
        ensure_opset(fork.ir, max((choice.opset for choice in plan.choices.values()), default=OLDEST))
        NameNodes().run(fork.ir, context)  # raising the opset may add nodes
        pruned = Pipeline(CHANNEL_PASSES).run(fork.ir, context)
        outcome = Pipeline((*LAYER_PASSES, *PRECISION_PASSES)).run(fork.ir, self._after_pruning(context, model))
        forget_inner_shapes(fork.ir)
        move_to_file(fork.ir)
        return fork, (*pruned.skipped, *outcome.skipped)

    def _after_pruning(self, context: PassContext, model: Model) -> PassContext:
        """The statistics of the channels that stay; what is solved with them is of no use to other forks."""
        removed = {site: choice.removed for site, choice in context.plan.sites(Pruned)}
        if not removed:
            return context
        return replace(context, stats=Sliced(self.stats, model.ir, removed), solved=ChainMap({}, self.solved))

    def on(self, target: Target) -> Applier:
        """The same for another target, on the same statistics."""
        return Applier(target, self.stats, self.solved)

    def __reduce__(self) -> tuple[type[Applier], tuple[Target, dict[Site, LayerStats]]]:
        return Applier, (self.target, dict(self.stats))
