#include "cli/dash_guard.h"

#include <arpa/inet.h>
#include <sys/random.h>

#include <array>
#include <charconv>

#include "bus/base/assert.h"

namespace idunno::cli {

namespace {

struct HostPort {
  std::string name;  ///< without brackets, lower case
  std::uint16_t port = 0;
};

std::optional<HostPort> split(std::string_view host) {
  static constexpr std::uint16_t kHttp = 80;
  HostPort out;
  std::string_view rest;
  if (!host.empty() && host.front() == '[') {
    const std::size_t end = host.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    out.name = host.substr(1, end - 1);
    rest = host.substr(end + 1);
  } else {
    const std::size_t colon = host.find(':');
    out.name = host.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : host.substr(colon);
  }
  for (char& c : out.name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  out.port = kHttp;
  if (rest.empty()) return out;
  if (rest.front() != ':') return std::nullopt;
  rest.remove_prefix(1);
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), out.port);
  if (error != std::errc() || end != rest.data() + rest.size()) return std::nullopt;
  return out;
}

bool is_address(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 || inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
}

}  // namespace

bool is_loopback(const std::string& address) {
  in_addr four{};
  if (inet_pton(AF_INET, address.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24U) == 127;
  return address == "::1" || address == "localhost";
}

DashGuard::DashGuard(std::string listen, std::uint16_t port, std::string token)
    : listen_(std::move(listen)), port_(port), token_(std::move(token)) {}

bool DashGuard::host_allowed(std::string_view host) const {
  const auto parts = split(host);
  if (!parts || parts->port != port_) return false;
  if (is_loopback(parts->name) || parts->name == listen_) return true;
  // An address cannot be made to mean another machine by whoever owns a domain name.
  return !is_loopback(listen_) && is_address(parts->name);
}

bool DashGuard::origin_allowed(std::string_view origin) const {
  static constexpr std::string_view kScheme = "http://";
  if (origin.empty()) return true;
  return origin.substr(0, kScheme.size()) == kScheme && host_allowed(origin.substr(kScheme.size()));
}

bool DashGuard::token_matches(std::string_view token) const {
  if (token.size() != token_.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < token.size(); ++i) difference = static_cast<unsigned char>(difference | (token[i] ^ token_[i]));
  return difference == 0;
}

std::string random_token() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::array<unsigned char, 32> bytes{};
  const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);  // up to 256 bytes come whole
  ASSERT(got == static_cast<ssize_t>(bytes.size()));
  std::string out;
  for (const unsigned char byte : bytes) {
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
  }
  return out;
}

}  // namespace idunno::cli
