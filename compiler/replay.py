"""--plan: a plan that was made before is applied again."""

from __future__ import annotations

from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan
from lwc.compiler.options import CompileOptions
from lwc.compiler.search.biases import mean_sources, needs_mean
from lwc.compiler.search.masking import collect_for_masks
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pruning import collect_for_groups
from lwc.compiler.search.rounding import needs_gram, solving_sources
from lwc.compiler.search.space import node_name


def replayed(options: CompileOptions, numbers: Numbers) -> Plan:
    """The user's plan, with the statistics collected that it takes to solve weights again."""
    plan = read_plan(options, numbers.bench.model)
    collect_for(plan, numbers)
    return plan


def collect_for(plan: Plan, numbers: Numbers) -> None:
    """The statistics that it takes to apply the plan."""
    model = numbers.bench.model
    nodes = model.by_name()
    numbers.collect_grams(solving_sources((s for s, choice in plan.choices.items() if needs_gram(choice)), nodes))
    numbers.collect_means(mean_sources(model, (s for s, choice in plan.choices.items() if needs_mean(choice))))
    collect_for_groups(numbers, plan)
    collect_for_masks(numbers, plan)


def read_plan(options: CompileOptions, clean: Model) -> Plan:
    """The user's plan. Raises BadPlan when it names nodes this model does not have."""
    assert options.plan is not None
    try:
        plan = Plan.from_json(options.plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"The plan '{options.plan}' cannot be read ({error}).") from error
    names = {node.name for node in clean.graph}
    for site in (*plan.choices, *(scaling.site for scaling in plan.scalings)):
        if node_name(site) not in names:
            raise BadPlan(
                f"The plan '{options.plan}' names '{site.name}', which {clean.name} does not have.",
                "Use a plan that was made for this model.",
            )
    return plan
