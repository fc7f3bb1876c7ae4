#include "bus/security.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "bus/files.h"
#include "bus/strict_toml.h"

namespace idunno {
namespace {

constexpr std::size_t kZ85Chars = 40;
constexpr std::size_t kKeyNameMax = 64;
constexpr unsigned kSecretMode = 0600;
constexpr unsigned kPublicMode = 0644;

/// Names become file names and parts of log lines.
bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kKeyNameMax || name.front() == '.' || name.front() == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

bool valid_z85(const std::string& text) {
  std::array<std::uint8_t, 32> key{};
  return text.size() == kZ85Chars && zmq_z85_decode(key.data(), text.c_str()) != nullptr;
}

Error bad_name(std::string_view name) {
  return Error{Errc::invalid,
               fmt::format("\"{}\" is no name for a key: 1 to {} letters, digits, '-', '_' or '.'", name, kKeyNameMax)};
}

/// Role and public key of one table, the checks included.
void read_key(TomlTable& table, std::string& name, Role& role, std::string& public_key) {
  std::string role_text;
  for (const char* key : {"name", "role", "public"}) table.require(key);
  table.get("name", name);
  table.get("role", role_text);
  table.get("public", public_key);
  const auto found = role_from_string(role_text);
  if (!found || *found == Role::none)
    table.fail("role", fmt::format("\"{}\" is no role; one of node, admin, submit, read", role_text));
  if (!valid_name(name)) table.fail("name", bad_name(name).detail);
  if (!valid_z85(public_key)) table.fail("public", "\"public\" is no Z85 key of 40 characters");
  role = found.value_or(Role::none);
}

/// The file's text, when nobody but its owner can read it.
Result<std::string> read_private_file(const std::filesystem::path& file) {
  const std::string doing = "read the key " + file.string();
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const Errc code = errno == ENOENT || errno == ENOTDIR ? Errc::not_found : errno == EACCES ? Errc::forbidden : Errc::internal;
    return Error{code, doing + ": " + std::strerror(errno)};
  }
  std::string text(16384, '\0');
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  const ssize_t size = known && S_ISREG(info.st_mode) ? ::read(fd, text.data(), text.size()) : -1;
  ::close(fd);
  if (size < 0) return Error{Errc::invalid, doing + ": not a readable file"};
  if ((info.st_mode & 077U) != 0) {
    return Error{Errc::forbidden,
                 fmt::format("{}: others may read it (mode {:04o}); treat it as lost and make a new one, or run chmod 600 {}",
                             doing, info.st_mode & 07777U, file.string())};
  }
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace

std::string to_string(Role role) {
  switch (role) {
    case Role::none:
      return "none";
    case Role::read:
      return "read";
    case Role::submit:
      return "submit";
    case Role::admin:
      return "admin";
    case Role::node:
      return "node";
  }
  return "none";
}

std::optional<Role> role_from_string(std::string_view text) {
  for (const Role role : {Role::none, Role::read, Role::submit, Role::admin, Role::node}) {
    if (text == to_string(role)) return role;
  }
  return std::nullopt;
}

bool role_allows(Role has, Role needs) { return has != Role::none && has >= needs; }

Result<KeyPair> generate_key_pair(std::string name, Role role) {
  if (!valid_name(name)) return bad_name(name);
  std::array<char, kZ85Chars + 1> public_key{};
  std::array<char, kZ85Chars + 1> secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0) {
    return Error{Errc::internal, fmt::format("make a key pair for {}: {}", name, zmq_strerror(zmq_errno()))};
  }
  return KeyPair{std::move(name), role, public_key.data(), secret_key.data()};
}

Status save_secret_key(const std::filesystem::path& dir, const KeyPair& keys) {
  if (!valid_name(keys.name)) return bad_name(keys.name);
  const std::string text = fmt::format(
      "# The secret key of \"{0}\". Only its owner may read this file (mode 0600).\nname = \"{0}\"\nrole = \"{1}\"\npublic = "
      "\"{2}\"\nsecret = \"{3}\"\n",
      keys.name, to_string(keys.role), keys.public_key, keys.secret_key);
  return files::write_atomically(dir / (keys.name + ".key"), text, kSecretMode, files::Existing::keep);
}

Result<KeyPair> load_secret_key(const std::filesystem::path& file) {
  const auto text = read_private_file(file);
  if (!text) return text.error();
  auto table = TomlTable::parse(*text, file.string());
  if (!table) return table.error();
  KeyPair keys;
  read_key(*table, keys.name, keys.role, keys.public_key);
  table->require("secret");
  table->get("secret", keys.secret_key);
  if (!valid_z85(keys.secret_key)) {
    table->fail("secret", "\"secret\" is no Z85 key of 40 characters");
  } else {
    std::array<char, kZ85Chars + 1> public_key{};
    if (zmq_curve_public(public_key.data(), keys.secret_key.c_str()) != 0 || keys.public_key != public_key.data()) {
      table->fail("public", "\"public\" and \"secret\" do not belong together");
    }
  }
  if (const Status status = table->finish(); !status) return status.error();
  return keys;
}

Result<AdmittedKeys> AdmittedKeys::load(const std::filesystem::path& file) {
  auto table = TomlTable::parse_file(file);
  if (!table) return annotate(table.error(), "the list of admitted keys");
  AdmittedKeys admitted;
  for (TomlTable& entry : table->tables("key")) {
    AdmittedKey key;
    read_key(entry, key.name, key.role, key.public_key);
    if (const Status status = entry.finish(); !status) return status.error();
    if (const Status status = admitted.add(std::move(key)); !status) entry.fail("name", status.error().detail);
  }
  if (const Status status = table->finish(); !status) return status.error();
  return admitted;
}

Status AdmittedKeys::save(const std::filesystem::path& file) const {
  std::string text = "# The keys that this cluster admits. Roles: node > admin > submit > read. Change it with `idunno keys`.\n";
  for (const AdmittedKey& key : keys_) {
    text +=
        fmt::format("\n[[key]]\nname = \"{}\"\nrole = \"{}\"\npublic = \"{}\"\n", key.name, to_string(key.role), key.public_key);
  }
  return files::write_atomically(file, text, kPublicMode, files::Existing::replace);
}

Status AdmittedKeys::add(AdmittedKey key) {
  if (!valid_name(key.name)) return bad_name(key.name);
  if (!valid_z85(key.public_key))
    return Error{Errc::invalid, "the public key of " + key.name + " is no Z85 key of 40 characters"};
  if (by_name(key.name) != nullptr) return Error{Errc::conflict, "a key named " + key.name + " is admitted already"};
  if (const AdmittedKey* same = by_public_key(key.public_key); same != nullptr) {
    return Error{Errc::conflict, "the public key of " + key.name + " is admitted already as " + same->name};
  }
  keys_.push_back(std::move(key));
  return {};
}

Status AdmittedKeys::remove(std::string_view name) {
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const AdmittedKey& key) { return key.name == name; });
  if (found == keys_.end()) return Error{Errc::not_found, fmt::format("no key named {} is admitted", name)};
  keys_.erase(found);
  return {};
}

const AdmittedKey* AdmittedKeys::by_name(std::string_view name) const {
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const AdmittedKey& key) { return key.name == name; });
  return found == keys_.end() ? nullptr : &*found;
}

const AdmittedKey* AdmittedKeys::by_public_key(std::string_view z85) const {
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const AdmittedKey& key) { return key.public_key == z85; });
  return found == keys_.end() ? nullptr : &*found;
}

}  // namespace idunno
