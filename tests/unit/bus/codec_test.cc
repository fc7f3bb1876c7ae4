#include "bus/codec.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <optional>
#include <set>

#include "tests/unit/bus/all_messages.h"
#include "tests/unit/bus/random_value.h"

namespace idunno {
namespace {

using test::AllCommands;
using test::AllMessages;
using test::for_each_type;
using test::random_value;

constexpr int kRounds = 20;

Header random_header(Random& random) {
  Header header;
  header.cluster = random.next();
  header.request = {random.next(), random.below(1000)};
  header.epoch.value = random.below(1U << 20U);
  header.deadline_ms = static_cast<std::uint32_t>(random.below(1U << 20U));
  return header;
}

/// What a whole message decodes to, encoded again; nothing when it is refused.
std::optional<Bytes> reencode(ByteView frame) {
  const auto envelope = decode_message(frame);
  if (!envelope) return std::nullopt;
  std::optional<Bytes> again;
  for_each_type<AllMessages>([&]<class T>() {
    if (T::kType != envelope->header.type) return;
    if (const auto body = envelope->template body<T>(); body.ok()) again = encode_message(envelope->header, *body);
  });
  return again;
}

TEST(Codec, EveryMessageComesBackAsItWas) {
  Random random(1);
  for_each_type<AllMessages>([&]<class T>() {
    for (int round = 0; round < kRounds; ++round) {
      const auto body = random_value<T>(random);
      Header header = random_header(random);
      const auto envelope = decode_message(encode_message(header, body));
      ASSERT_TRUE(envelope.ok()) << message_name(T::kType) << ": " << envelope.error().detail;
      header.type = T::kType;
      EXPECT_EQ(envelope->header, header);
      const auto back = envelope->template body<T>();
      ASSERT_TRUE(back.ok()) << message_name(T::kType) << ": " << back.error().detail;
      EXPECT_EQ(*back, body) << message_name(T::kType);
    }
  });
}

TEST(Codec, EveryCommandComesBackAsItWas) {
  Random random(2);
  for_each_type<AllCommands>([&]<class T>() {
    for (int round = 0; round < kRounds; ++round) {
      const auto body = random_value<T>(random);
      const CommandHeader header{T::kKind, random.next(), {random.next(), random.next()}};
      const auto envelope = decode_command(encode_command(header.stamp_ms, header.request, body));
      ASSERT_TRUE(envelope.ok()) << envelope.error().detail;
      EXPECT_EQ(envelope->header, header);
      const auto back = envelope->template body<T>();
      ASSERT_TRUE(back.ok()) << back.error().detail;
      EXPECT_EQ(*back, body);
    }
  });
}

TEST(Codec, KnowsEveryMessageAndCommandType) {
  std::set<std::uint64_t> types;
  for_each_type<AllMessages>([&]<class T>() { types.insert(static_cast<std::uint64_t>(T::kType)); });
  EXPECT_EQ(types.size(), std::tuple_size_v<AllMessages>);
  std::set<std::uint64_t> kinds;
  for_each_type<AllCommands>([&]<class T>() { kinds.insert(static_cast<std::uint64_t>(T::kKind)); });
  for (std::uint64_t number = 0; number < 70000; ++number) {
    EXPECT_EQ(EnumRange<MessageType>::is_known(number), types.contains(number)) << number;
    EXPECT_EQ(EnumRange<CommandKind>::is_known(number), kinds.contains(number)) << number;
  }
  EXPECT_EQ(message_name(MessageType::submit), "submit");
  EXPECT_EQ(message_name(static_cast<MessageType>(999)), "type 999");
}

TEST(Codec, SplicesAnEncodedBodyIntoAMessage) {
  Random random(3);
  const auto body = random_value<JobReportsReply>(random);
  Header header = random_header(random);
  header.type = JobReportsReply::kType;
  EXPECT_EQ(encode_raw_message(header, encode(body)), encode_message(header, body));
}

TEST(Codec, RefusesAMessageCutOffAnywhere) {
  Random random(4);
  for_each_type<AllMessages>([&]<class T>() {
    const Bytes frame = encode_message(random_header(random), random_value<T>(random));
    for (std::size_t size = 0; size < frame.size(); ++size) {
      const auto envelope = decode_message(ByteView(frame).substr(0, size));
      ASSERT_FALSE(envelope.ok()) << message_name(T::kType) << " cut to " << size;
      EXPECT_EQ(envelope.error().code, Errc::invalid);
    }
  });
}

// One encoding for each value: whatever a flipped bit makes of a message, it is refused or is exactly what it says.
TEST(Codec, AFlippedBitIsRefusedOrTakenLiterally) {
  Random random(5);
  for_each_type<AllMessages>([&]<class T>() {
    Bytes frame = encode_message(random_header(random), random_value<T>(random));
    const std::size_t step = frame.size() / 512 + 1;  // all bits of small messages, a part of those of large ones
    for (std::size_t i = 0; i < frame.size(); i += step) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        const char before = frame[i];
        frame[i] = static_cast<char>(before ^ (1 << bit));
        const auto again = reencode(frame);
        EXPECT_EQ(again.value_or(frame), frame) << message_name(T::kType) << " byte " << i << " bit " << bit;
        frame[i] = before;
      }
    }
  });
}

TEST(Codec, RefusesBytesLeftOver) {
  const Bytes frame = encode_message(Header{}, Ping{});
  EXPECT_TRUE(decode_message(frame).ok());
  EXPECT_FALSE(decode_message(frame + '\0').ok());
  EXPECT_FALSE(decode<Ping>(encode(Ping{}) + encode(Ping{})).ok());
}

TEST(Codec, RefusesCountsThatTheBytesCannotHold) {
  const auto huge = decode<std::vector<std::uint64_t>>(ByteView("\xdd\xff\xff\xff\xff", 5));
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(huge.error().code, Errc::invalid);
  Bytes nested;  // each level promises as much as would fit alone: together they do not
  for (int i = 0; i < 8; ++i) nested += std::string("\xdc\x10\x00", 3);
  nested.resize(5000, '\0');
  EXPECT_FALSE(decode<std::vector<std::uint64_t>>(nested).ok());
  EXPECT_FALSE(decode_message(ByteView("\xdb\xff\xff\xff\xff", 5)).ok());
  // 1000 elements are there, but none can be a JobReport.
  Bytes flat("\xdc\x03\xe8", 3);
  flat.resize(1003, '\0');
  const auto reports = decode<std::vector<JobReport>>(flat);
  ASSERT_FALSE(reports.ok());
  EXPECT_NE(reports.error().detail.find("larger than what follows"), std::string::npos) << reports.error().detail;
}

TEST(Codec, RefusesDeepNesting) {
  const Bytes deep(100000, '\x91');
  EXPECT_FALSE(decode_message(deep).ok());
  EXPECT_FALSE(decode<std::vector<std::uint64_t>>(deep).ok());
}

TEST(Codec, RefusesWhatIsTooLarge) {
  Bytes frame(kControlMessageBytesMax + 1, '\0');
  auto refused = decode_message(frame);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::too_large);
  FailJob fail;
  fail.reason.assign(codec::kStringBytesMax, 'x');
  EXPECT_TRUE(decode_command(encode_command(1, {}, fail)).ok());
  fail.reason += 'x';
  EXPECT_FALSE(decode_command(encode_command(1, {}, fail)).ok());
}

TEST(Codec, RefusesKindsThatTheFormatDoesNotHave) {
  for (const ByteView bytes :
       {ByteView("\x80"), ByteView("\xc0"), ByteView("\xc1"), ByteView("\xc4\x00", 2), ByteView("\xca\0\0\0\0", 5),
        ByteView("\xcb\0\0\0\0\0\0\0\0", 9), ByteView("\xd4\x01\x01"), ByteView("")}) {
    EXPECT_FALSE(decode<std::uint64_t>(bytes).ok());
  }
}

TEST(Codec, RefusesNumbersThatAreNotInTheirShortestForm) {
  EXPECT_TRUE(decode<std::uint32_t>(ByteView("\x05")).ok());
  for (const ByteView bytes :
       {ByteView("\xcc\x05"), ByteView("\xcd\x00\x05", 3), ByteView("\xd0\x05"), ByteView("\xce\0\0\1\0", 5)}) {
    EXPECT_FALSE(decode<std::uint32_t>(bytes).ok());
  }
  // As long as the right form, ce and cf: found by the fuzzer.
  EXPECT_FALSE(decode<std::uint32_t>(ByteView("\xd2\x15\x00\x80\x00", 5)).ok());
  EXPECT_FALSE(decode<std::uint64_t>(ByteView("\xd3\x15\x00\x80\x00\x00\x00\x00\x00", 9)).ok());
  EXPECT_FALSE(decode<std::string>(ByteView("\xd9\x01x")).ok());
  EXPECT_FALSE(decode<std::vector<bool>>(ByteView("\xdc\x00\x01\xc3", 4)).ok());
}

TEST(Codec, ChecksRangesLengthsAndEnumerators) {
  EXPECT_FALSE(decode<std::uint8_t>(encode(std::uint32_t{256})).ok());
  EXPECT_FALSE(decode<std::uint64_t>(encode(std::int32_t{-1})).ok());
  EXPECT_FALSE(decode<std::int8_t>(encode(std::int32_t{-129})).ok());
  EXPECT_FALSE(decode<std::int64_t>(encode(std::uint64_t{1} << 63U)).ok());
  EXPECT_EQ(*decode<std::int64_t>(encode(std::numeric_limits<std::int64_t>::min())), std::numeric_limits<std::int64_t>::min());
  EXPECT_FALSE(decode<bool>(encode(std::uint8_t{1})).ok());
  EXPECT_FALSE(decode<JobState>(encode(std::uint8_t{6})).ok());
  EXPECT_FALSE(decode<Errc>(encode(std::uint8_t{0})).ok());
  EXPECT_FALSE(decode<JobState>(encode(std::uint64_t{1} << 32U)).ok());
  EXPECT_FALSE((decode<std::array<std::uint32_t, 3>>(encode(std::array<std::uint32_t, 2>{}))).ok());
}

TEST(Codec, ErrorsNameThePlace) {
  StatusReply reply;
  reply.nodes.resize(2);
  reply.nodes[1].state = static_cast<NodeState>(9);
  const auto envelope = decode_message(encode_message(Header{}, reply));
  ASSERT_TRUE(envelope.ok());
  const auto body = envelope->body<StatusReply>();
  ASSERT_FALSE(body.ok());
  EXPECT_EQ(body.error().detail, "StatusReply field 6, element 1, NodeReport field 1: 9 is no known NodeState");
  const auto other = envelope->body<SubmitRequest>();
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().detail, "expected submit, got status_reply");
}

TEST(Codec, AnotherVersionIsNamedAndItsRequestCanBeAnswered) {
  Random random(6);
  Header header = random_header(random);
  header.version = 9;
  const Bytes frame = encode_message(header, Ping{});
  const auto envelope = decode_message(frame);
  ASSERT_FALSE(envelope.ok());
  EXPECT_NE(envelope.error().detail.find("version 9"), std::string::npos);
  EXPECT_EQ(codec::salvage_header(frame).request, header.request);
  EXPECT_EQ(codec::salvage_header("garbage").request, RequestId{});
  EXPECT_EQ(codec::salvage_header(ByteView(frame).substr(0, 4)).request, RequestId{});
}

TEST(Codec, ContainersComeBackAndMapsAreOrdered) {
  const std::map<std::uint32_t, std::optional<std::pair<bool, std::int64_t>>> map{{1, {}}, {5, {{true, -7}}}};
  EXPECT_EQ(*decode<std::decay_t<decltype(map)>>(encode(map)), map);
  const std::deque<RequestId> deque{{1, 2}, {3, 4}};
  EXPECT_EQ(*decode<std::deque<RequestId>>(encode(deque)), deque);
  const std::set<std::string> set{"a", "b"};
  EXPECT_EQ(*decode<std::set<std::string>>(encode(set)), set);
  const std::vector<bool> bits{true, false, true};
  EXPECT_EQ(*decode<std::vector<bool>>(encode(bits)), bits);
  using Pairs = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
  EXPECT_FALSE((decode<std::map<std::uint32_t, std::uint32_t>>(encode(Pairs{{2, 0}, {1, 0}})).ok()));
  EXPECT_FALSE((decode<std::map<std::uint32_t, std::uint32_t>>(encode(Pairs{{1, 0}, {1, 0}})).ok()));
  EXPECT_FALSE(decode<std::set<std::uint32_t>>(encode(std::vector<std::uint32_t>{2, 1})).ok());
  EXPECT_FALSE(decode<std::optional<bool>>(encode(std::vector<bool>{true, true})).ok());
}

TEST(Codec, LargeValuesDecodeWithinTheirBound) {
  std::vector<Hash128> many(300000);
  Random random(7);
  for (Hash128& hash : many) hash = {random.next(), random.next()};
  const std::pair<std::vector<Hash128>, Bytes> snapshot{many, Bytes(3U << 20U, 'x')};
  const Bytes bytes = encode(snapshot);
  EXPECT_FALSE((decode<std::decay_t<decltype(snapshot)>>(bytes)).ok());
  const auto back = decode<std::decay_t<decltype(snapshot)>>(bytes, bytes.size());
  ASSERT_TRUE(back.ok()) << back.error().detail;
  EXPECT_EQ(*back, snapshot);
}

TEST(Codec, RandomBytesNeverDecodeToSomethingElse) {
  Random random(8);
  for (int i = 0; i < 20000; ++i) {
    Bytes bytes(random.below(64), '\0');
    for (char& c : bytes) c = static_cast<char>(random.below(256));
    EXPECT_EQ(reencode(bytes).value_or(bytes), bytes);
    if (const auto command = decode_command(bytes)) {
      for_each_type<AllCommands>([&]<class T>() { (void)command->template body<T>().ok(); });
    }
  }
}

}  // namespace
}  // namespace idunno
