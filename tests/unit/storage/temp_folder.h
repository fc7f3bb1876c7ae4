#pragma once
/// A folder under /tmp (or TMPDIR) that is gone again at the end of the test.

#include <cstdlib>
#include <filesystem>
#include <string>

namespace idunno {

class TempFolder {
 public:
  /// With `in_memory` on a file system in memory where there is one: for tests that open hundreds of stores.
  explicit TempFolder(bool in_memory = false) {
    const std::filesystem::path shared = "/dev/shm";
    std::error_code error;
    const bool room = in_memory && std::filesystem::space(shared, error).available > (128ULL << 20U) && !error;
    std::string name = ((room ? shared : std::filesystem::temp_directory_path()) / "idunno-storage-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace idunno
