"""Apply plans to forks of a model, in this process or in any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lwc.compiler.analysis.shapes import forget_inner_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import OLDEST, ensure_opset
from lwc.compiler.core.pass_ import PassContext, Pipeline, Skip
from lwc.compiler.core.plan import Plan, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import Target
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.precision import PRECISION_PASSES


@dataclass(frozen=True)
class Applier:
    """What plans are applied with. Can be pickled: losses are measured in other processes too.

    stats: of the sites whose choices need them;  seed: of the passes
    """

    target: Target
    stats: Mapping[Site, LayerStats] = field(default_factory=dict)
    seed: int = 0

    def __call__(self, model: Model, plan: Plan) -> Model:
        """A fork with the plan applied, as it will be handed out."""
        return self.applied(model, plan)[0]

    def applied(self, model: Model, plan: Plan) -> tuple[Model, tuple[Skip, ...]]:
        """The same, and the sites that could not be changed."""
        fork = model.fork()
        context = PassContext(self.target, plan, self.stats, self.seed)
        ensure_opset(fork.ir, max((choice.opset for choice in plan.choices.values()), default=OLDEST))
        NameNodes().run(fork.ir, context)  # raising the opset may add nodes
        outcome = Pipeline(PRECISION_PASSES).run(fork.ir, context)
        forget_inner_shapes(fork.ir)
        return fork, outcome.skipped
