#include "nodes/worker/onnx_summary.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace idunno {
namespace {

constexpr std::size_t kNodesMax = 1U << 20U;

/// Walks the fields of one protobuf message. Ends at the end of the bytes or, with ok() false, at the first that is malformed.
class Fields {
 public:
  explicit Fields(ByteView bytes) : rest_(bytes) {}

  bool next() {
    if (rest_.empty() || !ok_) return false;
    bytes_ = {};
    std::uint64_t tag = 0;
    if (!varint(tag)) return false;
    number_ = static_cast<std::uint32_t>(tag >> 3U);
    switch (tag & 7U) {
      case 0:
        return varint(value_);
      case 1:
        return take(8);
      case 2:
        return varint(value_) && take(value_);
      case 5:
        return take(4);
      default:
        return ok_ = false;
    }
  }
  [[nodiscard]] std::uint32_t number() const { return number_; }
  [[nodiscard]] std::uint64_t value() const { return value_; }
  [[nodiscard]] ByteView bytes() const { return bytes_; }
  [[nodiscard]] std::string text() const { return std::string(bytes_); }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  bool varint(std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return ok_ = false;
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) return true;
    }
    return ok_ = false;
  }
  bool take(std::uint64_t count) {
    if (count > rest_.size()) return ok_ = false;
    bytes_ = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return true;
  }

  ByteView rest_;
  ByteView bytes_;
  std::uint64_t value_ = 0;
  std::uint32_t number_ = 0;
  bool ok_ = true;
};

/// The field `number` of a message, the last one when it is repeated; empty when absent.
ByteView submessage(ByteView message, std::uint32_t number) {
  ByteView found;
  for (Fields field(message); field.next();) {
    if (field.number() == number) found = field.bytes();
  }
  return found;
}

OnnxTensor value_info(ByteView message) {
  OnnxTensor tensor;
  tensor.name = std::string(submessage(message, 1));
  const ByteView shape = submessage(submessage(submessage(message, 2), 1), 2);  // type, tensor_type, shape
  for (Fields dimension(shape); dimension.next();) {
    if (dimension.number() != 1) continue;
    std::string text = "?";
    for (Fields field(dimension.bytes()); field.next();) {
      if (field.number() == 1) text = fmt::format("{}", field.value());
      if (field.number() == 2 && !field.bytes().empty()) text = field.text();
    }
    tensor.shape.push_back(std::move(text));
  }
  return tensor;
}

OnnxNode node_of(ByteView message) {
  OnnxNode node;
  for (Fields field(message); field.next();) {
    if (field.number() == 2) node.outputs.push_back(field.text());
    if (field.number() == 3) node.name = field.text();
    if (field.number() == 4) node.op_type = field.text();
  }
  return node;
}

/// Name and number of elements of a TensorProto.
std::string initializer(ByteView message, std::uint64_t& elements) {
  std::string name;
  std::uint64_t count = 1;
  for (Fields field(message); field.next();) {
    if (field.number() == 8) name = field.text();
    if (field.number() != 1) continue;
    if (field.bytes().empty()) {
      count *= field.value();
      continue;
    }
    ByteView packed = field.bytes();
    while (!packed.empty()) {
      std::uint64_t value = 0;
      for (unsigned shift = 0; shift < 64 && !packed.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(packed.front());
        packed.remove_prefix(1);
        value |= std::uint64_t{byte & 0x7fU} << shift;
        if (byte < 0x80) break;
      }
      count *= value;
    }
  }
  elements += count;
  return name;
}

Status read_graph(ByteView graph, OnnxSummary& summary) {
  std::set<std::string> weights;
  Fields field(graph);
  while (field.next()) {
    switch (field.number()) {
      case 1:
        summary.nodes.push_back(node_of(field.bytes()));
        break;
      case 5:
        weights.insert(initializer(field.bytes(), summary.parameters));
        break;
      case 11:
        summary.inputs.push_back(value_info(field.bytes()));
        break;
      case 12:
        summary.outputs.push_back(value_info(field.bytes()));
        break;
      default:
        break;
    }
    if (summary.nodes.size() > kNodesMax)
      return Error{Errc::too_large, fmt::format("the graph has more than {} nodes", kNodesMax)};
  }
  if (!field.ok()) return Error{Errc::invalid, "not an ONNX file, or a damaged one"};
  std::erase_if(summary.inputs, [&](const OnnxTensor& input) { return weights.contains(input.name); });
  return {};
}

/// A file mapped for reading, so that weights of hundreds of megabytes are stepped over and never copied.
class MappedFile {
 public:
  explicit MappedFile(const std::string& file) : fd_(open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat status {};
    if (fd_ < 0 || fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) return;
    readable_ = true;
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ != 0) memory_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
  }
  ~MappedFile() {
    if (memory_ != MAP_FAILED) munmap(memory_, size_);
    if (fd_ >= 0) close(fd_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  [[nodiscard]] bool readable() const { return readable_ && (size_ == 0 || memory_ != MAP_FAILED); }
  [[nodiscard]] ByteView view() const { return size_ == 0 ? ByteView() : ByteView(static_cast<const char*>(memory_), size_); }

 private:
  int fd_;
  bool readable_ = false;
  std::size_t size_ = 0;
  void* memory_ = MAP_FAILED;
};

}  // namespace

std::string OnnxSummary::producer_of(const std::string& output) const {
  for (const OnnxNode& node : nodes) {
    if (std::find(node.outputs.begin(), node.outputs.end(), output) != node.outputs.end()) return node.name;
  }
  return {};
}

Result<OnnxSummary> parse_onnx_summary(ByteView bytes) {
  OnnxSummary summary;
  summary.file_bytes = bytes.size();
  ByteView graph;
  Fields field(bytes);
  while (field.next()) {
    if (field.number() == 7) graph = field.bytes();  // ModelProto.graph
  }
  if (!field.ok() || graph.empty()) return Error{Errc::invalid, "not an ONNX file, or a damaged one"};
  if (const Status status = read_graph(graph, summary); !status) return status.error();
  return summary;
}

Result<OnnxSummary> read_onnx_summary(const std::string& file) {
  const MappedFile mapped(file);
  if (!mapped.readable()) return Error{Errc::not_found, fmt::format("cannot read {}: {}", file, std::strerror(errno))};
  return parse_onnx_summary(mapped.view());
}

std::string join_names(const std::vector<OnnxTensor>& tensors) {
  std::string text;
  for (const OnnxTensor& tensor : tensors) text += (text.empty() ? "" : ", ") + tensor.name;
  return text;
}

}  // namespace idunno
