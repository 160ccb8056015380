#include "array.h"

#include <map>

#include "failure.h"

namespace lwc {

size_t ItemBytes(const std::string& dtype) {
  static const std::map<std::string, size_t> sizes = {
      {"bool", 1},     {"int8", 1},     {"uint8", 1},  {"int16", 2},   {"uint16", 2},
      {"float16", 2},  {"bfloat16", 2}, {"int32", 4},  {"uint32", 4},  {"float32", 4},
      {"int64", 8},    {"uint64", 8},   {"float64", 8},
  };
  auto found = sizes.find(dtype);
  if (found == sizes.end()) throw Failure(kBadInput, "Arrays of type '" + dtype + "' are not supported.");
  return found->second;
}

size_t SizeOf(const std::string& dtype, const std::vector<int64_t>& shape) {
  size_t size = ItemBytes(dtype);
  for (int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(size, static_cast<size_t>(dim), &size))
      throw Failure(kBadInput, "No array can have the shape " + ToString(shape) + ".");
  return size;
}

std::string ToString(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t k = 0; k < shape.size(); ++k) text += (k ? ", " : "") + std::to_string(shape[k]);
  return text + "]";
}

}  // namespace lwc
