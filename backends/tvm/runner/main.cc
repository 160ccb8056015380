// lwc-run: runs a model that lwc compiled with TVM, without Python.
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "failure.h"
#include "model.h"
#include "npz.h"
#include "processor.h"

namespace lwc {
namespace {

constexpr char kUsageText[] =
    "Usage: lwc-run MODEL_FOLDER [--input FILE.npz|FILE.bin] [--output FILE.npz] [--bench [SECONDS]] [--threads N]\n"
    "  --input    arrays by input name, or the raw bytes of all inputs in the model's order; absent: zeros\n"
    "  --output   where the outputs go, by name\n"
    "  --bench    run for that long (default 3 s) and print median and 90th percentile of the latency\n"
    "  --threads  default: TVM_NUM_THREADS, else as many as there are cores for this process\n";

using Clock = std::chrono::steady_clock;

struct Options {
  std::string folder, input, output;
  double bench_seconds = 0;
  int threads = 0;
};

double Positive(const std::string& option, const std::string& text) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value > 0) || value > 1e6)
    throw Failure(kUsage, "'" + option + "' takes a positive number, not '" + text + "'.");
  return value;
}

Options Parse(const std::vector<std::string>& arguments) {
  Options options;
  for (size_t k = 0; k < arguments.size(); ++k) {
    const std::string& option = arguments[k];
    bool last = k + 1 == arguments.size();
    auto value = [&]() -> const std::string& {
      if (last) throw Failure(kUsage, "'" + option + "' needs a value.");
      return arguments[++k];
    };
    if (option == "--input") {
      options.input = value();
    } else if (option == "--output") {
      options.output = value();
    } else if (option == "--threads") {
      options.threads = static_cast<int>(Positive(option, value()));
    } else if (option == "--bench") {
      bool given = !last && arguments[k + 1].find_first_not_of("0123456789.") == std::string::npos;
      options.bench_seconds = given ? Positive(option, value()) : 3;
    } else if (option.rfind("-", 0) == 0 || !options.folder.empty()) {
      throw Failure(kUsage, "'" + option + "' is not understood; see lwc-run --help.");
    } else {
      options.folder = option;
    }
  }
  if (options.folder.empty()) throw Failure(kUsage, "No model is given; see lwc-run --help.");
  return options;
}

int UsableCores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

// TVM would take half of the cores of an x86 machine, and bind its threads to cores that this process may not use. The
// pool reads both when it starts, at the first kernel.
void PrepareThreads(int threads) {
  int cores = UsableCores();
  setenv("TVM_NUM_THREADS", std::to_string(threads ? threads : cores).c_str(), threads ? 1 : 0);
  if (static_cast<int>(std::thread::hardware_concurrency()) != cores) setenv("TVM_BIND_THREADS", "0", 0);
}

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Arrays of the inputs' fixed shapes cut from raw bytes; zeros where there are none.
std::vector<Array> FromBytes(const std::vector<Port>& ports, const std::string& path) {
  std::vector<char> bytes = path.empty() ? std::vector<char>() : ReadFile(path);
  std::vector<Array> arrays;
  size_t at = 0;
  for (const Port& port : ports) {
    if (std::count(port.shape.begin(), port.shape.end(), -1))
      throw Failure(kBadInput, "The input '" + port.name + "' has no fixed shape; give --input FILE.npz.");
    size_t size = SizeOf(port.dtype, port.shape);
    arrays.push_back({port.name, port.dtype, port.shape, std::vector<char>(size)});
    if (size <= bytes.size() - std::min(at, bytes.size()))
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), size, arrays.back().bytes.begin());
    at += size;
  }
  if (!path.empty() && at != bytes.size())
    throw Failure(kBadInput, "'" + path + "' has " + std::to_string(bytes.size()) + " bytes; the inputs have " +
                                 std::to_string(at) + ".");
  return arrays;
}

void Bench(Model* model, double seconds) {
  auto elapsed = [](Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); };
  for (auto start = Clock::now(); elapsed(start) < 0.1 * seconds;) model->Run();
  std::vector<double> times;
  for (auto start = Clock::now(); elapsed(start) < seconds;) {
    auto before = Clock::now();
    model->Run();
    times.push_back(1e3 * elapsed(before));
  }
  std::sort(times.begin(), times.end());
  std::printf("median %.4g ms, p90 %.4g ms, %zu runs, %s threads\n", times[times.size() / 2],
              times[times.size() * 9 / 10], times.size(), std::getenv("TVM_NUM_THREADS"));
}

void Main(const Options& options) {
  PrepareThreads(options.threads);
  AllowTiles();
  Model model(options.folder);
  bool archive = !EndsWith(options.input, ".bin") && !options.input.empty();
  model.Set(archive ? ReadNpz(options.input) : FromBytes(model.inputs(), options.input));
  model.Run();
  if (!options.output.empty()) WriteNpz(options.output, model.Outputs());
  if (options.bench_seconds > 0) Bench(&model, options.bench_seconds);
}

}  // namespace
}  // namespace lwc

int main(int count, char** arguments) {
  std::vector<std::string> given(arguments + 1, arguments + count);
  if (std::find(given.begin(), given.end(), "--help") != given.end()) {
    std::fputs(lwc::kUsageText, stdout);
    return 0;
  }
  try {
    lwc::Main(lwc::Parse(given));
    return 0;
  } catch (const lwc::Failure& failure) {
    std::fprintf(stderr, "Error: %s\n", failure.what());
    return failure.code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: lwc-run failed: %s\n", error.what());
    return lwc::kInternal;
  }
}
