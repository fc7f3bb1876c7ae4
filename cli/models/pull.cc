#include "cli/models/pull.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace idunno::models {
namespace {

namespace fs = std::filesystem;

/// An open file, closed at the end of its scope.
class OpenFile {
 public:
  OpenFile(const fs::path& path, int flags) : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }
  [[nodiscard]] bool ok() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

Error file_error(const std::string& doing, const fs::path& path) {
  const int code = errno;
  const Errc kind = code == ENOSPC || code == EDQUOT  ? Errc::full
                    : code == EACCES || code == EPERM ? Errc::forbidden
                                                      : Errc::internal;
  return Error{kind, doing + " " + path.string() + ": " + std::strerror(code)};
}

/// One transfer, as libcurl's callbacks see it.
struct Transfer {
  CURL* curl = nullptr;
  const PullRequest* request = nullptr;
  int file = -1;
  std::uint64_t have = 0;  ///< bytes in the part
  long status = 0;
  bool begun = false;  ///< the first byte of a body has been looked at
  bool oversize = false;
  int write_errno = 0;
};

/// Decides at the first byte of the body what the server sends: the rest of the file, all of it from the start, or an error page.
bool begin_body(Transfer& transfer) {
  transfer.begun = true;
  curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &transfer.status);
  if (transfer.status == 206 || transfer.have == 0 || transfer.status != 200) return true;
  if (::ftruncate(transfer.file, 0) != 0 || ::lseek(transfer.file, 0, SEEK_SET) != 0) {
    transfer.write_errno = errno;
    return false;
  }
  transfer.have = 0;
  return true;
}

std::size_t on_body(char* data, std::size_t one, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t bytes = one * count;
  if (!transfer.begun && !begin_body(transfer)) return 0;
  if (transfer.status != 200 && transfer.status != 206) return bytes;  // an error page: not for the file
  if (bytes > transfer.request->size - transfer.have) {
    transfer.oversize = true;
    return 0;
  }
  for (std::size_t written = 0; written < bytes;) {
    const ssize_t n = ::write(transfer.file, data + written, bytes - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      transfer.write_errno = errno;
      return 0;
    }
    written += static_cast<std::size_t>(n);
  }
  transfer.have += bytes;
  if (transfer.request->progress) transfer.request->progress(transfer.have);
  return bytes;
}

void set_options(CURL* curl, const PullRequest& request, Transfer& transfer, const std::string& range, char* error_text) {
  const bool secure = request.url.rfind("https://", 0) == 0;
  const long stall_s =
      std::max<long>(1, static_cast<long>(std::chrono::duration_cast<std::chrono::seconds>(request.stall_limit).count()));
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 8L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 15L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, stall_s);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "idunno/" IDUNNO_VERSION);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error_text);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  if (!range.empty()) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
}

enum class Verdict : std::uint8_t { complete, again, stop };
struct Attempt {
  Verdict verdict = Verdict::again;
  Error why;
  std::uint64_t have = 0;  ///< bytes in the part afterwards
};

bool worth_retrying(long status) { return status == 408 || status == 429 || status >= 500; }

Attempt judge(const Transfer& transfer, CURLcode code, const std::string& error_text) {
  const PullRequest& request = *transfer.request;
  const std::string doing = "downloading " + request.url + ": ";
  const auto result = [&](Verdict verdict, Errc kind, const std::string& why) {
    return Attempt{verdict, Error{kind, doing + why}, transfer.have};
  };
  if (transfer.oversize) {
    return result(Verdict::stop, Errc::too_large,
                  "the server sends more than the " + std::to_string(request.size) + " bytes that are pinned for this file");
  }
  if (transfer.write_errno != 0) {
    const bool full = transfer.write_errno == ENOSPC || transfer.write_errno == EDQUOT;
    return result(Verdict::stop, full ? Errc::full : Errc::internal,
                  "cannot write to " + request.folder.string() + ": " + std::strerror(transfer.write_errno));
  }
  if (code == CURLE_OK && transfer.status == 416)
    return result(Verdict::again, Errc::unavailable, "the server refused the range");
  if (code == CURLE_OK && (transfer.status == 404 || transfer.status == 410)) {
    return result(Verdict::stop, Errc::not_found, "the server has no such file (HTTP " + std::to_string(transfer.status) + ")");
  }
  if (code == CURLE_OK && transfer.status != 200 && transfer.status != 206) {
    return result(worth_retrying(transfer.status) ? Verdict::again : Verdict::stop, Errc::unavailable,
                  "the server answers HTTP " + std::to_string(transfer.status));
  }
  if (transfer.have == request.size) return result(Verdict::complete, Errc::internal, "");
  if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT) {
    return result(Verdict::stop, Errc::invalid, "not an address that can be fetched (https://... or http://...)");
  }
  const std::string why = code == CURLE_OK     ? "the connection ended early"
                          : error_text.empty() ? curl_easy_strerror(code)
                                               : error_text;
  return result(Verdict::again, Errc::unavailable,
                why + " (" + std::to_string(transfer.have) + " of " + std::to_string(request.size) + " bytes are here)");
}

/// One request for what is missing of the part.
Attempt fetch_rest(const PullRequest& request, int file) {
  const off_t end = ::lseek(file, 0, SEEK_END);
  Transfer transfer;
  transfer.request = &request;
  transfer.file = file;
  transfer.have = end > 0 ? static_cast<std::uint64_t>(end) : 0;
  if (transfer.have == request.size) return {Verdict::complete, {}, transfer.have};
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (curl == nullptr) return {Verdict::stop, Error{Errc::internal, "libcurl cannot be started"}, transfer.have};
  transfer.curl = curl.get();
  std::array<char, CURL_ERROR_SIZE> error_text{};
  const std::string range = transfer.have > 0 ? std::to_string(transfer.have) + "-" : "";
  set_options(curl.get(), request, transfer, range, error_text.data());
  const CURLcode code = curl_easy_perform(curl.get());
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &transfer.status);
  if (transfer.status == 416) {  // what is here cannot be gone on with
    if (::ftruncate(file, 0) == 0) transfer.have = 0;
  }
  return judge(transfer, code, error_text.data());
}

Status fetch_with_retries(const PullRequest& request, int file) {
  std::uint64_t best = 0;
  std::uint32_t idle = 0;
  Duration pause = request.first_pause;
  for (std::uint32_t attempt = 1;; ++attempt) {
    const Attempt result = fetch_rest(request, file);
    if (result.verdict == Verdict::complete) return {};
    if (result.verdict == Verdict::stop) return result.why;
    idle = result.have > best ? 0 : idle + 1;
    if (idle == 0) pause = request.first_pause;
    best = std::max(best, result.have);
    if (idle >= request.idle_attempts_max || attempt >= request.attempts_max) {
      return Error{Errc::unavailable, result.why.detail + "; given up after " + std::to_string(attempt) + " attempts"};
    }
    std::this_thread::sleep_for(pause);
    pause = std::min<Duration>(pause * 2, request.first_pause * 16);
  }
}

Status verify(const PullRequest& request, const fs::path& file) {
  const auto digest = sha256_of_file(file);
  if (!digest) return digest.error();
  if (*digest == request.sha256) return {};
  return Error{Errc::damaged,
               request.url + " is not the file that was pinned: its SHA-256 is " + *digest + ", expected " + request.sha256};
}

Status finish(const fs::path& part, const fs::path& target, int file) {
  if (::fsync(file) != 0) return file_error("syncing", part);
  if (::rename(part.c_str(), target.c_str()) != 0) return file_error("renaming", part);
  const OpenFile folder(target.parent_path(), O_RDONLY | O_DIRECTORY);
  if (!folder.ok() || ::fsync(folder.get()) != 0) return file_error("syncing", target.parent_path());
  return {};
}

}  // namespace

fs::path default_cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') return fs::path(cache) / "idunno";
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr && *home != '\0' ? home : "/tmp") / ".cache" / "idunno";
}

Result<std::string> sha256_of_file(const fs::path& file) {
  if (sodium_init() < 0) return Error{Errc::internal, "libsodium cannot be started"};
  std::ifstream in(file, std::ios::binary);
  if (!in) return Error{Errc::not_found, "cannot read " + file.string()};
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  std::vector<char> buffer(1U << 20U);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), in.gcount() > 0) {
    crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(buffer.data()),
                              static_cast<std::size_t>(in.gcount()));
  }
  if (in.bad()) return Error{Errc::internal, "reading " + file.string() + " failed"};
  std::array<unsigned char, crypto_hash_sha256_BYTES> digest{};
  crypto_hash_sha256_final(&state, digest.data());
  std::array<char, 2 * crypto_hash_sha256_BYTES + 1> text{};
  sodium_bin2hex(text.data(), text.size(), digest.data(), digest.size());
  return std::string(text.data());
}

Result<fs::path> pull_file(const PullRequest& request) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) return Error{Errc::internal, "libcurl cannot be started"};
  std::error_code error;
  fs::create_directories(request.folder, error);
  if (error) return Error{Errc::forbidden, "cannot make the folder " + request.folder.string() + ": " + error.message()};
  const fs::path target = request.folder / request.file_name;
  if (fs::exists(target, error) && fs::file_size(target, error) == request.size && verify(request, target)) return target;

  fs::path part = target;
  part += ".part";
  const OpenFile file(part, O_RDWR | O_CREAT);
  if (!file.ok()) return file_error("opening", part);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{Errc::conflict, "another process is downloading " + request.file_name + " (" + part.string() + ")"};
  }
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  if (size > 0 && static_cast<std::uint64_t>(size) > request.size && ::ftruncate(file.get(), 0) != 0)
    return file_error("emptying", part);
  if (Status fetched = fetch_with_retries(request, file.get()); !fetched) {
    const bool useless = fetched.error().code == Errc::too_large || ::lseek(file.get(), 0, SEEK_END) == 0;
    if (useless) fs::remove(part, error);
    return fetched.error();
  }
  if (Status right = verify(request, part); !right) {
    fs::remove(part, error);
    return Error{right.error().code, right.error().detail + "; the download was removed"};
  }
  if (Status done = finish(part, target, file.get()); !done) return done.error();
  return target;
}

}  // namespace idunno::models
