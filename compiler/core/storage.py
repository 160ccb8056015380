"""Read and write ONNX files: weights are mapped, not read; a file is written aside and renamed into place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from lwc.compiler.core.check import check_proto
from lwc.compiler.core.errors import BadInput, LwcError, NotAModel, UsageError
from lwc.compiler.core.external import DataFolder, contents, view
from lwc.compiler.core.mapped import ALIGNMENT, Place, map_file, release_pages, stamp_of
from lwc.compiler.core.normal_form import normalize
from lwc.compiler.core.skeleton import initialized, roots, standing_in
from lwc.compiler.core.wire import MalformedWire, Stripped, strip_weights

MAPPED_BYTES = 1 << 16  # raw weights from this size on stay in the file
PROTOBUF_BYTES = 2**31 - 1  # the largest message that protobuf parses
INLINE_BYTES = PROTOBUF_BYTES - (1 << 24)
EXTERNAL_BYTES = 1 << 10  # smaller tensors stay in the model file: shapes and scalars are needed to load it
RELEASED_BYTES = 1 << 26  # of weights that were written: what was read of their files is given back then
DATA_FILES = "lwc.data_files"  # where ir.Model.meta keeps the paths of external data


def read_model(path: Path) -> ir.Model:
    """Read and check an ONNX file; weights of 64 KB and more stay on disk until used.

    Raises NotAModel, InvalidGraph, BadExternalData, UnsupportedOpset, BadInput.
    """
    data, stamp = _map(path), stamp_of(path.stat())
    try:
        stripped = strip_weights(data, MAPPED_BYTES)
        proto = _parse(path, stripped)
    except (MalformedWire, DecodeError) as error:
        raise NotAModel(f"'{path}' is not an ONNX model, or a truncated one ({error}).") from error
    weights = {k: data[span.start : span.end] for k, span in stripped.weights.items()}
    file = Path(os.path.realpath(path))
    places = {k: Place(file, span.start, stamp) for k, span in stripped.weights.items()}
    return _build(proto, path.name, weights, DataFolder(path.absolute().parent), places)


def model_from_proto(proto: onnx.ModelProto, name: str) -> ir.Model:
    """Check a ModelProto that is in memory and build the graph from a copy; external data must be loaded already.

    Raises NotAModel, InvalidGraph, BadExternalData, UnsupportedOpset, BadInput.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return _build(copy, name, {}, DataFolder(None), {})


def _build(
    proto: onnx.ModelProto,
    name: str,
    weights: Mapping[int, memoryview],
    folder: DataFolder,
    places: Mapping[int, Place],
) -> ir.Model:
    try:
        normalize(proto)
        in_order = check_proto(proto, name, weights, folder)
        model = ir.from_proto(proto)
        for k, raw in weights.items():
            tensor = proto.graph.initializer[k]
            model.graph.initializers[tensor.name].const_value = view(raw, tensor, places[k])
        _map_external(model, folder)
        if not in_order:
            for root in roots(model):
                root.sort()
    except LwcError:
        raise
    except Exception as error:  # protobuf and onnx_ir each raise their own for fields that make no sense
        raise NotAModel(f"'{name}' is no valid ONNX model ({type(error).__name__}: {error}).") from error
    model.meta[DATA_FILES] = frozenset(folder.maps)
    return model


def data_files(model: ir.Model) -> frozenset[Path]:
    """The files of external data that the model was read from."""
    return frozenset(model.meta.get(DATA_FILES, ()))


def write_model(model: ir.Model, path: Path, *, external_data: bool) -> None:
    """Write to `path`; weights beside it, in `<path>.data`, when asked or when the file would pass 2 GB.

    The new files are written aside, and renaming the model file is the last step. While the model that is replaced
    has its weights in `<path>.data`, the new ones go to `<path>.1.data` (or back), so that at every moment the model
    file belongs to its data; the old data are removed at the end.
    Raises UsageError when the folder cannot be written to, BadInput when the graph alone passes 2 GB.
    """
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder.", "Give a file's name.")
    try:
        if external_data or sum(tensor.nbytes for _, tensor in initialized(model)) > INLINE_BYTES:
            _write_external(model, path)
        else:
            _write_aside(path, _serialized(model, path))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written ({error.strerror or error}).") from error


def _map(path: Path) -> memoryview:
    if path.is_dir():
        raise NotAModel(f"'{path}' is a folder, not an ONNX file.")
    if not path.exists():
        raise BadInput(f"'{path}' does not exist.")
    try:
        data = map_file(path)
    except OSError as error:
        raise BadInput(f"'{path}' cannot be read ({error.strerror}).") from error
    if not len(data):
        raise NotAModel(f"'{path}' is empty.")
    return data


def _parse(path: Path, stripped: Stripped) -> onnx.ModelProto:
    if len(stripped.skeleton) > PROTOBUF_BYTES:
        raise NotAModel(f"'{path}' holds over 2 GB besides its weights, which protobuf cannot parse.")
    proto = onnx.ModelProto()
    proto.ParseFromString(stripped.skeleton)
    if not proto.HasField("graph") or not proto.ir_version:
        raise NotAModel(f"'{path}' is not an ONNX model: it holds no graph.")
    return proto


def _map_external(model: ir.Model, folder: DataFolder) -> None:
    """Put views of mapped files in place of references to files, everywhere."""
    for value, tensor in initialized(model):
        value.const_value = _mapped(tensor, folder)
    for root in roots(model):
        for node in root.all_nodes():
            for name, attribute in node.attributes.items():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    node.attributes[name] = ir.AttrTensor(name, _mapped(attribute.as_tensor(), folder))
                elif attribute.type == ir.AttributeType.TENSORS:
                    tensors = [_mapped(tensor, folder) for tensor in attribute.as_tensors()]
                    node.attributes[name] = ir.AttrTensors(name, tensors)


def _mapped(tensor: ir.TensorProtocol, folder: DataFolder) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    proto = ir.to_proto(tensor)
    data, place = folder.find(proto)
    return view(data, proto, place)


def _serialized(model: ir.Model, path: Path) -> bytes:
    try:
        content: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:
        raise BadInput(f"'{path}' cannot be written as one protobuf ({error}).", "Save with external data.") from error
    return content


def _write_aside(path: Path, content: bytes) -> None:
    with written_aside(path) as file:
        file.write(content)


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block ends well and vanishes when it does not."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with aside.open("wb") as file:
            yield file
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _write_external(model: ir.Model, path: Path) -> None:
    names = [f"{path.name}.data", f"{path.name}.1.data"]
    old = _locations(path)
    new = names[0] if names[0] not in old else names[1]
    replaced: dict[ir.Value, ir.TensorProtocol] = {}
    released = 0
    with written_aside(path.with_name(new)) as data:
        for value, tensor in initialized(model):
            if tensor.nbytes >= EXTERNAL_BYTES and tensor.dtype != ir.DataType.STRING:
                replaced[value] = append_tensor(tensor, value.name or "", data, new)
                if data.tell() - released >= RELEASED_BYTES:
                    release_pages()
                    released = data.tell()
        with standing_in(replaced):
            content = _serialized(model, path)
    release_pages()
    _write_aside(path, content)
    for name in names:
        if name in old and name != new:
            path.with_name(name).unlink(missing_ok=True)


def append_tensor(tensor: ir.TensorProtocol, name: str, data: BinaryIO, location: str) -> ir.ExternalTensor:
    """Write the tensor's bytes at the end of `data`, from a page's start on; a reference to them in `location`."""
    data.write(b"\0" * (-data.tell() % ALIGNMENT))
    offset = data.tell()
    data.write(contents(tensor))
    return reference(tensor, name, location, offset)


def reference(tensor: ir.TensorProtocol, name: str, location: str, offset: int) -> ir.ExternalTensor:
    """A tensor like this one whose bytes lie in a file."""
    return ir.ExternalTensor(
        location,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _locations(path: Path) -> set[str]:
    """The external data that the main graph of the model at `path` names; empty when it is no model."""
    try:
        proto = onnx.ModelProto.FromString(strip_weights(_map(path), MAPPED_BYTES).skeleton)
    except (BadInput, MalformedWire, DecodeError):
        return set()
    return {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
