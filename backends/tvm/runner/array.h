// Arrays with names, as files and models hand them to each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lwc {

struct Array {
  std::string name;
  std::string dtype;           // as numpy names it: float32, int64, bool, bfloat16 ...
  std::vector<int64_t> shape;
  std::vector<char> bytes;     // in C order
};

// Bytes of one element. Throws Failure for a type that has no name in numpy.
size_t ItemBytes(const std::string& dtype);

// Bytes of an array of that type and shape.
size_t SizeOf(const std::string& dtype, const std::vector<int64_t>& shape);

// "[1, 3, 224, 224]"
std::string ToString(const std::vector<int64_t>& shape);

}  // namespace lwc
