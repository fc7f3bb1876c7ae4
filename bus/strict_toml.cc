#include "bus/strict_toml.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "bus/units.h"

namespace idunno {
namespace {

constexpr std::uintmax_t kFileBytesMax = 1U << 20U;
constexpr std::size_t kDistanceMax = 3;  // further away a suggestion confuses more than it helps

const char* kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

/// Optimal string alignment: insert, delete, replace, swap of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

struct State;

/// What all tables of one document share.
struct Document {
  toml::table root;
  std::string source;
  std::optional<Error> error;
  std::map<const toml::table*, std::shared_ptr<State>> states;
};

/// What has been asked of one table.
struct State {
  const toml::table* table = nullptr;
  const State* parent = nullptr;
  std::string name;  ///< "[tuning]", "[[node]]"; empty for the top level
  std::set<std::string> asked;

  [[nodiscard]] bool below(const State* ancestor) const {
    for (const State* state = this; state != nullptr; state = state->parent) {
      if (state == ancestor) return true;
    }
    return false;
  }
  [[nodiscard]] std::string in() const { return name.empty() ? "" : " in " + name; }
};

}  // namespace

struct TomlTable::Impl {
  std::shared_ptr<Document> document;
  std::shared_ptr<State> state;

  static TomlTable make(const std::shared_ptr<Document>& document, const toml::table& table, const State* parent,
                        std::string name) {
    auto& state = document->states[&table];
    if (!state) {
      state = std::make_shared<State>();
      state->table = &table;
      state->parent = parent;
      state->name = std::move(name);
    }
    TomlTable made;
    made.impl_ = std::make_shared<Impl>(Impl{document, state});
    return made;
  }

  const toml::node* ask(const char* key) const {
    state->asked.insert(key);
    return state->table->get(key);
  }
  [[nodiscard]] std::string place(const toml::node* node) const {
    const auto line = node == nullptr ? state->table->source().begin.line : node->source().begin.line;
    return line == 0 ? document->source : fmt::format("{}:{}", document->source, line);
  }
  void fail_at(const toml::node* node, const std::string& what) const {
    if (!document->error) document->error = Error{Errc::invalid, place(node) + ": " + what};
  }
  void wrong(const char* key, const toml::node& node, const std::string& expected) const {
    fail_at(&node, fmt::format("\"{}\"{} is {}, expected {}", key, state->in(), kind_of(node), expected));
  }

  [[nodiscard]] bool integer(const char* key, const toml::node& node, std::int64_t min, std::int64_t max,
                             std::int64_t& value) const {
    if (!node.is_integer()) return wrong(key, node, "an integer"), false;
    const std::int64_t found = node.as_integer()->get();
    if (found < min || found > max) {
      fail_at(&node, fmt::format("\"{}\"{} is {}, expected {} to {}", key, state->in(), found, min, max));
      return false;
    }
    value = found;
    return true;
  }
  [[nodiscard]] bool real(const char* key, const toml::node& node, double& value) const {
    if (!node.is_number()) return wrong(key, node, "a number"), false;
    value = node.is_integer() ? static_cast<double>(node.as_integer()->get()) : node.as_floating_point()->get();
    if (std::isfinite(value)) return true;
    fail_at(&node, fmt::format("\"{}\"{} is not a finite number", key, state->in()));
    return false;
  }
  /// Calls `read(element)` for each element of the array; false from it ends the walk.
  template <class Read>
  void elements(const char* key, const char* expected, Read read) const {
    const toml::node* node = ask(key);
    if (node == nullptr) return;
    if (!node->is_array()) return wrong(key, *node, expected);
    for (const toml::node& element : *node->as_array()) {
      if (!read(element)) return;
    }
  }
};

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::min(kDistanceMax, std::max<std::size_t>(1, word.size() / 2)) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

Result<TomlTable> TomlTable::parse(std::string_view text, const std::string& source_name) {
  auto document = std::make_shared<Document>();
  document->source = source_name;
  try {
    document->root = toml::parse(text, source_name);
  } catch (const toml::parse_error& e) {
    return Error{Errc::invalid, fmt::format("{}:{}: {}", source_name, e.source().begin.line, e.description())};
  } catch (const std::exception& e) {
    return Error{Errc::invalid, fmt::format("{}: {}", source_name, e.what())};
  }
  return Impl::make(document, document->root, nullptr, "");
}

Result<TomlTable> TomlTable::parse_file(const std::filesystem::path& file) {
  std::error_code ec;
  const auto status = std::filesystem::status(file, ec);
  if (status.type() == std::filesystem::file_type::not_found) {
    return Error{Errc::not_found, "read " + file.string() + ": no such file"};
  }
  if (ec) return Error{Errc::invalid, "read " + file.string() + ": " + ec.message()};
  if (!std::filesystem::is_regular_file(status)) return Error{Errc::invalid, "read " + file.string() + ": not a file"};
  const auto size = std::filesystem::file_size(file, ec);
  if (ec) return Error{Errc::invalid, "read " + file.string() + ": " + ec.message()};
  if (size > kFileBytesMax) return Error{Errc::too_large, "read " + file.string() + ": larger than 1 MiB"};
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (size > 0) text << in.rdbuf();
  if (!in) return Error{Errc::invalid, "read " + file.string() + ": cannot be read; check who may read it"};
  return parse(text.str(), file.string());
}

void TomlTable::get(const char* key, std::string& value) {
  const toml::node* node = impl_->ask(key);
  if (node == nullptr) return;
  if (!node->is_string()) return impl_->wrong(key, *node, "a string");
  value = node->as_string()->get();
}

void TomlTable::get(const char* key, bool& value) {
  const toml::node* node = impl_->ask(key);
  if (node == nullptr) return;
  if (!node->is_boolean()) return impl_->wrong(key, *node, "true or false");
  value = node->as_boolean()->get();
}

void TomlTable::get(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max) {
  const toml::node* node = impl_->ask(key);
  if (node != nullptr) (void)impl_->integer(key, *node, min, max, value);
}

void TomlTable::get(const char* key, double& value, double min, double max) {
  const toml::node* node = impl_->ask(key);
  double found = 0;
  if (node == nullptr || !impl_->real(key, *node, found)) return;
  if (found < min || found > max) {
    return impl_->fail_at(node, fmt::format("\"{}\"{} is {}, expected {} to {}", key, impl_->state->in(), found, min, max));
  }
  value = found;
}

void TomlTable::get(const char* key, std::vector<double>& value) {
  std::vector<double> found;
  const bool there = has(key);
  impl_->elements(key, "an array of numbers", [&](const toml::node& element) {
    double number = 0;
    if (!impl_->real(key, element, number)) return false;
    found.push_back(number);
    return true;
  });
  if (there) value = std::move(found);
}

void TomlTable::get(const char* key, std::vector<std::int64_t>& value, std::int64_t min, std::int64_t max) {
  std::vector<std::int64_t> found;
  const bool there = has(key);
  impl_->elements(key, "an array of integers", [&](const toml::node& element) {
    std::int64_t number = 0;
    if (!impl_->integer(key, element, min, max, number)) return false;
    found.push_back(number);
    return true;
  });
  if (there) value = std::move(found);
}

void TomlTable::get(const char* key, std::vector<std::string>& value) {
  std::vector<std::string> found;
  const bool there = has(key);
  impl_->elements(key, "an array of strings", [&](const toml::node& element) {
    if (!element.is_string()) return impl_->wrong(key, element, "a string"), false;
    found.push_back(element.as_string()->get());
    return true;
  });
  if (there) value = std::move(found);
}

void TomlTable::get_duration(const char* key, std::int64_t& microseconds, std::int64_t min, std::int64_t max) {
  const toml::node* node = impl_->ask(key);
  if (node == nullptr) return;
  if (!node->is_string()) return impl_->wrong(key, *node, "a duration as text, like \"250ms\" or \"10s\"");
  const auto parsed = parse_duration(node->as_string()->get());
  if (!parsed) return impl_->fail_at(node, fmt::format("\"{}\"{}: {}", key, impl_->state->in(), parsed.error().detail));
  if (parsed->count() < min || parsed->count() > max) {
    return impl_->fail_at(node,
                          fmt::format("\"{}\"{} is {}, expected {} to {}", key, impl_->state->in(), format_duration(*parsed),
                                      format_duration(Duration(min)), format_duration(Duration(max))));
  }
  microseconds = parsed->count();
}

void TomlTable::get_size(const char* key, std::uint64_t& bytes, std::uint64_t min, std::uint64_t max) {
  const toml::node* node = impl_->ask(key);
  if (node == nullptr) return;
  if (!node->is_string()) return impl_->wrong(key, *node, "a size as text, like \"64K\" or \"2G\"");
  const auto parsed = parse_size(node->as_string()->get());
  if (!parsed) return impl_->fail_at(node, fmt::format("\"{}\"{}: {}", key, impl_->state->in(), parsed.error().detail));
  if (*parsed < min || *parsed > max) {
    return impl_->fail_at(node, fmt::format("\"{}\"{} is {}, expected {} to {}", key, impl_->state->in(), format_size(*parsed),
                                            format_size(min), format_size(max)));
  }
  bytes = *parsed;
}

bool TomlTable::has(const char* key) { return impl_->ask(key) != nullptr; }

void TomlTable::require(const char* key) {
  if (impl_->ask(key) == nullptr) impl_->fail_at(nullptr, fmt::format("missing key \"{}\"{}", key, impl_->state->in()));
}

std::optional<TomlTable> TomlTable::table(const char* key) {
  const toml::node* node = impl_->ask(key);
  if (node == nullptr) return std::nullopt;
  if (!node->is_table()) return impl_->wrong(key, *node, "a table"), std::nullopt;
  return Impl::make(impl_->document, *node->as_table(), impl_->state.get(), fmt::format("[{}]", key));
}

std::vector<TomlTable> TomlTable::tables(const char* key) {
  std::vector<TomlTable> found;
  impl_->elements(key, "tables, each under [[...]]", [&](const toml::node& element) {
    if (!element.is_table()) return impl_->wrong(key, element, "a table"), false;
    found.push_back(Impl::make(impl_->document, *element.as_table(), impl_->state.get(), fmt::format("[[{}]]", key)));
    return true;
  });
  return found;
}

void TomlTable::fail(const char* key, const std::string& what) { impl_->fail_at(impl_->state->table->get(key), what); }

Status TomlTable::finish() {
  const auto& document = impl_->document;
  if (document->error) return *document->error;
  const State* owner = nullptr;
  const toml::key* first = nullptr;
  for (const auto& [table, state] : document->states) {
    if (!state->below(impl_->state.get())) continue;
    for (const auto& [key, node] : *table) {
      if (state->asked.contains(std::string(key.str()))) continue;
      if (first != nullptr && first->source().begin.line <= key.source().begin.line) continue;
      first = &key;
      owner = state.get();
    }
  }
  if (first == nullptr) return {};
  const auto line = first->source().begin.line;
  std::string what = fmt::format("{}:{}: unknown key \"{}\"{}", document->source, line, first->str(), owner->in());
  const std::string near = nearest_word(first->str(), {owner->asked.begin(), owner->asked.end()});
  if (!near.empty()) what += fmt::format("; did you mean \"{}\"?", near);
  return Error{Errc::invalid, std::move(what)};
}

}  // namespace idunno
