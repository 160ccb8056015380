from lwc.compiler.core.pass_ import Outcome, Skip
from lwc.compiler.core.plan import Dropped, Site
from lwc.passes.sparsity.at_sites import at_sites


def test_a_site_is_changed_skipped_with_the_reason_or_was_changed_before() -> None:
    sites = {name: Site(name, "Add", "block") for name in ("done", "refused", "known")}
    said = {sites["done"]: "", sites["refused"]: "it is shared", sites["known"]: None}
    outcome = at_sites([(site, Dropped()) for site in sites.values()], lambda site, choice: said[site])
    assert outcome == Outcome((sites["done"],), (Skip(sites["refused"], "it is shared"),))
