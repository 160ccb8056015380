#include "processor.h"

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

namespace lwc {

#if defined(__x86_64__)

const char kArchitecture[] = "x86_64";

static std::set<std::string> Flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && line.rfind("flags", 0) != 0) {
  }
  std::istringstream words(line);
  std::set<std::string> flags;
  for (std::string word; words >> word;) flags.insert(word);
  return flags;
}

void AllowTiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  syscall(SYS_arch_prctl, kRequestPermission, kTileData);
}

#elif defined(__aarch64__)

const char kArchitecture[] = "aarch64";

static std::set<std::string> Flags() {
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProducts) ? std::set<std::string>{"asimddp"} : std::set<std::string>{};
}

void AllowTiles() {}

#else
#error "lwc-run knows x86_64 and aarch64."
#endif

std::vector<std::string> Lacking(const std::vector<std::string>& flags) {
  std::set<std::string> present = Flags();
  std::vector<std::string> lacking;
  for (const std::string& flag : flags)
    if (present.count(flag) == 0) lacking.push_back(flag);
  return lacking;
}

}  // namespace lwc
