// TVM is reached through its registry of functions alone: no C++ symbols of its libraries, so that any compiler and any
// standard library can build this.
#include "model.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/string.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "failure.h"
#include "npz.h"
#include "processor.h"

namespace lwc {
namespace {

namespace ffi = tvm::ffi;

constexpr DLDevice kCpu = {kDLCPU, 0};
constexpr int kPooledAllocator = 2;  // tvm::runtime::memory::AllocatorType
constexpr size_t kAlignment = 64;    // as kernels want their arguments

struct Owned {
  void AllocData(DLTensor* tensor) {
    size_t size = (ffi::GetDataSize(*tensor) + kAlignment) / kAlignment * kAlignment;
    tensor->data = std::aligned_alloc(kAlignment, size);
    if (tensor->data == nullptr) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

// Memory that lives as long as the process.
struct Borrowed {
  void* data;
  void AllocData(DLTensor* tensor) { tensor->data = data; }
  void FreeData(DLTensor*) {}
};

ffi::Function Global(const char* name) { return ffi::Function::GetGlobalRequired(name); }

ffi::Function Member(const ffi::Any& module, const char* name) {
  ffi::Any found = Global("ffi.ModuleGetFunction")(module, ffi::String(name), true);
  if (found == nullptr) throw Failure(kBadInput, std::string("The library has no function '") + name + "'.");
  return found.cast<ffi::Function>();
}

// The first line of what TVM says, without the condition that it checked.
std::string Said(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  size_t condition = line.find(") is false: ");
  return condition == std::string::npos ? line : line.substr(condition + 12);
}

std::vector<int64_t> ReadShape(const ffi::Any& json) {
  std::vector<int64_t> shape;
  for (const ffi::Any& dim : json.cast<ffi::Array<ffi::Any>>()) shape.push_back(dim.try_cast<int64_t>().value_or(-1));
  return shape;
}

std::vector<Port> ReadPorts(const ffi::Any& json) {
  std::vector<Port> ports;
  for (const ffi::Any& item : json.cast<ffi::Array<ffi::Any>>()) {
    auto port = item.cast<ffi::Array<ffi::Any>>();
    ports.push_back({port[0].cast<ffi::String>(), port[1].cast<ffi::String>(), ReadShape(port[2])});
  }
  return ports;
}

bool Fits(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted) {
  return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(),
                    [](int64_t have, int64_t want) { return want < 0 || have == want; });
}

ffi::Tensor ToTensor(const Array& array) {
  ffi::Tensor tensor = ffi::Tensor::FromNDAlloc(Owned(), ffi::ShapeView(array.shape.data(), array.shape.size()),
                                                ffi::StringToDLDataType(array.dtype), kCpu);
  std::memcpy(tensor.data_ptr(), array.bytes.data(), array.bytes.size());
  return tensor;
}

ffi::Any ReadJson(const std::string& path) {
  std::vector<char> text = ReadFile(path);
  return Global("ffi.json.Parse")(ffi::String(text.data(), text.size()));
}

// Models that are compiled for no shapes, or run in turns with another runtime, need Python.
void CheckParts(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) return;
  auto contents = ReadJson(path).cast<ffi::Map<ffi::Any, ffi::Any>>();
  auto variants = contents[ffi::String("variants")].cast<ffi::Array<ffi::Any>>();
  if (variants.size() == 0)
    throw Failure(kBadInput, "The model leaves shapes of its inputs open; compile it with --shape.");
  auto parts = variants[0].cast<ffi::Map<ffi::Any, ffi::Any>>()[ffi::String("parts")].cast<ffi::Array<ffi::Any>>();
  if (parts.size() != 1)
    throw Failure(kBadInput, "Parts of the model run on ONNX Runtime, which lwc-run does without; use Python.");
}

// Code for instructions that a processor lacks would end the process without a word.
void CheckProcessor(const ffi::Map<ffi::Any, ffi::Any>& json, const std::string& path) {
  std::string triple = json[ffi::String("triple")].cast<ffi::String>();
  if (triple.rfind(kArchitecture, 0) != 0)
    throw Failure(kBadInput, "'" + path + "' is of a model for " + triple + "; this machine is " + kArchitecture + ".");
  std::vector<std::string> flags;
  for (const ffi::Any& flag : json[ffi::String("flags")].cast<ffi::Array<ffi::Any>>())
    flags.push_back(flag.cast<ffi::String>());
  for (const std::string& flag : Lacking(flags))
    throw Failure(kBadInput, "'" + path + "' is of a model for processors with " + flag + "; this one lacks it.");
}

Array ToArray(const ffi::Any& value, const Port& port) {
  if (auto shape = value.as<ffi::Shape>()) {
    Array array{port.name, "int64", {static_cast<int64_t>(shape->size())}, {}};
    auto begin = reinterpret_cast<const char*>(shape->data());
    array.bytes.assign(begin, begin + SizeOf(array.dtype, array.shape));
    return array;
  }
  auto tensor = value.cast<ffi::Tensor>();
  Array array{port.name, port.dtype, {tensor.shape().begin(), tensor.shape().end()}, {}};
  auto begin = static_cast<const char*>(tensor.data_ptr());
  array.bytes.assign(begin, begin + SizeOf(array.dtype, array.shape));
  return array;
}

}  // namespace

Model::Model(const std::string& folder) {
  CheckParts(folder + "/parts.json");
  ReadDescription(folder + "/model.json");
  std::string library = folder + "/model.so";
  std::vector<ffi::Any> bound = {ffi::String("main"), ffi::String("run"), true};
  for (ffi::Any& weight : MapWeights(folder + "/model.weights")) bound.push_back(std::move(weight));
  std::vector<ffi::AnyView> views(bound.begin(), bound.end());
  dlopen("libtvm_runtime_extra.so", RTLD_NOW | RTLD_GLOBAL);  // functions for sorting; most models need none
  try {
    machine_ = Member(Global("ffi.ModuleLoadFromFile")(ffi::String(library)), "vm_load_executable")();
    Member(machine_, "vm_initialization")(static_cast<int>(kCpu.device_type), 0, kPooledAllocator);
    ffi::Any nothing;
    Member(machine_, "save_function").CallPacked(views.data(), static_cast<int32_t>(views.size()), &nothing);
    run_ = Member(machine_, "run");
  } catch (const ffi::Error& error) {
    throw Failure(kBadInput, "'" + library + "' cannot be loaded (" + Said(error.message()) + ").");
  }
}

void Model::ReadDescription(const std::string& path) {
  try {
    auto description = ReadJson(path).cast<ffi::Map<ffi::Any, ffi::Any>>();
    CheckProcessor(description[ffi::String("processor")].cast<ffi::Map<ffi::Any, ffi::Any>>(), path);
    inputs_ = ReadPorts(description[ffi::String("inputs")]);
    outputs_ = ReadPorts(description[ffi::String("outputs")]);
    for (const ffi::Any& item : description[ffi::String("weights")].cast<ffi::Array<ffi::Any>>()) {
      auto weight = item.cast<ffi::Array<ffi::Any>>();
      weights_.push_back({weight[0].cast<ffi::String>(), ReadShape(weight[1]), weight[2].cast<int64_t>()});
    }
  } catch (const ffi::Error& error) {
    throw Failure(kBadInput, "'" + path + "' cannot be read (" + Said(error.message()) + ").");
  }
}

std::vector<ffi::Any> Model::MapWeights(const std::string& path) const {
  if (weights_.empty()) return {};
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0) throw Failure(kBadInput, "'" + path + "' cannot be opened.");
  auto size = static_cast<size_t>(status.st_size);
  void* pages = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (pages == MAP_FAILED) throw Failure(kBadInput, "'" + path + "' cannot be mapped.");
  std::vector<ffi::Any> tensors;
  for (const Weight& weight : weights_) {
    DLDataType dtype = ffi::StringToDLDataType(weight.dtype);
    ffi::ShapeView shape(weight.shape.data(), weight.shape.size());
    auto offset = static_cast<size_t>(weight.offset);
    if (offset > size || ffi::GetDataSize(shape.Product(), dtype) > size - offset)
      throw Failure(kBadInput, "'" + path + "' is too short.");
    Borrowed memory{static_cast<char*>(pages) + offset};
    tensors.emplace_back(ffi::Tensor::FromNDAlloc(memory, shape, dtype, kCpu));
  }
  return tensors;
}

void Model::Set(const std::vector<Array>& arrays) {
  arguments_.clear();
  for (const Port& port : inputs_) {
    auto named = [&](const Array& array) { return array.name == port.name; };
    auto found = std::find_if(arrays.begin(), arrays.end(), named);
    if (found == arrays.end()) throw Failure(kBadInput, "There is no array for the input '" + port.name + "'.");
    if (found->dtype != port.dtype)
      throw Failure(kBadInput, "The input '" + port.name + "' is " + found->dtype + "; the model takes " +
                                   port.dtype + ".");
    if (!Fits(found->shape, port.shape))
      throw Failure(kBadInput, "The input '" + port.name + "' has the shape " + ToString(found->shape) +
                                   "; the model takes " + ToString(port.shape) + ".");
    arguments_.push_back(ToTensor(*found));
  }
}

void Model::Run() {
  std::vector<ffi::AnyView> views(arguments_.begin(), arguments_.end());
  try {
    run_.CallPacked(views.data(), static_cast<int32_t>(views.size()), &results_);
  } catch (const ffi::Error& error) {
    throw Failure(kBadInput, "The model cannot be run on these inputs (" + Said(error.message()) + ").");
  }
}

std::vector<Array> Model::Outputs() const {
  auto several = results_.as<ffi::Array<ffi::Any>>();
  std::vector<Array> arrays;
  for (size_t k = 0; k < outputs_.size(); ++k)
    arrays.push_back(ToArray(several ? (*several)[static_cast<int64_t>(k)] : results_, outputs_[k]));
  return arrays;
}

}  // namespace lwc
