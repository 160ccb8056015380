// A folder that lwc's TVM backend wrote: code, mapped weights, and the names, types and shapes of inputs and outputs.
#pragma once

#include <tvm/ffi/any.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>

#include <string>
#include <vector>

#include "array.h"

namespace lwc {

struct Port {
  std::string name, dtype;
  std::vector<int64_t> shape;  // -1 where the model takes any size
};

class Model {
 public:
  // Throws Failure when a file is missing, damaged, or made for another processor.
  explicit Model(const std::string& folder);

  const std::vector<Port>& inputs() const { return inputs_; }

  // Take arrays as inputs, by name; others are left alone. Throws Failure when one is missing or does not fit.
  void Set(const std::vector<Array>& arrays);

  // Run on what was set. Throws Failure with what TVM says, as of functions that it has in Python alone.
  void Run();

  // The outputs of the last run, in the model's order.
  std::vector<Array> Outputs() const;

 private:
  void ReadDescription(const std::string& path);
  std::vector<tvm::ffi::Any> MapWeights(const std::string& path) const;

  struct Weight {
    std::string dtype;
    std::vector<int64_t> shape;
    int64_t offset;
  };

  std::vector<Port> inputs_, outputs_;
  std::vector<Weight> weights_;
  tvm::ffi::Any machine_;
  tvm::ffi::Function run_;
  std::vector<tvm::ffi::Tensor> arguments_;
  tvm::ffi::Any results_;
};

}  // namespace lwc
