#include "bus/codec.h"

#include <algorithm>
#include <msgpack.hpp>
#include <new>

namespace idunno {
namespace {

struct MessageName {
  MessageType type;
  const char* name;
};

/// Sorted by number. The only list of all types; the tests compare it with the structs.
constexpr MessageName kMessageNames[] = {
    {MessageType::error_reply, "error_reply"},
    {MessageType::status, "status"},
    {MessageType::status_reply, "status_reply"},
    {MessageType::placement, "placement"},
    {MessageType::placement_reply, "placement_reply"},
    {MessageType::phase, "phase"},
    {MessageType::phase_reply, "phase_reply"},
    {MessageType::fs_list, "fs_list"},
    {MessageType::fs_list_reply, "fs_list_reply"},
    {MessageType::fs_stat, "fs_stat"},
    {MessageType::fs_stat_reply, "fs_stat_reply"},
    {MessageType::fs_commit, "fs_commit"},
    {MessageType::fs_commit_reply, "fs_commit_reply"},
    {MessageType::fs_remove, "fs_remove"},
    {MessageType::fs_remove_reply, "fs_remove_reply"},
    {MessageType::fs_move_replicas, "fs_move_replicas"},
    {MessageType::fs_move_replicas_reply, "fs_move_replicas_reply"},
    {MessageType::fs_store, "fs_store"},
    {MessageType::fs_store_reply, "fs_store_reply"},
    {MessageType::model_add, "model_add"},
    {MessageType::model_add_reply, "model_add_reply"},
    {MessageType::model_list, "model_list"},
    {MessageType::model_list_reply, "model_list_reply"},
    {MessageType::model_remove, "model_remove"},
    {MessageType::model_remove_reply, "model_remove_reply"},
    {MessageType::submit, "submit"},
    {MessageType::submit_reply, "submit_reply"},
    {MessageType::job_control, "job_control"},
    {MessageType::job_control_reply, "job_control_reply"},
    {MessageType::job_set, "job_set"},
    {MessageType::job_set_reply, "job_set_reply"},
    {MessageType::job_reports, "job_reports"},
    {MessageType::job_reports_reply, "job_reports_reply"},
    {MessageType::job_results, "job_results"},
    {MessageType::job_results_reply, "job_results_reply"},
    {MessageType::node_hello, "node_hello"},
    {MessageType::node_hello_reply, "node_hello_reply"},
    {MessageType::heartbeat, "heartbeat"},
    {MessageType::heartbeat_reply, "heartbeat_reply"},
    {MessageType::lease_grant, "lease_grant"},
    {MessageType::lease_drop, "lease_drop"},
    {MessageType::commit_batches, "commit_batches"},
    {MessageType::commit_batches_reply, "commit_batches_reply"},
    {MessageType::batch_failed, "batch_failed"},
    {MessageType::batch_failed_reply, "batch_failed_reply"},
    {MessageType::replica_task, "replica_task"},
    {MessageType::replica_report, "replica_report"},
    {MessageType::replica_report_reply, "replica_report_reply"},
    {MessageType::inventory, "inventory"},
    {MessageType::inventory_reply, "inventory_reply"},
    {MessageType::damaged_blocks, "damaged_blocks"},
    {MessageType::damaged_blocks_reply, "damaged_blocks_reply"},
    {MessageType::transfer_leadership, "transfer_leadership"},
    {MessageType::transfer_leadership_reply, "transfer_leadership_reply"},
    {MessageType::job_order, "job_order"},
    {MessageType::prefetch_model, "prefetch_model"},
    {MessageType::put_blocks, "put_blocks"},
    {MessageType::put_blocks_reply, "put_blocks_reply"},
    {MessageType::get_blocks, "get_blocks"},
    {MessageType::get_blocks_reply, "get_blocks_reply"},
    {MessageType::check_blocks, "check_blocks"},
    {MessageType::check_blocks_reply, "check_blocks_reply"},
    {MessageType::pull_blocks, "pull_blocks"},
    {MessageType::pull_blocks_reply, "pull_blocks_reply"},
    {MessageType::delete_blocks, "delete_blocks"},
    {MessageType::delete_blocks_reply, "delete_blocks_reply"},
    {MessageType::list_blocks, "list_blocks"},
    {MessageType::list_blocks_reply, "list_blocks_reply"},
    {MessageType::ping, "ping"},
    {MessageType::pong, "pong"},
    {MessageType::event_notice, "event_notice"},
    {MessageType::stats_notice, "stats_notice"},
    {MessageType::swim_probe, "swim_probe"},
    {MessageType::swim_ack, "swim_ack"},
    {MessageType::member_list, "member_list"},
    {MessageType::member_list_reply, "member_list_reply"},
    {MessageType::member_history, "member_history"},
    {MessageType::member_history_reply, "member_history_reply"},
    {MessageType::log_search, "log_search"},
    {MessageType::log_search_reply, "log_search_reply"},
    {MessageType::log_tail, "log_tail"},
    {MessageType::log_tail_reply, "log_tail_reply"},
    {MessageType::batch_lives, "batch_lives"},
    {MessageType::batch_lives_reply, "batch_lives_reply"},
};

const char* known_message_name(std::uint64_t number) {
  const auto* found = std::lower_bound(
      std::begin(kMessageNames), std::end(kMessageNames), number,
      [](const MessageName& entry, std::uint64_t wanted) { return static_cast<std::uint64_t>(entry.type) < wanted; });
  if (found == std::end(kMessageNames) || static_cast<std::uint64_t>(found->type) != number) return nullptr;
  return found->name;
}

const char* known_command_name(std::uint64_t number) {
  if (number > std::numeric_limits<std::uint16_t>::max()) return nullptr;
  switch (static_cast<CommandKind>(number)) {
    case CommandKind::new_epoch:
      return "new_epoch";
    case CommandKind::register_node:
      return "register_node";
    case CommandKind::commit_files:
      return "commit_files";
    case CommandKind::remove_files:
      return "remove_files";
    case CommandKind::move_replicas:
      return "move_replicas";
    case CommandKind::forget_blocks:
      return "forget_blocks";
    case CommandKind::add_model:
      return "add_model";
    case CommandKind::remove_model:
      return "remove_model";
    case CommandKind::submit_job:
      return "submit_job";
    case CommandKind::control_job:
      return "control_job";
    case CommandKind::set_job:
      return "set_job";
    case CommandKind::fail_job:
      return "fail_job";
    case CommandKind::commit_batches:
      return "commit_batches";
    case CommandKind::set_phase:
      return "set_phase";
    case CommandKind::extend_job:
      return "extend_job";
  }
  return nullptr;
}

/// Where msgpack's packer writes to.
struct Sink {
  Bytes& out;
  void write(const char* bytes, std::size_t size) { out.append(bytes, size); }
};

/// Bytes of a head in its shortest form.
std::size_t shortest_number(std::uint64_t value) {
  if (value < 0x80) return 1;
  if (value <= 0xFF) return 2;
  if (value <= 0xFFFF) return 3;
  return value <= 0xFFFFFFFF ? 5 : 9;
}
std::size_t shortest_negative(std::int64_t value) {
  if (value >= -32) return 1;
  if (value >= std::numeric_limits<std::int8_t>::min()) return 2;
  if (value >= std::numeric_limits<std::int16_t>::min()) return 3;
  return value >= std::numeric_limits<std::int32_t>::min() ? 5 : 9;
}
std::size_t shortest_text_head(std::uint32_t size) {
  if (size < 32) return 1;
  if (size <= 0xFF) return 2;
  return size <= 0xFFFF ? 3 : 5;
}
std::size_t shortest_array_head(std::uint32_t size) {
  if (size < 16) return 1;
  return size <= 0xFFFF ? 3 : 5;
}

/// Collects msgpack's parse events and stops at the first one that is out of bounds. Memory grows only with bytes that have
/// been read, never with what a count promises.
class Collector : public msgpack::null_visitor {
 public:
  Collector(ByteView bytes, const codec::Limits& limits, std::vector<codec::Token>& tokens)
      : limits_(limits), tokens_(tokens), elements_left_(bytes.size()) {}

  bool visit_boolean(bool value) {
    canonical_bytes_ += 1;
    return number(codec::TokenKind::boolean, value ? 1 : 0);
  }
  bool visit_positive_integer(std::uint64_t value) {
    canonical_bytes_ += shortest_number(value);
    return number(codec::TokenKind::number, value);
  }
  bool visit_negative_integer(std::int64_t value) {
    // A positive number in a signed form can be as long as its right form, so the count of bytes would not show it.
    if (value >= 0) return refuse("a positive number is in a signed form");
    canonical_bytes_ += shortest_negative(value);
    auto& token = tokens_.emplace_back();
    token.kind = codec::TokenKind::negative;
    token.negative = value;
    return true;
  }
  bool visit_str(const char* text, std::uint32_t size) {
    if (size > limits_.string_bytes) return refuse("a string of " + std::to_string(size) + " bytes is over the bound");
    canonical_bytes_ += shortest_text_head(size) + size;
    auto& token = tokens_.emplace_back();
    token.kind = codec::TokenKind::text;
    token.size = size;
    token.text = text;
    return true;
  }
  bool start_array(std::uint32_t elements) {
    if (elements > limits_.elements) return refuse("an array of " + std::to_string(elements) + " elements is over the bound");
    if (elements > elements_left_)
      return refuse("an array of " + std::to_string(elements) + " elements is larger than the message");
    if (++depth_ > codec::kDepthMax) return refuse("nested deeper than " + std::to_string(codec::kDepthMax));
    elements_left_ -= elements;
    canonical_bytes_ += shortest_array_head(elements);
    auto& token = tokens_.emplace_back();
    token.kind = codec::TokenKind::array;
    token.size = elements;
    return true;
  }
  bool end_array() {
    --depth_;
    return true;
  }
  bool visit_nil() { return refuse("nil is not part of the format"); }
  bool visit_float32(float) { return refuse("floating point is not part of the format"); }
  bool visit_float64(double) { return refuse("floating point is not part of the format"); }
  bool visit_bin(const char*, std::uint32_t) { return refuse("bin is not part of the format"); }
  bool visit_ext(const char*, std::uint32_t) { return refuse("ext is not part of the format"); }
  bool start_map(std::uint32_t) { return refuse("a map is not part of the format"); }
  void parse_error(std::size_t, std::size_t) { refuse("not msgpack"); }
  void insufficient_bytes(std::size_t, std::size_t) { refuse("cut off"); }

  [[nodiscard]] std::size_t canonical_bytes() const { return canonical_bytes_; }
  [[nodiscard]] const std::string& refusal() const { return refusal_; }

 private:
  bool number(codec::TokenKind kind, std::uint64_t value) {
    auto& token = tokens_.emplace_back();
    token.kind = kind;
    token.number = value;
    return true;
  }
  bool refuse(std::string why) {
    if (refusal_.empty()) refusal_ = std::move(why);
    return false;
  }

  codec::Limits limits_;
  std::vector<codec::Token>& tokens_;
  std::size_t elements_left_;  ///< each element takes a byte or more, so all counts together stay below the bytes
  std::size_t canonical_bytes_ = 0;
  std::size_t depth_ = 0;
  std::string refusal_;
};

const char* name_of(codec::TokenKind kind) {
  switch (kind) {
    case codec::TokenKind::boolean:
      return "a boolean";
    case codec::TokenKind::number:
      return "a number";
    case codec::TokenKind::negative:
      return "a negative number";
    case codec::TokenKind::text:
      return "a string";
    case codec::TokenKind::array:
      return "an array";
  }
  return "something else";
}

constexpr std::size_t kHeaderFields = 8;
constexpr std::size_t kCommandFields = 4;

Result<std::shared_ptr<Envelope::Parsed>> parse_owned(ByteView bytes, const codec::Limits& limits) {
  if (bytes.size() > limits.bytes) {
    return Error{Errc::too_large, std::to_string(bytes.size()) + " bytes are over the bound of " + std::to_string(limits.bytes)};
  }
  auto parsed = std::make_shared<Envelope::Parsed>();
  parsed->bytes.assign(bytes);
  auto tokens = codec::tokenize(parsed->bytes, limits);
  if (!tokens) return tokens.error();
  parsed->tokens = std::move(tokens).value();
  return parsed;
}

bool read_header(codec::Reader& r, Header& header) {
  std::uint16_t type = 0;  // a type of a newer program is not an error of the header: who handles the message refuses it
  const bool ok =
      (codec::read(r, header.cluster) || r.inside("Header", 1)) && (codec::read(r, type) || r.inside("Header", 2)) &&
      (codec::read(r, header.request) || r.inside("Header", 3)) && (codec::read(r, header.epoch) || r.inside("Header", 4)) &&
      (codec::read(r, header.deadline_ms) || r.inside("Header", 5)) && (codec::read(r, header.flags) || r.inside("Header", 6));
  header.type = static_cast<MessageType>(type);
  return ok;
}

}  // namespace

bool EnumRange<MessageType>::is_known(std::uint64_t number) { return known_message_name(number) != nullptr; }
bool EnumRange<CommandKind>::is_known(std::uint64_t number) { return known_command_name(number) != nullptr; }

std::string message_name(MessageType type) {
  const auto number = static_cast<std::uint16_t>(type);
  const char* name = known_message_name(number);
  return name != nullptr ? name : "type " + std::to_string(number);
}

namespace codec {

std::string command_name(CommandKind kind) {
  const auto number = static_cast<std::uint16_t>(kind);
  const char* name = known_command_name(number);
  return name != nullptr ? name : "kind " + std::to_string(number);
}

Result<std::vector<Token>> tokenize(ByteView bytes, const Limits& limits) {
  if (bytes.size() > limits.bytes) {
    return Error{Errc::too_large, std::to_string(bytes.size()) + " bytes are over the bound of " + std::to_string(limits.bytes)};
  }
  std::vector<Token> tokens;
  Collector collector(bytes, limits, tokens);
  std::size_t used = 0;
  try {
    tokens.reserve(std::min<std::size_t>(bytes.size() / 4 + 4, 1U << 20U));
    if (!msgpack::parse(bytes.data(), bytes.size(), used, collector) || !collector.refusal().empty()) {
      return Error{Errc::invalid, collector.refusal().empty() ? "not msgpack" : collector.refusal()};
    }
  } catch (const std::bad_alloc&) {
    return Error{Errc::too_large, "not enough memory to decode " + std::to_string(bytes.size()) + " bytes"};
  } catch (const std::exception& e) {
    return Error{Errc::invalid, std::string("not msgpack: ") + e.what()};
  }
  if (used != bytes.size()) return Error{Errc::invalid, std::to_string(bytes.size() - used) + " bytes left over at the end"};
  // Every value has one encoding: what decodes encodes to the same bytes again.
  if (collector.canonical_bytes() != bytes.size()) return Error{Errc::invalid, "a number or a size is not in its shortest form"};
  return tokens;
}

void Writer::array(std::size_t elements) {
  Sink sink{out_};
  msgpack::packer<Sink>(sink).pack_array(static_cast<std::uint32_t>(elements));
}
void Writer::boolean(bool value) {
  Sink sink{out_};
  msgpack::packer<Sink> packer(sink);
  value ? packer.pack_true() : packer.pack_false();
}
void Writer::number(std::uint64_t value) {
  if (value < 0x80) return out_.push_back(static_cast<char>(value));  // most of what travels; the packer does the same
  Sink sink{out_};
  msgpack::packer<Sink>(sink).pack_uint64(value);
}
void Writer::signed_number(std::int64_t value) {
  Sink sink{out_};
  msgpack::packer<Sink>(sink).pack_int64(value);
}
void Writer::text(ByteView value) {
  Sink sink{out_};
  msgpack::packer<Sink>(sink)
      .pack_str(static_cast<std::uint32_t>(value.size()))
      .pack_str_body(value.data(), static_cast<std::uint32_t>(value.size()));
}

const Token* Reader::take(TokenKind kind, const char* wanted) {
  if (next_ == end_) {
    fail(std::string("expected ") + wanted + ", found the end");
    return nullptr;
  }
  if (next_->kind != kind) {
    fail(std::string("expected ") + wanted + ", found " + name_of(next_->kind));
    return nullptr;
  }
  return next_++;
}

bool Reader::array(std::uint32_t& elements) {
  const Token* token = take(TokenKind::array, "an array");
  if (token == nullptr) return false;
  elements = token->size;
  return true;
}

bool Reader::array_of(std::size_t elements) {
  const Token* token = take(TokenKind::array, "an array");
  if (token == nullptr) return false;
  if (token->size == elements) return true;
  return fail("expected an array of " + std::to_string(elements) + ", found one of " + std::to_string(token->size));
}

bool Reader::boolean(bool& value) {
  const Token* token = take(TokenKind::boolean, "a boolean");
  if (token == nullptr) return false;
  value = token->number != 0;
  return true;
}

bool Reader::number(std::uint64_t& value, std::uint64_t max) {
  const Token* token = take(TokenKind::number, "a number");
  if (token == nullptr) return false;
  if (token->number > max) return fail(std::to_string(token->number) + " is larger than " + std::to_string(max));
  value = token->number;
  return true;
}

bool Reader::signed_number(std::int64_t& value, std::int64_t min, std::int64_t max) {
  if (next_ != end_ && next_->kind == TokenKind::negative) {
    if (next_->negative < min) return fail(std::to_string(next_->negative) + " is smaller than " + std::to_string(min));
    value = (next_++)->negative;
    return true;
  }
  std::uint64_t unsigned_value = 0;
  if (!number(unsigned_value, static_cast<std::uint64_t>(max))) return false;
  value = static_cast<std::int64_t>(unsigned_value);
  return true;
}

bool Reader::text(ByteView& value) {
  const Token* token = take(TokenKind::text, "a string");
  if (token == nullptr) return false;
  value = ByteView(token->text, token->size);
  return true;
}

bool Reader::fail(std::string why) {
  if (why_.empty()) why_ = std::move(why);
  next_ = end_;
  return false;
}

bool Reader::inside(std::string_view type, std::size_t index) {
  const std::string here = std::string(type) + (type == "element" || type == "entry" ? " " : " field ") + std::to_string(index);
  place_ = place_.empty() ? here : here + ", " + place_;
  return false;
}

Error Reader::error(std::string_view type) const {
  return Error{Errc::invalid, (place_.empty() ? std::string(type) : place_) + ": " + why_};
}

Error wrong_type(const std::string& is, const std::string& wanted) {
  return Error{Errc::invalid, "expected " + wanted + ", got " + is};
}

void write_header(Writer& w, const Header& header) {
  w.array(kHeaderFields);
  w.number(header.version);
  w.number(header.cluster);
  w.number(static_cast<std::uint16_t>(header.type));
  write(w, header.request);
  write(w, header.epoch);
  w.number(header.deadline_ms);
  w.number(header.flags);
}

void write_command_header(Writer& w, const CommandHeader& header) {
  w.array(kCommandFields);
  w.number(static_cast<std::uint16_t>(header.kind));
  w.number(header.stamp_ms);
  write(w, header.request);
}

Header salvage_header(ByteView frame) {
  Header header;
  std::vector<Token> tokens;
  const Limits limits{frame.size(), frame.size(), frame.size()};
  Collector collector(frame, limits, tokens);
  std::size_t used = 0;
  try {
    (void)msgpack::parse(frame.data(), std::min<std::size_t>(frame.size(), 64), used, collector);
  } catch (const std::exception&) {
    return header;
  }
  Reader reader(tokens, 0);
  std::uint32_t fields = 0;
  Header found;
  std::uint16_t type = 0;
  if (!reader.array(fields) || !read(reader, found.version) || !read(reader, found.cluster)) return header;
  if (!read(reader, type) || !read(reader, found.request)) return header;
  found.type = static_cast<MessageType>(type);
  return found;
}

}  // namespace codec

Bytes encode_raw_message(const Header& header, ByteView body) {
  codec::Writer writer;
  codec::write_header(writer, header);
  writer.raw(body);
  return writer.take();
}

Result<Envelope> decode_message(ByteView frame, std::size_t bytes_max) {
  auto parsed = parse_owned(frame, codec::Limits{bytes_max, codec::kStringBytesMax, codec::kElementsMax});
  if (!parsed) return annotate(parsed.error(), "message");
  Envelope envelope;
  codec::Reader reader((*parsed)->tokens, 0);
  std::uint32_t fields = 0;
  if (!reader.array(fields)) return reader.error("Header");
  if (!codec::read(reader, envelope.header.version)) return reader.error("Header field 0");
  if (envelope.header.version != kProtocolVersion) {
    return Error{Errc::invalid, "protocol version " + std::to_string(envelope.header.version) + " is not spoken here, only " +
                                    std::to_string(kProtocolVersion) + ": use programs of the same release"};
  }
  if (fields != kHeaderFields) {
    return Error{Errc::invalid,
                 "Header: expected an array of " + std::to_string(kHeaderFields) + ", found one of " + std::to_string(fields)};
  }
  if (!read_header(reader, envelope.header)) return reader.error("Header");
  (*parsed)->body = (*parsed)->tokens.size() - reader.tokens_left();
  envelope.parsed = std::move(parsed).value();
  return envelope;
}

Result<CommandEnvelope> decode_command(ByteView bytes) {
  auto parsed = parse_owned(bytes, codec::Limits{codec::kCommandBytesMax, codec::kStringBytesMax, codec::kElementsMax});
  if (!parsed) return annotate(parsed.error(), "command");
  CommandEnvelope envelope;
  codec::Reader reader((*parsed)->tokens, 0);
  const bool ok = reader.array_of(kCommandFields) &&
                  (codec::read(reader, envelope.header.kind) || reader.inside("CommandHeader", 0)) &&
                  (codec::read(reader, envelope.header.stamp_ms) || reader.inside("CommandHeader", 1)) &&
                  (codec::read(reader, envelope.header.request) || reader.inside("CommandHeader", 2));
  if (!ok) return reader.error("CommandHeader");
  (*parsed)->body = (*parsed)->tokens.size() - reader.tokens_left();
  envelope.parsed = std::move(parsed).value();
  return envelope;
}

}  // namespace idunno
