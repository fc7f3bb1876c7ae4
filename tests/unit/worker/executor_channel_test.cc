#include "nodes/worker/executor_channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace idunno {
namespace {

class ExecutorChannel : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0);
    ASSERT_EQ(fcntl(ends_[0], F_SETFL, O_NONBLOCK), 0);
  }
  void TearDown() override {
    for (const int end : ends_) close(end);
  }
  void send_raw(const Bytes& bytes) {
    ASSERT_EQ(write(ends_[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  int ends_[2] = {-1, -1};  ///< ours, non-blocking; the peer's
};

ExecuteBatch some_batch() {
  ExecuteBatch batch;
  batch.model_key = "resnet18:3";
  batch.onnx_file = "/tmp/a.onnx";
  batch.item_kind = ItemKind::pixels;
  batch.item_shape = {28, 28};
  batch.batch_size = 16;
  batch.job = JobId{7};
  batch.batch = 3;
  batch.first_query = 48;
  batch.queries = {"a", "b"};
  batch.item_lengths = {3, 4};
  return batch;
}

TEST_F(ExecutorChannel, CarriesHeadsAndPayloads) {
  FrameWriter writer;
  writer.push(encode_head(some_batch()), {Payload(Bytes("abc")), Payload(), Payload(Bytes("defg"))});
  writer.push(encode_head(BatchExecuted{}), {});
  const auto flushed = writer.flush(ends_[1]);
  ASSERT_TRUE(flushed.ok());
  EXPECT_TRUE(*flushed);

  FrameReader reader(100);
  ASSERT_EQ(*reader.read_some(ends_[0]), FrameReader::Read::got_bytes);
  const auto first = reader.next();
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_EQ((*first)->payload, "abcdefg");
  const auto batch = decode_head<ExecuteBatch>((*first)->head);
  ASSERT_TRUE(batch.ok()) << batch.error().detail;
  EXPECT_EQ(*batch, some_batch());
  EXPECT_FALSE(decode_head<BatchExecuted>((*first)->head).ok());  // another kind
  const auto second = reader.next();
  ASSERT_TRUE(second.ok() && second->has_value());
  EXPECT_TRUE(decode_head<BatchExecuted>((*second)->head).ok());
  EXPECT_FALSE(reader.next()->has_value());
  EXPECT_EQ(*reader.read_some(ends_[0]), FrameReader::Read::would_block);
}

TEST_F(ExecutorChannel, LargeFramesGoThroughSmallBuffers) {
  Bytes large(5U << 20U, 'x');
  large.back() = 'y';
  std::jthread sender([&] {
    FrameWriter writer;
    for (int i = 0; i < 3; ++i) writer.push(encode_head(some_batch()), {Payload(Bytes(large))});
    EXPECT_TRUE(writer.flush(ends_[1]).ok());
  });
  fcntl(ends_[0], F_SETFL, 0);
  FrameReader reader(8U << 20U);
  for (int frames = 0; frames < 3;) {
    ASSERT_EQ(*reader.read_some(ends_[0]), FrameReader::Read::got_bytes);
    for (auto frame = reader.next(); frame->has_value(); frame = reader.next()) {
      EXPECT_TRUE((*frame)->payload == large);
      ++frames;
    }
  }
}

TEST_F(ExecutorChannel, FramesThatArriveByteByByteAreWhole) {
  FrameWriter writer;
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  writer.push(encode_head(some_batch()), {Payload(Bytes("abcdefg"))});
  ASSERT_TRUE(writer.flush(pair[0]).ok());
  Bytes bytes(4096, '\0');
  bytes.resize(static_cast<std::size_t>(read(pair[1], bytes.data(), bytes.size())));
  FrameReader reader(100);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_FALSE(reader.next()->has_value());
    send_raw(bytes.substr(i, 1));
    ASSERT_EQ(*reader.read_some(ends_[0]), FrameReader::Read::got_bytes);
  }
  const auto frame = reader.next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->payload, "abcdefg");
  for (const int end : {pipe_ends[0], pipe_ends[1], pair[0], pair[1]}) close(end);
}

TEST_F(ExecutorChannel, RefusesSizesOutOfBounds) {
  const auto refuses = [&](const Bytes& prefix) {
    FrameReader reader(100);
    send_raw(prefix);
    EXPECT_EQ(*reader.read_some(ends_[0]), FrameReader::Read::got_bytes);
    return !reader.next().ok();
  };
  EXPECT_TRUE(refuses(Bytes("\0\0\0\0\0\0\0\0", 8)));    // no head
  EXPECT_TRUE(refuses(Bytes("\1\0\0\0\x65\0\0\0", 8)));  // payload of 101
  EXPECT_TRUE(refuses(Bytes("\1\0\x40\0\0\0\0\0", 8)));  // head of 4 MiB + 1
  EXPECT_TRUE(refuses(Bytes("\xff\xff\xff\xff\xff\xff\xff\xff", 8)));
}

TEST_F(ExecutorChannel, AClosedPeerIsToldApart) {
  shutdown(ends_[1], SHUT_RDWR);
  FrameReader reader(100);
  EXPECT_EQ(*reader.read_some(ends_[0]), FrameReader::Read::closed);
  FrameWriter writer;
  writer.push(encode_head(some_batch()), {});
  EXPECT_FALSE(writer.flush(ends_[0]).ok());
}

TEST_F(ExecutorChannel, AFullPeerIsContinuedWhereItStopped) {
  FrameWriter writer;
  const Bytes large(4U << 20U, 'z');
  writer.push(encode_head(some_batch()), {Payload(Bytes(large))});
  const auto blocked = writer.flush(ends_[0]);
  ASSERT_TRUE(blocked.ok());
  EXPECT_FALSE(*blocked);
  FrameReader reader(8U << 20U);
  bool whole = false;
  while (!whole) {
    ASSERT_EQ(*reader.read_some(ends_[1]), FrameReader::Read::got_bytes);
    ASSERT_TRUE(writer.flush(ends_[0]).ok());
    const auto frame = reader.next();
    ASSERT_TRUE(frame.ok());
    whole = frame->has_value();
    EXPECT_TRUE(!whole || (*frame)->payload == large);
  }
  EXPECT_TRUE(writer.empty());
}

}  // namespace
}  // namespace idunno
