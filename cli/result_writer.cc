#include "cli/result_writer.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "cli/text.h"

namespace idunno::cli {

namespace {

/// Calls `each` with every line, parsed.
Status parse_rows(std::string_view lines, const std::function<Status(const Json&)>& each) {
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    const Json row = Json::parse(lines.substr(0, end), nullptr, false);
    if (!row.is_object())
      return Error{Errc::damaged,
                   fmt::format("a result row is not a JSON object: {}", lines.substr(0, std::min<std::size_t>(end, 80)))};
    if (auto status = each(row); !status) return status;
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return {};
}

class JsonLinesWriter : public ResultWriter {
 public:
  explicit JsonLinesWriter(Out out) : out_(std::move(out)) {}
  Status rows(std::string_view lines) override { return out_(lines); }

 private:
  Out out_;
};

class CsvWriter : public ResultWriter {
 public:
  explicit CsvWriter(Out out) : out_(std::move(out)) {}

  Status rows(std::string_view lines) override {
    std::string text;
    if (!header_) {
      // All rows of a job have the same shape; rows with errors have none, so look at the first that has.
      auto seen = parse_rows(lines, [this](const Json& row) {
        if (tops_ == 0 && row.contains("top") && row["top"].is_array()) tops_ = row["top"].size();
        if (values_ == 0 && row.contains("data") && row["data"].is_array()) values_ = row["data"].size();
        return Status();
      });
      if (!seen) return seen;
      static constexpr std::size_t kTopsUnknown = 5;
      if (tops_ == 0 && values_ == 0) tops_ = kTopsUnknown;
      text += "index,query,error";
      for (std::size_t i = 1; i <= tops_; ++i) text += fmt::format(",label_{},class_{},p_{}", i, i, i);
      for (std::size_t i = 1; i <= values_; ++i) text += fmt::format(",value_{}", i);
      text += "\n";
      header_ = true;
    }
    auto status = parse_rows(lines, [&](const Json& row) {
      const auto field = [](const Json& object, const char* name) {
        return object.contains(name) ? csv_field(object[name]) : std::string();
      };
      text += field(row, "index") + "," + field(row, "query") + "," + field(row, "error");
      const Json none = Json::array();
      const Json& top = row.contains("top") ? row["top"] : none;
      for (std::size_t i = 0; i < tops_; ++i) {
        text += i < top.size() ? "," + field(top[i], "label") + "," + field(top[i], "index") + "," + field(top[i], "p") : ",,,";
      }
      const Json& data = row.contains("data") ? row["data"] : none;
      for (std::size_t i = 0; i < values_; ++i) text += "," + (i < data.size() ? csv_field(data[i]) : "");
      text += "\n";
      return Status();
    });
    if (!status) return status;
    return out_(text);
  }

 private:
  Out out_;
  bool header_ = false;
  std::size_t tops_ = 0;
  std::size_t values_ = 0;
};

/// float32, C order, shape (queries, shape of one row...); rows with errors are NaN. Format: numpy.lib.format, version 1.0.
class NumpyWriter : public ResultWriter {
 public:
  NumpyWriter(std::uint64_t queries, Out out) : queries_(queries), out_(std::move(out)) {}

  Status rows(std::string_view lines) override {
    std::string bytes;
    auto status = parse_rows(lines, [&](const Json& row) {
      ++written_;
      if (!row.contains("data")) {
        if (row.contains("error")) {
          if (shape_) {
            append_nan(bytes, 1);
          } else {
            ++nan_rows_first_;
          }
          return Status();
        }
        return Status(
            Error{Errc::invalid, "a .npy file needs a model whose output kind is \"tensor\"; use .jsonl or .csv for labels"});
      }
      if (!shape_) start(row, bytes);
      if (row["data"].size() != values_) return Status(Error{Errc::damaged, "rows of one job differ in their number of values"});
      for (const Json& value : row["data"]) {
        append(bytes, value.is_number() ? value.get<float>() : std::numeric_limits<float>::quiet_NaN());
      }
      return Status();
    });
    if (!status) return status;
    return out_(bytes);
  }

  Status finish() override {
    if (written_ != queries_)
      return Error{Errc::conflict,
                   fmt::format("{} of {} rows are there; a .npy file is written of a complete job", written_, queries_)};
    if (!shape_) return Error{Errc::invalid, "no row holds numbers: all have errors"};
    return {};
  }

 private:
  static void append(std::string& bytes, float value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);  // little endian, as on every machine this is built for
    bytes.append(raw, sizeof raw);
  }
  void append_nan(std::string& bytes, std::uint64_t rows) const {
    for (std::uint64_t i = 0; i < rows * values_; ++i) append(bytes, std::numeric_limits<float>::quiet_NaN());
  }
  void start(const Json& row, std::string& bytes) {
    values_ = row["data"].size();
    std::string dims;
    std::uint64_t product = 1;
    if (row.contains("shape") && row["shape"].is_array()) {
      for (const Json& dim : row["shape"]) {
        if (!dim.is_number_unsigned()) continue;
        dims += fmt::format(" {},", dim.get<std::uint64_t>());
        product *= dim.get<std::uint64_t>();
      }
    }
    if (product != values_) dims = fmt::format(" {},", values_);
    std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},{}), }}", queries_, dims);
    static constexpr std::size_t kAlign = 64;
    static constexpr std::size_t kPreamble = 10;
    header.resize((kPreamble + header.size() + kAlign) / kAlign * kAlign - kPreamble, ' ');
    header.back() = '\n';
    bytes += std::string("\x93NUMPY\x01\x00", 8);
    bytes += static_cast<char>(header.size() & 0xFFU);
    bytes += static_cast<char>((header.size() >> 8U) & 0xFFU);
    bytes += header;
    shape_ = true;
    append_nan(bytes, nan_rows_first_);
  }

  std::uint64_t queries_;
  Out out_;
  bool shape_ = false;
  std::uint64_t values_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t nan_rows_first_ = 0;  ///< error rows before the first that tells the shape
};

}  // namespace

Result<ResultFormat> result_format_of(const std::string& file) {
  const std::string ending = std::filesystem::path(file).extension().string();
  if (ending == ".jsonl" || ending == ".json" || ending == ".ndjson") return ResultFormat::jsonl;
  if (ending == ".csv") return ResultFormat::csv;
  if (ending == ".npy") return ResultFormat::npy;
  return Error{Errc::invalid, fmt::format("{}: the name must end in .jsonl, .csv or .npy", file)};
}

std::unique_ptr<ResultWriter> make_result_writer(ResultFormat format, std::uint64_t queries, ResultWriter::Out out) {
  switch (format) {
    case ResultFormat::jsonl:
      return std::make_unique<JsonLinesWriter>(std::move(out));
    case ResultFormat::csv:
      return std::make_unique<CsvWriter>(std::move(out));
    case ResultFormat::npy:
      return std::make_unique<NumpyWriter>(queries, std::move(out));
  }
  return nullptr;
}

Result<std::unique_ptr<AtomicFile>> AtomicFile::create(const std::filesystem::path& file) {
  std::unique_ptr<AtomicFile> out(new AtomicFile());
  out->file_ = file;
  out->fresh_ = fmt::format("{}.part-{}", file.string(), getpid());
  out->stream_ = std::fopen(out->fresh_.c_str(), "wbx");
  if (out->stream_ == nullptr) return Error{Errc::invalid, fmt::format("writing {}: {}", file.string(), std::strerror(errno))};
  return out;
}

AtomicFile::~AtomicFile() {
  if (stream_ == nullptr) return;
  std::fclose(stream_);
  unlink(fresh_.c_str());
}

Status AtomicFile::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stream_) == bytes.size()) return {};
  return Error{Errc::full, fmt::format("writing {}: {}", file_.string(), std::strerror(errno))};
}

Status AtomicFile::commit() {
  std::FILE* stream = std::exchange(stream_, nullptr);
  const bool written = std::fflush(stream) == 0 && fsync(fileno(stream)) == 0;
  const int why = errno;
  std::fclose(stream);
  if (written && std::rename(fresh_.c_str(), file_.c_str()) == 0) return {};
  const Error error{Errc::full, fmt::format("writing {}: {}", file_.string(), std::strerror(written ? errno : why))};
  unlink(fresh_.c_str());
  return error;
}

}  // namespace idunno::cli
