#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "bus/base/assert.h"
#include "cli/names.h"
#include "cli/text.h"

namespace idunno::cli {

std::string dump(const Json& value, int indent) { return value.dump(indent, ' ', false, Json::error_handler_t::replace); }

std::string plain(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_array()) {
    std::string out;
    for (const Json& item : value) out += (out.empty() ? "" : " ") + plain(item);
    return out.empty() ? "-" : out;
  }
  return dump(value);
}

std::string csv_field(const Json& value) {
  std::string text;
  if (value.is_null()) return text;
  if (value.is_boolean()) {
    text = value.get<bool>() ? "true" : "false";
  } else if (value.is_array()) {
    text = value.empty() ? "" : plain(value);
  } else if (value.is_number()) {
    text = dump(value);
  } else {
    text = plain(value);
  }
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c;
    if (c == '"') quoted += c;
  }
  return quoted + "\"";
}

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string render_table(const std::vector<Column>& columns, const std::vector<std::vector<Listing::Cell>>& rows) {
  std::vector<std::size_t> shown;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].title.empty()) continue;
    shown.push_back(i);
    widths.push_back(display_width(columns[i].title));
  }
  std::vector<std::vector<std::string>> texts;
  for (const auto& row : rows) {
    std::vector<std::string> line;
    for (std::size_t k = 0; k < shown.size(); ++k) {
      const Listing::Cell& cell = row[shown[k]];
      line.push_back(printable(cell.text.empty() ? plain(cell.value) : cell.text));
      widths[k] = std::max(widths[k], display_width(line.back()));
    }
    texts.push_back(std::move(line));
  }
  std::string out;
  const auto put_line = [&](const auto& text_of) {
    std::string line;
    for (std::size_t k = 0; k < shown.size(); ++k) {
      const std::string& text = text_of(k);
      const std::string pad(widths[k] - display_width(text), ' ');
      if (k > 0) line += "  ";
      line += columns[shown[k]].right ? pad + text : text + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  put_line([&](std::size_t k) -> const std::string& { return columns[shown[k]].title; });
  for (const auto& line : texts) put_line([&](std::size_t k) -> const std::string& { return line[k]; });
  return out;
}

std::string render_csv(const std::vector<Column>& columns, const std::vector<std::vector<Listing::Cell>>& rows) {
  std::string out;
  for (std::size_t i = 0; i < columns.size(); ++i) out += (i > 0 ? "," : "") + csv_field(columns[i].name);
  out += "\n";
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) out += (i > 0 ? "," : "") + csv_field(row[i].value);
    out += "\n";
  }
  return out;
}

Listing::Listing(std::string schema, std::string rows_name, std::vector<Column> columns)
    : schema_(std::move(schema)), rows_name_(std::move(rows_name)), columns_(std::move(columns)) {}

void Listing::add(std::vector<Cell> row) {
  ASSERT(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

namespace {

Json row_object(const std::vector<Column>& columns, const std::vector<Listing::Cell>& row) {
  Json object = Json::object();
  for (std::size_t i = 0; i < columns.size(); ++i) object[columns[i].name] = row[i].value;
  return object;
}

void put(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

}  // namespace

void Listing::print(const Globals& globals) const {
  switch (globals.format) {
    case Format::table:
      put(render_table(columns_, rows_));
      if (!footer.empty()) put(footer + (footer.back() == '\n' ? "" : "\n"));
      return;
    case Format::json: {
      Json whole = Json::object();
      whole["schema"] = schema_;
      Json items = Json::array();
      for (const auto& row : rows_) items.push_back(row_object(columns_, row));
      whole[rows_name_] = std::move(items);
      for (const auto& [name, value] : extra.items()) whole[name] = value;
      put(dump(whole, 2) + "\n");
      return;
    }
    case Format::jsonl:
      for (const auto& row : rows_) {
        Json object = Json::object();
        object["schema"] = schema_;
        object.update(row_object(columns_, row));
        put(dump(object) + "\n");
      }
      return;
    case Format::csv:
      put(render_csv(columns_, rows_));
      return;
  }
}

void print_outcome(const Globals& globals, const std::string& schema, const Json& object) {
  if (globals.format != Format::table) print_object(globals, schema, object);
}

void print_object(const Globals& globals, const std::string& schema, const Json& object) {
  Json whole = Json::object();
  whole["schema"] = schema;
  whole.update(object);
  switch (globals.format) {
    case Format::json:
      put(dump(whole, 2) + "\n");
      return;
    case Format::jsonl:
      put(dump(whole) + "\n");
      return;
    case Format::csv: {
      std::string names;
      std::string values;
      for (const auto& [name, value] : object.items()) {
        names += (names.empty() ? "" : ",") + csv_field(name);
        values += (&value == &*object.begin() ? "" : ",") + csv_field(value);
      }
      put(names + "\n" + values + "\n");
      return;
    }
    case Format::table: {
      std::size_t width = 0;
      for (const auto& [name, value] : object.items()) width = std::max(width, display_width(name));
      for (const auto& [name, value] : object.items()) {
        put(name + std::string(width - display_width(name) + 2, ' ') + printable(plain(value)) + "\n");
      }
      return;
    }
  }
}

}  // namespace idunno::cli
