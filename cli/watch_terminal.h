#pragma once
/// The terminal that a full-screen view draws on: alternate screen, keys without Enter, and only the lines that have changed are
/// written. Whatever way the view is left (Ctrl-Z included), the terminal is as it was before.

#include <termios.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/watch_text.h"

namespace idunno::cli {

enum class Key : std::uint8_t {
  quit,
  next,
  previous,
  one,
  two,
  three,
  four,
  up,
  down,
  page_up,
  page_down,
  home,
  end,
  pause,
  help,
  batches,
  redraw
};

/// Takes the whole keys from the front of `bytes`; a sequence that has only begun stays there. What is no key of ours is dropped.
/// Pure.
[[nodiscard]] std::vector<Key> take_keys(std::string& bytes);

/// What to write so that a terminal that shows `before` shows `after`. Pure.
[[nodiscard]] std::string screen_update(const std::vector<std::string>& before, const std::vector<std::string>& after);

struct TerminalSize {
  std::size_t width = 80;
  std::size_t height = 24;
};

class FullScreen {
 public:
  /// Stdin gives keys when it is a terminal, too.
  FullScreen();
  ~FullScreen();
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  void enter();
  void leave();
  /// false when the terminal is gone.
  [[nodiscard]] bool show(const std::vector<TextLine>& lines);
  void forget() { shown_.clear(); }  ///< the next `show` writes everything
  [[nodiscard]] static TerminalSize size();
  [[nodiscard]] bool has_keys() const { return before_.has_value(); }
  /// What was typed since; nothing when there is nothing. `closed` when stdin has ended.
  [[nodiscard]] std::vector<Key> read_keys(bool& closed);
  [[nodiscard]] Glyphs glyphs() const { return glyphs_; }

  /// A terminal that can do this: not TERM=dumb.
  [[nodiscard]] static bool possible();

 private:
  [[nodiscard]] bool write_all(const std::string& text);

  std::optional<termios> before_;
  std::vector<std::string> shown_;
  std::string typed_;
  Colours colours_ = Colours::none;
  Glyphs glyphs_ = Glyphs::ascii;
  bool entered_ = false;
};

}  // namespace idunno::cli
