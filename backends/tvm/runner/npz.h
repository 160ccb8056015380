// Archives of numpy's arrays: ZIP with stored entries, each a .npy of version 1, 2 or 3.
#pragma once

#include <string>
#include <vector>

#include "array.h"

namespace lwc {

// All arrays of a file that numpy.savez wrote. Throws Failure: not readable, compressed, or not in C order.
std::vector<Array> ReadNpz(const std::string& path);

// Write arrays as numpy.savez does.
void WriteNpz(const std::string& path, const std::vector<Array>& arrays);

// A whole file. Throws Failure when it cannot be read.
std::vector<char> ReadFile(const std::string& path);

}  // namespace lwc
