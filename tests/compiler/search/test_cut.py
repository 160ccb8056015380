import itertools
from pathlib import Path

import onnx_ir as ir
import pytest

from lwc.compiler.analysis.sites import find_sites
from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.prepare import clean_model
from lwc.compiler.search.cut import Cuts, is_fed
from lwc.models import structures, tiny

MODELS = Path(structures.__file__).parent
NAMES = ("digits_cnn", "digits_transformer", "digits_gru")


def cuts_of(name: str, sites_per_segment: int = 1) -> Cuts:
    model = Model.open(MODELS / f"{name}.onnx") if name in NAMES else Model(tiny.all_graphs()[name](), name)
    clean, _ = clean_model(model, host())
    return Cuts(clean, find_sites(clean, host()), sites_per_segment)


@pytest.mark.parametrize("name", [*NAMES, "encoder_block", "dense_block"])
def test_segments_follow_one_another_and_hold_every_site_once(name: str) -> None:
    cuts = cuts_of(name)
    assert len(cuts.segments) > 1
    assert cuts.segments[0].start == 0
    assert cuts.segments[-1].stop == len(cuts.nodes)
    assert all(a.stop == b.start for a, b in itertools.pairwise(cuts.segments))
    sites = [site for segment in cuts.segments for site in segment.sites]
    assert sorted(sites) == sorted(find_sites(cuts.model, host()))


@pytest.mark.parametrize("name", NAMES)
def test_no_cut_parts_a_site_from_what_its_kernel_swallows(name: str) -> None:
    cuts = cuts_of(name)
    borders = [segment.start for segment in cuts.segments]
    for node in cuts.nodes:
        unit = unit_of(node)
        for swallowed in unit.tail if isinstance(unit, Unit) else ():
            assert not any(cuts.index[node] < border <= cuts.index[swallowed] for border in borders)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_crosses_a_cut_is_live_and_can_be_fed(name: str) -> None:
    cuts = cuts_of(name)
    for segment in cuts.segments:
        assert all(is_fed(value) for value in segment.live)
        behind = cuts.part(cuts.nodes[segment.start :])
        assert set(behind.inputs) == set(segment.live)


def test_a_part_reads_what_its_subgraphs_capture() -> None:
    cuts = cuts_of("if_captures_computed")
    node = next(node for node in cuts.nodes if node.op_type == "If")
    captured = {value.name for graph in node.graph.subgraphs() for inner in graph for value in inner.inputs if value}
    part = cuts.part([node])
    assert {value.name for value in part.inputs if value.producer() is not None} & captured


def test_a_submodel_gives_its_outputs_from_its_inputs() -> None:
    cuts = cuts_of("digits_cnn")
    first, last = cuts.segments[0], cuts.segments[-1]
    part = cuts.between(first.live, last.live)
    model = cuts.submodel(part)
    assert [value.name for value in model.graph.outputs] == list(part.output_names)
    assert {value.name for value in model.graph.inputs} == set(part.input_names)
    shared = {id(value.const_value) for value in cuts.model.graph.initializers.values()}
    assert all(id(value.const_value) in shared for value in model.graph.initializers.values())


def test_strings_are_not_fed() -> None:
    assert not is_fed(ir.Value(name="s", type=ir.TensorType(ir.DataType.STRING)))
    assert not is_fed(ir.Value(name="s", type=ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))))
    assert is_fed(ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT)))
