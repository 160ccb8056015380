// The processor that this runs on.
#pragma once

#include <string>
#include <vector>

namespace lwc {

// "x86_64", "aarch64": how triples of code for it begin.
extern const char kArchitecture[];

// Those of the instruction sets, by Linux's names, that it lacks.
std::vector<std::string> Lacking(const std::vector<std::string>& flags);

// Ask Linux to let this process use AMX tiles, where there are any.
void AllowTiles();

}  // namespace lwc
