#pragma once
/// Who may talk: CURVE key pairs, the list of admitted public keys with a role each, key files, and the ZAP handler that libzmq
/// asks at every handshake (ZeroMQ RFC 27). There is no insecure mode.
///
/// Files: `admitted.toml` (public, [[key]] name, role, public) and `<name>.key` (secret, mode 0600, refused when looser). Secrets
/// are never in argv or the environment.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/result.h"
#include "bus/messages.h"

namespace idunno {

/// Z85 text, 40 characters each.
struct KeyPair {
  std::string name;
  Role role = Role::none;
  std::string public_key;
  std::string secret_key;
};

struct AdmittedKey {
  std::string name;  ///< "n1", "admin", "alice"; unique
  Role role = Role::none;
  std::string public_key;
  bool operator==(const AdmittedKey&) const = default;
};

[[nodiscard]] std::string to_string(Role role);  ///< "node", "admin", "submit", "read", "none"
[[nodiscard]] std::optional<Role> role_from_string(std::string_view text);

/// Whether a key with role `has` may send messages that ask for `needs`. node may send everything but admin's own commands come
/// from admin or node alike: node > admin > submit > read for requests of clients; only node may send node messages.
[[nodiscard]] bool role_allows(Role has, Role needs);

[[nodiscard]] Result<KeyPair> generate_key_pair(std::string name, Role role);
/// Writes <dir>/<name>.key, 0600, synced; never overwrites (conflict).
[[nodiscard]] Status save_secret_key(const std::filesystem::path& dir, const KeyPair& keys);
/// forbidden when others may read the file; invalid when malformed; not_found.
[[nodiscard]] Result<KeyPair> load_secret_key(const std::filesystem::path& file);

class AdmittedKeys {
 public:
  [[nodiscard]] static Result<AdmittedKeys> load(const std::filesystem::path& file);
  [[nodiscard]] Status save(const std::filesystem::path& file) const;  ///< atomically
  [[nodiscard]] Status add(AdmittedKey key);                           ///< conflict when name or key is taken
  [[nodiscard]] Status remove(std::string_view name);                  ///< not_found
  [[nodiscard]] const AdmittedKey* by_name(std::string_view name) const;
  [[nodiscard]] const AdmittedKey* by_public_key(std::string_view z85) const;
  [[nodiscard]] const std::vector<AdmittedKey>& keys() const { return keys_; }

 private:
  std::vector<AdmittedKey> keys_;
};

class ZmqContext;

/// Answers libzmq's questions on inproc://zeromq.zap.01 from its own thread. Make it before any server socket of the context.
/// User-Id is "<role>:<name>". The list may be replaced while it runs (`idunno keys add|revoke`, on SIGHUP).
class ZapHandler {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ZapHandler>> start(ZmqContext& context, AdmittedKeys admitted);
  ~ZapHandler();
  void replace(AdmittedKeys admitted);          ///< any thread
  [[nodiscard]] std::uint64_t refused() const;  ///< handshakes refused so far; any thread

 private:
  ZapHandler();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno
