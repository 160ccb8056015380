// ZIP: APPNOTE.TXT 6.3, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end), 4.5.3 (ZIP64).
// NPY: numpy.lib.format. All numbers are little-endian, as are the machines that this runs on.
#include "npz.h"

#include <array>
#include <cstring>
#include <fstream>
#include <map>

#include "failure.h"

namespace lwc {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50;
constexpr uint32_t kFull32 = 0xffffffff;
constexpr uint16_t kZip64 = 1;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kLocator64Bytes = 20, kCommentBytes = 65535;

// numpy's letters for types; void of two bytes is how ml_dtypes writes bfloat16.
const std::map<std::string, std::string>& TypeNames() {
  static const std::map<std::string, std::string> names = {
      {"b1", "bool"},   {"i1", "int8"},   {"u1", "uint8"},   {"i2", "int16"},   {"u2", "uint16"},
      {"f2", "float16"}, {"i4", "int32"}, {"u4", "uint32"},  {"f4", "float32"}, {"i8", "int64"},
      {"u8", "uint64"}, {"f8", "float64"}, {"V2", "bfloat16"},
  };
  return names;
}

class Reader {
 public:
  Reader(const std::string& path, std::vector<char> bytes) : path_(path), bytes_(std::move(bytes)) {}

  template <typename T>
  T Number(size_t offset) const {
    T value;
    std::memcpy(&value, At(offset, sizeof(T)), sizeof(T));
    return value;
  }

  std::string Text(size_t offset, size_t length) const { return std::string(At(offset, length), length); }

  const char* At(size_t offset, size_t length) const {
    if (offset > bytes_.size() || length > bytes_.size() - offset) Fail("it ends too early");
    return bytes_.data() + offset;
  }

  size_t size() const { return bytes_.size(); }

  [[noreturn]] void Fail(const std::string& reason) const {
    throw Failure(kBadInput, "'" + path_ + "' cannot be read as .npz (" + reason + ").");
  }

 private:
  std::string path_;
  std::vector<char> bytes_;
};

struct Entry {
  std::string name;
  uint64_t offset, size;  // of its content
};

struct Directory {
  uint64_t offset, count;
};

Directory FindDirectory(const Reader& file) {
  if (file.size() < kEndBytes) file.Fail("it is no ZIP archive");
  size_t last = file.size() - kEndBytes;
  size_t first = last > kCommentBytes ? last - kCommentBytes : 0;
  size_t end = last;
  auto is_end = [&](size_t at) {  // what follows is the comment alone
    return file.Number<uint32_t>(at) == kEnd && file.Number<uint16_t>(at + 20) == last - at;
  };
  while (!is_end(end)) {
    if (end == first) file.Fail("it is no ZIP archive");
    --end;
  }
  Directory found{file.Number<uint32_t>(end + 16), file.Number<uint16_t>(end + 10)};
  if (found.offset == kFull32 || found.count == 0xffff) {
    if (end < kLocator64Bytes) file.Fail("its directory is damaged");
    uint64_t end64 = file.Number<uint64_t>(end - kLocator64Bytes + 8);
    if (file.Number<uint32_t>(end64) != kEnd64) file.Fail("its directory is damaged");
    found = {file.Number<uint64_t>(end64 + 48), file.Number<uint64_t>(end64 + 32)};
  }
  return found;
}

// Sizes and offset that do not fit in 32 bits follow in an extra field, in this order, each only where it is needed.
void ReadZip64(const Reader& file, size_t extra, size_t length, uint64_t* full, uint64_t* stored, uint64_t* offset) {
  for (size_t at = extra; at + 4 <= extra + length; at += 4 + file.Number<uint16_t>(at + 2)) {
    if (file.Number<uint16_t>(at) != kZip64) continue;
    size_t next = at + 4;
    for (uint64_t* value : {full, stored, offset}) {
      if (*value != kFull32) continue;
      *value = file.Number<uint64_t>(next);
      next += 8;
    }
  }
}

std::vector<Entry> ListEntries(const Reader& file) {
  Directory directory = FindDirectory(file);
  std::vector<Entry> entries;
  size_t at = directory.offset;
  for (uint64_t k = 0; k < directory.count; ++k) {
    if (file.Number<uint32_t>(at) != kCentral) file.Fail("its directory is damaged");
    uint16_t method = file.Number<uint16_t>(at + 10);
    uint64_t stored = file.Number<uint32_t>(at + 20), full = file.Number<uint32_t>(at + 24);
    uint16_t name = file.Number<uint16_t>(at + 28), extra = file.Number<uint16_t>(at + 30);
    uint16_t comment = file.Number<uint16_t>(at + 32);
    uint64_t local = file.Number<uint32_t>(at + 42);
    ReadZip64(file, at + kCentralBytes + name, extra, &full, &stored, &local);
    if (method != 0) file.Fail("it is compressed; write it with numpy.savez, not savez_compressed");
    if (file.Number<uint32_t>(local) != kLocal) file.Fail("an entry is damaged");
    uint64_t content = local + kLocalBytes + file.Number<uint16_t>(local + 26) + file.Number<uint16_t>(local + 28);
    entries.push_back({file.Text(at + kCentralBytes, name), content, full});
    at += kCentralBytes + name + extra + comment;
  }
  return entries;
}

// What stands behind a key in the header of an .npy, which is the text of a dictionary of Python's.
std::string ValueOf(const Reader& file, const std::string& header, const std::string& key) {
  size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) file.Fail("an array has no '" + key + "'");
  return header.substr(header.find_first_not_of(' ', at + key.size() + 3));
}

std::string TypeOf(const Reader& file, const std::string& descr) {
  if (descr.size() < 5 || descr[0] != '\'') file.Fail("an array has fields");
  std::string letters = descr.substr(1, descr.find('\'', 1) - 1);
  auto found = TypeNames().find(letters.substr(1));
  if (letters[0] == '>' || found == TypeNames().end()) file.Fail("an array is of type '" + letters + "'");
  return found->second;
}

std::vector<int64_t> ShapeOf(const Reader& file, const std::string& text) {
  std::vector<int64_t> shape;
  size_t end = text.find(')');
  if (text.empty() || text[0] != '(' || end == std::string::npos) file.Fail("an array has no shape");
  for (size_t at = 1; at < end;) {
    size_t digit = text.find_first_of("0123456789", at);
    if (digit >= end) break;
    shape.push_back(std::stoll(text.substr(digit)));
    at = text.find_first_not_of("0123456789", digit);
  }
  return shape;
}

Array ReadNpy(const Reader& file, const Entry& entry) {
  if (entry.size < 10 || file.Text(entry.offset, 6) != "\x93NUMPY") file.Fail("'" + entry.name + "' is no array");
  bool wide = file.Number<uint8_t>(entry.offset + 6) > 1;
  size_t start = entry.offset + (wide ? 12 : 10);
  size_t length = wide ? file.Number<uint32_t>(entry.offset + 8) : file.Number<uint16_t>(entry.offset + 8);
  std::string header = file.Text(start, length);
  Array array;
  array.name = entry.name.substr(0, entry.name.rfind(".npy"));
  array.dtype = TypeOf(file, ValueOf(file, header, "descr"));
  array.shape = ShapeOf(file, ValueOf(file, header, "shape"));
  bool fortran = ValueOf(file, header, "fortran_order").rfind("True", 0) == 0;
  if (fortran && array.shape.size() > 1) file.Fail("'" + array.name + "' is in Fortran order");
  size_t size = SizeOf(array.dtype, array.shape);
  const char* data = file.At(start + length, size);
  array.bytes.assign(data, data + size);
  return array;
}

uint32_t Crc32(const std::string& bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t k = 0; k < 256; ++k) {
      uint32_t value = k;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xedb88320u : 0);
      made[k] = value;
    }
    return made;
  }();
  uint32_t crc = ~0u;
  for (unsigned char byte : bytes) crc = (crc >> 8) ^ table[(crc ^ byte) & 0xff];
  return ~crc;
}

template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::string NpyOf(const Array& array) {
  std::string letters;
  for (const auto& [key, name] : TypeNames())
    if (name == array.dtype) letters = key;
  std::string shape;
  for (int64_t dim : array.shape) shape += std::to_string(dim) + ",";
  std::string order = ItemBytes(array.dtype) > 1 ? "<" : "|";
  std::string header =
      "{'descr': '" + order + letters + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ').append("\n");
  std::string out("\x93NUMPY\x01\x00", 8);
  Append<uint16_t>(&out, static_cast<uint16_t>(header.size()));
  return out.append(header).append(array.bytes.data(), array.bytes.size());
}

// Fields that a local header and an entry of the directory share: version 2.0, stored, the oldest date.
std::string Common(uint32_t crc, uint32_t size, uint16_t name) {
  std::string out;
  for (uint16_t field : {20, 0, 0, 0, 0x21}) Append<uint16_t>(&out, field);
  for (uint32_t field : {crc, size, size}) Append<uint32_t>(&out, field);
  Append<uint16_t>(&out, name);
  Append<uint16_t>(&out, 0);
  return out;
}

}  // namespace

std::vector<char> ReadFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  if (!stream) throw Failure(kBadInput, "'" + path + "' cannot be opened.");
  std::vector<char> bytes(static_cast<size_t>(stream.tellg()));
  stream.seekg(0);
  if (!stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw Failure(kBadInput, "'" + path + "' cannot be read.");
  return bytes;
}

std::vector<Array> ReadNpz(const std::string& path) {
  Reader file(path, ReadFile(path));
  std::vector<Array> arrays;
  for (const Entry& entry : ListEntries(file)) arrays.push_back(ReadNpy(file, entry));
  return arrays;
}

void WriteNpz(const std::string& path, const std::vector<Array>& arrays) {
  std::string file, directory;
  for (const Array& array : arrays) {
    std::string content = NpyOf(array), name = array.name + ".npy";
    if (file.size() + content.size() > kFull32) throw Failure(kBadInput, "The outputs have more than 4 GB.");
    auto offset = static_cast<uint32_t>(file.size());
    std::string common = Common(Crc32(content), static_cast<uint32_t>(content.size()), name.size());
    Append<uint32_t>(&file, kLocal);
    file.append(common).append(name).append(content);
    Append<uint32_t>(&directory, kCentral);
    Append<uint16_t>(&directory, 20);
    directory.append(common).append(10, '\0');
    Append<uint32_t>(&directory, offset);
    directory.append(name);
  }
  auto start = static_cast<uint32_t>(file.size());
  file.append(directory);
  Append<uint32_t>(&file, kEnd);
  Append<uint32_t>(&file, 0);
  for (int k = 0; k < 2; ++k) Append<uint16_t>(&file, static_cast<uint16_t>(arrays.size()));
  Append<uint32_t>(&file, static_cast<uint32_t>(directory.size()));
  Append<uint32_t>(&file, start);
  Append<uint16_t>(&file, 0);
  std::ofstream stream(path, std::ios::binary);
  if (!stream.write(file.data(), static_cast<std::streamsize>(file.size())).flush())
    throw Failure(kBadInput, "'" + path + "' cannot be written.");
}

}  // namespace lwc
