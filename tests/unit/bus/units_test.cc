#include "bus/units.h"

#include <gtest/gtest.h>

#include "bus/hash.h"

namespace idunno {
namespace {

TEST(Units, ReadsDurations) {
  EXPECT_EQ(parse_duration("250ms")->count(), 250'000);
  EXPECT_EQ(parse_duration("10s")->count(), 10'000'000);
  EXPECT_EQ(parse_duration("1.5m")->count(), 90'000'000);
  EXPECT_EQ(parse_duration("2h")->count(), 7'200'000'000);
  EXPECT_EQ(parse_duration("0us")->count(), 0);
  for (const char* text : {"", "10", "s", "-1s", "1 s", "1d", "1e3s", "nan", "infs", "99999999999h", "+1s", "0x1s"}) {
    EXPECT_FALSE(parse_duration(text).ok()) << text;
  }
}

TEST(Units, ReadsSizes) {
  EXPECT_EQ(*parse_size("4096"), 4096U);
  EXPECT_EQ(*parse_size("64K"), 65536U);
  EXPECT_EQ(*parse_size("1.5M"), 1572864U);
  EXPECT_EQ(*parse_size("2G"), 2ULL << 30U);
  EXPECT_EQ(*parse_size("1T"), 1ULL << 40U);
  for (const char* text : {"", "K", "-1", "1KB", "1.5", "1 M", "99999999999T"}) EXPECT_FALSE(parse_size(text).ok()) << text;
}

TEST(Units, ReadsRatesAndCounts) {
  EXPECT_DOUBLE_EQ(*parse_rate("100/s"), 100.0);
  EXPECT_DOUBLE_EQ(*parse_rate("6/m"), 0.1);
  for (const char* text : {"100", "/s", "0/s", "-1/s", "1/d", "1s/s"}) EXPECT_FALSE(parse_rate(text).ok()) << text;
  EXPECT_EQ(*parse_count("18446744073709551615"), 18446744073709551615ULL);
  for (const char* text : {"", "-1", "1.0", "18446744073709551616", "1x"}) EXPECT_FALSE(parse_count(text).ok()) << text;
}

TEST(Units, PrintsForPeople) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1503238554), "1.4 GiB");
  EXPECT_EQ(format_duration(Duration(850)), "850 us");
  EXPECT_EQ(format_duration(Duration(12'300)), "12.3 ms");
  EXPECT_EQ(format_duration(Duration(4'200'000)), "4.2 s");
  EXPECT_EQ(format_duration(Duration(200'000'000)), "3 m 20 s");
  EXPECT_EQ(format_duration(Duration(7'500'000'000)), "2 h 5 m");
}

// The reference values of xxHash 0.8: a change of them would make every stored block look damaged.
TEST(Hash, IsXxh3) {
  EXPECT_EQ(to_string(hash128("")), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash64(""), 0x2d06800538d394c2ULL);
  EXPECT_NE(hash64("a", 1), hash64("a", 2));
}

}  // namespace
}  // namespace idunno
