// Lines found in a log: filters, pages, patterns over many lines against the same patterns line by line.

#include "nodes/runtime/log_search.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "bus/base/random.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

constexpr Duration kNoLimit = std::chrono::hours(1);

class LogSearchTest : public testing::Test {
 protected:
  void file(std::uint64_t number, const std::string& text, std::uint64_t offset = 0) {
    const auto path = folder.path() / (std::to_string(number) + "-" + std::to_string(offset));
    std::ofstream(path) << text;
    pieces.push_back({{number, offset}, path});
  }
  static LogSearchReply run(const LogSearchRequest& request, const LogPieces& where) {
    auto search = LogSearch::compile(request);
    EXPECT_TRUE(search.ok());
    return search.ok() ? search->run(where, kNoLimit) : LogSearchReply{};
  }
  std::vector<std::string> all(LogSearchRequest request) const {
    std::vector<std::string> lines;
    for (int page = 0; page < 10'000; ++page) {
      const LogSearchReply reply = run(request, pieces);
      for (const LogLine& line : reply.lines) lines.push_back(line.text);
      if (reply.at_end) break;
      EXPECT_GT(reply.next, request.from);
      request.from = reply.next;
    }
    return lines;
  }
  std::vector<std::string> all(const std::string& pattern) const {
    LogSearchRequest request;
    request.pattern = pattern;
    return all(request);
  }

  TempFolder folder;
  LogPieces pieces;
};

const std::string kHead = "2026-01-02T03:04:05.678Z info n3 ";

TEST_F(LogSearchTest, ReadsTheHeadOfALine) {
  const LogHead head = head_of("2026-01-02T03:04:05.678Z warning n3 [j12/b47] text");
  EXPECT_EQ(head.at_ms, 1'767'323'045'678U);
  EXPECT_EQ(head.level, LogLevel::warning);
  EXPECT_EQ(head.about, "j12/b47");
  EXPECT_EQ(head_of("2024-02-29T23:59:59.000Z critical n1 text").at_ms, 1'709'251'199'000U);
  EXPECT_EQ(head_of("2026-01-02T03:04:05.678Z info n3 a text with [j12]").about, "");
  for (const char* odd :
       {"", "x", "2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z ", "2026-01-02T03:04:05.678Z info",
        "2026-01-02T03:04:05.678Z info n3", "2026-01-02T03:04:05.678Z info n3 [j1", "2026-99-99Txx:04:05.678Z info n3 a"}) {
    EXPECT_EQ(head_of(odd).about, "") << odd;
  }
}

TEST_F(LogSearchTest, AJobIsNotAnotherOneWhoseNameBeginsSo) {
  file(1, kHead + "[j1] job one\n" + kHead + "[j12] job twelve\n" + kHead + "[j1/b2] batch\n" + kHead + "[j1/b23] other batch\n" +
              kHead + "text about [j1]\n" + kHead + "[j12/b2] batch of twelve\n");
  LogSearchRequest request;
  request.job = JobId{1};
  EXPECT_EQ(all(request),
            (std::vector<std::string>{kHead + "[j1] job one", kHead + "[j1/b2] batch", kHead + "[j1/b23] other batch"}));
  request.batch = 2;
  EXPECT_EQ(all(request), (std::vector<std::string>{kHead + "[j1/b2] batch"}));
  request.pattern = "other";
  EXPECT_TRUE(all(request).empty());
}

TEST_F(LogSearchTest, FiltersByTimeAndLevel) {
  file(1, "2026-01-02T03:04:05.677Z error n3 before\n" + kHead + "then\n" +
              "2026-01-02T03:04:06.000Z warning n3 after\nno head at all\n");
  LogSearchRequest request;
  request.since_ms = 1'767'323'045'678U;
  EXPECT_EQ(all(request).size(), 2U);
  request.level = LogLevel::warning;
  ASSERT_EQ(all(request).size(), 1U);
  request.since_ms = 0;
  EXPECT_EQ(all(request).size(), 2U);
  request.pattern = "AFTER";
  EXPECT_TRUE(all(request).empty());
  request.ignore_case = true;
  EXPECT_EQ(all(request).size(), 1U);
}

TEST_F(LogSearchTest, PagesCoverEverythingOnceOverFilesAndGaps) {
  std::vector<std::string> expected;
  for (std::uint64_t number = 1; number <= 3; ++number) {
    std::string text;
    for (int i = 0; i < 500; ++i) {
      expected.push_back(kHead + "line " + std::to_string(number) + "." + std::to_string(i));
      text += expected.back() + "\n";
    }
    file(number, text);
  }
  file(3, kHead + "behind a gap\n", 1'000'000);
  expected.push_back(kHead + "behind a gap");
  LogSearchRequest request;
  request.max_lines = 7;
  EXPECT_EQ(all(request), expected);
  request.max_lines = kLogLinesPerReplyMax;
  EXPECT_EQ(all(request), expected);
}

TEST_F(LogSearchTest, AHalfLineIsNotALineYetAndIsFoundWhenItIsWhole) {
  file(1, "one\ntw");
  LogSearchRequest request;
  LogSearchReply reply = run(request, pieces);
  EXPECT_TRUE(reply.at_end);
  EXPECT_EQ(reply.matches, 1U);
  std::ofstream(pieces[0].file, std::ios::app) << "o\n";
  request.from = reply.next;
  reply = run(request, pieces);
  ASSERT_EQ(reply.lines.size(), 1U);
  EXPECT_EQ(reply.lines[0].text, "two");
}

TEST_F(LogSearchTest, CountsWithoutLinesAndSaysWhereTheEndIs) {
  file(1, "a\nb\na\n");
  LogSearchRequest request;
  request.pattern = "a";
  request.count_only = true;
  const LogSearchReply reply = run(request, pieces);
  EXPECT_EQ(reply.matches, 2U);
  EXPECT_TRUE(reply.lines.empty());
  EXPECT_EQ(reply.scanned_bytes, 6U);
  request.from = {std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max()};
  EXPECT_EQ(run(request, pieces).next, (LogPosition{1, 6}));
  EXPECT_FALSE(run(request, {}).held);
  EXPECT_TRUE(run(request, pieces).held);
}

TEST_F(LogSearchTest, LongLinesAreCutAndRepliesStayBounded) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += std::string(100'000, 'x') + "\n";
  file(1, text);
  LogSearchRequest request;
  const LogSearchReply reply = run(request, pieces);
  std::size_t bytes = 0;
  for (const LogLine& line : reply.lines) bytes += line.text.size();
  EXPECT_LE(bytes, kLogBytesPerReplyMax);
  EXPECT_LE(reply.lines.front().text.size(), kLogLineBytesMax);
  EXPECT_FALSE(reply.at_end);
  EXPECT_EQ(all(request).size(), 100U);
  file(2, std::string(5 << 20, 'y'));  // endless: passed over
  EXPECT_FALSE(all("y").empty());
}

// A word that is in nearly every line: after the first text the pattern is run over whole buffers.
TEST_F(LogSearchTest, CountsTheSameWhereTheWordIsInEveryLine) {
  std::string text;
  std::uint64_t expected = 0;
  for (int i = 0; i < 60'000; ++i) {
    text += kHead + "event=batch_leased to n" + std::to_string(i % 9) + "\n";
    expected += i % 9 == 3 || i % 9 == 7 ? 1 : 0;
  }
  ASSERT_GT(text.size(), 3U << 20U);
  file(1, text);
  LogSearchRequest request;
  request.pattern = "leased.* n[37]$";
  request.count_only = true;
  EXPECT_EQ(run(request, pieces).matches, expected);
  request.count_only = false;
  const auto lines = all(request);
  EXPECT_EQ(lines.size(), expected);
  EXPECT_TRUE(lines.back().ends_with("n3") || lines.back().ends_with("n7"));
}

TEST_F(LogSearchTest, BadPatternsAreRefusedAndSayWhy) {
  for (const char* bad : {"(", "a{1000}{1000}", "[z-a]", "\\", "(?P<x", "((a{100}){100}){100}"}) {
    LogSearchRequest request;
    request.pattern = bad;
    const auto search = LogSearch::compile(request);
    ASSERT_FALSE(search.ok()) << bad;
    EXPECT_EQ(search.error().code, Errc::invalid);
    EXPECT_NE(search.error().detail.find(bad), std::string::npos);
  }
  LogSearchRequest request;
  request.pattern.assign(kLogPatternBytesMax + 1, 'a');
  EXPECT_FALSE(LogSearch::compile(request).ok());
}

TEST(RequiredLiteral, IsInEveryMatch) {
  EXPECT_EQ(required_literal("batch_leased"), "batch_leased");
  EXPECT_EQ(required_literal("event=batch_.*n3"), "event=batch_");
  EXPECT_EQ(required_literal("ab?cdef"), "cdef");
  EXPECT_EQ(required_literal("abc*"), "ab");
  EXPECT_EQ(required_literal("abc+x"), "abc");
  EXPECT_EQ(required_literal("a\\.b\\[c"), "a.b[c");
  EXPECT_EQ(required_literal("(foo|bar)quux"), "quux");
  EXPECT_EQ(required_literal("[abc]long[^]x]tail"), "long");
  EXPECT_EQ(required_literal("foo|bar"), "");
  EXPECT_EQ(required_literal("\\x41bc"), "");
  EXPECT_EQ(required_literal("(?i)abc"), "");
  EXPECT_EQ(required_literal("abc{0,3}d"), "ab");
  EXPECT_EQ(required_literal("^start"), "start");
  EXPECT_EQ(required_literal("\\d+ms"), "ms");
  EXPECT_EQ(required_literal(""), "");
}

// The fast ways (literal, RE2 over whole buffers) find what a look at each line finds.
TEST_F(LogSearchTest, FindsWhatALookAtEachLineFinds) {
  Random random(7);
  std::vector<std::string> lines;
  std::string text;
  const std::string letters = "ab. 1\tx[\xC3\xA9";
  for (int i = 0; i < 400; ++i) {
    std::string line;
    for (std::uint64_t n = random.below(12); n > 0; --n) line += letters[random.below(letters.size() - 1)];
    lines.push_back(line);
    text += line + "\n";
  }
  file(1, text);
  const std::vector<std::string> parts = {"a",   "b",   "ab",    ".", "\\.", "a*",  "b+",     "x?",  "[ab]", "[^a]", "\\s",
                                          "\\S", "\\d", "(a|b)", "^", "$",   "\\b", "(?:ab)", "\\W", "a{2}", "|",    " "};
  for (int i = 0; i < 3000; ++i) {
    LogSearchRequest request;
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n) request.pattern += parts[random.below(parts.size())];
    if (random.chance(0.25)) request.pattern = "(?i)" + request.pattern;
    if (random.chance(0.1)) request.pattern = "\\A" + request.pattern;
    request.ignore_case = random.chance(0.25);
    auto search = LogSearch::compile(request);
    if (!search.ok()) continue;
    std::vector<std::string> expected;
    for (const std::string& line : lines) {
      if (search->matches(line)) expected.push_back(line);
    }
    ASSERT_EQ(all(request), expected) << request.pattern;
  }
}

}  // namespace
}  // namespace idunno
