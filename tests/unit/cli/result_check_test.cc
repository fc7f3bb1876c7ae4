#include "cli/result_check.h"

#include <gtest/gtest.h>

#include "bus/hash.h"

namespace idunno::cli {
namespace {

std::string row(std::uint64_t index, const std::string& query, bool error = false) {
  return "{\"index\":" + std::to_string(index) + ",\"query\":\"" + query + "\"," + (error ? "\"error\":\"bad\"" : "\"top\":[]") +
         "}\n";
}
Result<std::string> name_of(std::uint64_t query) { return "/q" + std::to_string(query); }

/// Five queries in batches of two.
ResultCheck check_of_five() { return ResultCheck(5, 2, name_of); }

TEST(ResultCheck, AcceptsOneRowForEachQuery) {
  ResultCheck check = check_of_five();
  EXPECT_TRUE(check.block(0, row(0, "/q0") + row(1, "/q1", true)).ok());
  EXPECT_TRUE(check.block(1, row(2, "/q2") + row(3, "/q3")).ok());
  EXPECT_FALSE(check.finish().ok());
  EXPECT_TRUE(check.block(2, row(4, "/q4")).ok());
  EXPECT_TRUE(check.finish().ok());
  EXPECT_EQ(check.rows(), 5U);
  EXPECT_EQ(check.errors(), 1U);
}

TEST(ResultCheck, RefusesWhatIsLostDoubledSwappedOrMisnamed) {
  const std::vector<std::string> bad{
      row(0, "/q0"),                                  // one row short
      row(0, "/q0") + row(0, "/q0"),                  // doubled
      row(1, "/q1") + row(0, "/q0"),                  // out of order
      row(0, "/q0") + row(2, "/q2"),                  // one skipped
      row(0, "/q0") + row(1, "/q1") + row(2, "/q2"),  // one of the next batch
      row(0, "/q0") + row(1, "/other"),               // another name
      row(0, "/q0") + "{}\n",
      row(0, "/q0") + "garbage\n",
      "",
  };
  for (const std::string& rows : bad) {
    ResultCheck check = check_of_five();
    auto status = check.block(0, rows);
    ASSERT_FALSE(status.ok()) << rows;
    EXPECT_EQ(status.error().code, Errc::damaged) << rows;
  }
}

TEST(ResultCheck, RefusesAMissingBatch) {
  ResultCheck check = check_of_five();
  EXPECT_FALSE(check.block(1, row(2, "/q2") + row(3, "/q3")).ok());
}

TEST(ResultCheck, DigestIsTheHashOfTheBatchHashesBigEndian) {
  ResultCheck check = check_of_five();
  const std::string first = row(0, "/q0") + row(1, "/q1");
  ASSERT_TRUE(check.block(0, first).ok());
  const Hash128 hash = hash128(first);
  std::string bytes;
  for (const std::uint64_t half : {hash.hi, hash.lo}) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(half >> shift & 0xFFU);
  }
  EXPECT_EQ(check.digest(), hash128(bytes));
}

}  // namespace
}  // namespace idunno::cli
