#include "cli/watch_text.h"

#include <gtest/gtest.h>

#include "bus/base/random.h"
#include "cli/watch_table.h"
#include "cli/watch_terminal.h"

namespace idunno::cli {
namespace {

TEST(WatchText, CountsColumnsAsTerminalsDo) {
  EXPECT_EQ(columns_of(std::string_view("abc")), 3U);
  EXPECT_EQ(columns_of(std::string_view("é█…")), 3U);
  EXPECT_EQ(columns_of(std::string_view("猫🎉")), 4U);
  EXPECT_EQ(columns_of(std::string_view("e\xcc\x81")), 1U);  // combining acute
  EXPECT_EQ(columns_of(std::string_view("\xff\xc0")), 2U);   // shown as '?' each
}

TEST(WatchText, LetsNoControlCharacterThrough) {
  EXPECT_EQ(safe_text("a\x1b[2J\n\x7f", Glyphs::unicode), "a?[2J??");
  EXPECT_EQ(safe_text("\xc2\x9b"
                      "31m",
                      Glyphs::unicode),
            "?31m")
      << "CSI in one character";
  EXPECT_EQ(safe_text("a\xe2\x80\xae"
                      "b",
                      Glyphs::unicode),
            "a?b")
      << "right-to-left override";
  EXPECT_EQ(safe_text("\xed\xa0\x80", Glyphs::unicode), "???") << "surrogate";
  EXPECT_EQ(safe_text("\xc0\xaf", Glyphs::unicode), "??") << "overlong";
  EXPECT_EQ(safe_text("é猫", Glyphs::ascii), "??");
}

TEST(WatchText, CutsBetweenCharactersAndSaysSo) {
  EXPECT_EQ(cut_text("resnet18", 8, Glyphs::unicode), "resnet18");
  EXPECT_EQ(cut_text("resnet18", 5, Glyphs::unicode), "resn…");
  EXPECT_EQ(cut_text("猫猫猫", 4, Glyphs::unicode), "猫…");
  EXPECT_EQ(cut_text("abc", 0, Glyphs::unicode), "");
}

TEST(WatchText, AnyBytesFitAnyWidth) {
  Random random(7);
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    for (std::uint64_t i = random.below(60); i > 0; --i) bytes += static_cast<char>(random.below(256));
    const std::size_t width = random.below(40);
    TextLine line;
    line.add(bytes).cell(bytes, random.below(20), true, Ink::bad).add("猫");
    line.fit(width);
    EXPECT_EQ(line.width(), width);
    EXPECT_EQ(columns_of(line.plain()), width);
  }
}

TEST(WatchText, BarsFillInEighths) {
  const auto bar = [](double fraction, Glyphs glyphs) {
    TextLine line;
    add_bar(line, fraction, 4, Ink::good, glyphs);
    return line.plain();
  };
  EXPECT_EQ(bar(0, Glyphs::unicode), "····");
  EXPECT_EQ(bar(0.53125, Glyphs::unicode), "██▏·");
  EXPECT_EQ(bar(7, Glyphs::unicode), "████");
  EXPECT_EQ(bar(0.5, Glyphs::ascii), "##--");
}

TEST(WatchText, SparklineShowsTheNewestScaledToTheLargest) {
  EXPECT_EQ(sparkline({1, 0, 50, 100}, 3, Glyphs::unicode), "▁▅█");
  EXPECT_EQ(sparkline({5}, 3, Glyphs::unicode), "  █");
  EXPECT_EQ(sparkline({0, 0}, 2, Glyphs::unicode), "▁▁");
}

TEST(WatchText, NoColourMeansNoColour) {
  for (int ink = 0; ink <= static_cast<int>(Ink::job5); ++ink) {
    TextLine line;
    line.add("x", static_cast<Ink>(ink));
    const std::string text = ansi(line, Colours::none);
    EXPECT_EQ(text.find("\x1b[3"), std::string::npos);
    EXPECT_EQ(text.find("\x1b[4"), std::string::npos);
    EXPECT_EQ(text.find("38;5"), std::string::npos);
  }
}

TEST(WatchTable, LeavesOutTheColumnsOfTheHighestRank) {
  const auto cell = [](const char* text) {
    LiveCell out;
    out.text.add(text);
    return out;
  };
  const std::vector<LiveColumn> columns{{"ID", 0}, {"LONG NAME", 2}, {"RATE", 1, true}};
  const std::vector<std::vector<LiveCell>> rows{{cell("j1"), cell("cats"), cell("9.5")}};
  EXPECT_EQ(live_table(columns, rows, 19, Glyphs::unicode)[1].plain(), "j1  cats        9.5");
  EXPECT_EQ(live_table(columns, rows, 18, Glyphs::unicode)[1].plain(), "j1   9.5");
  EXPECT_EQ(live_table(columns, rows, 7, Glyphs::unicode)[1].plain(), "j1");
}

TEST(WatchTerminal, WritesOnlyTheLinesThatHaveChanged) {
  EXPECT_EQ(screen_update({"a", "b"}, {"a", "b"}), "");
  EXPECT_EQ(screen_update({"a", "b"}, {"a", "c"}), "\x1b[2;1Hc");
  EXPECT_EQ(screen_update({"a"}, {"a", "b"}), "\x1b[2J\x1b[1;1Ha\x1b[2;1Hb");
}

TEST(WatchTerminal, TakesWholeKeysAndKeepsWhatHasOnlyBegun) {
  std::string bytes = "q\x1b[A\x1b[6~\x1b[200~zz\x1b[";
  EXPECT_EQ(take_keys(bytes), (std::vector<Key>{Key::quit, Key::up, Key::page_down}));
  EXPECT_EQ(bytes, "\x1b[");
  bytes += "B";
  EXPECT_EQ(take_keys(bytes), std::vector<Key>{Key::down});
  EXPECT_TRUE(bytes.empty());
}

TEST(WatchTerminal, GarbageIsDroppedAndDoesNotPileUp) {
  std::string bytes = "\x1b[" + std::string(100, ';');
  EXPECT_TRUE(take_keys(bytes).empty());
  EXPECT_LT(bytes.size(), 20U);
}

}  // namespace
}  // namespace idunno::cli
