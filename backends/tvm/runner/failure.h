// What the runner says when it stops: one sentence, and the exit code of lwc's command line.
#pragma once

#include <stdexcept>
#include <string>

namespace lwc {

constexpr int kInternal = 1;
constexpr int kUsage = 2;
constexpr int kBadInput = 3;

struct Failure : std::runtime_error {
  Failure(int code, const std::string& sentence) : std::runtime_error(sentence), code(code) {}
  int code;
};

}  // namespace lwc
