#include "cli/watch_terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "cli/app.h"

namespace idunno::cli {

namespace {

// A frame larger than any screen would be an attack on the view's memory, not a terminal.
constexpr std::size_t kWidthMax = 1000;
constexpr std::size_t kHeightMax = 500;
constexpr std::size_t kSequenceMax = 16;

struct Sequence {
  std::string_view bytes;
  Key key;
};
// xterm's, rxvt's and the Linux console's; ESC alone is not a key, since every sequence begins with it.
constexpr std::array kSequences{
    Sequence{"\x1b[A", Key::up},       Sequence{"\x1b[B", Key::down},
    Sequence{"\x1bOA", Key::up},       Sequence{"\x1bOB", Key::down},
    Sequence{"\x1b[5~", Key::page_up}, Sequence{"\x1b[6~", Key::page_down},
    Sequence{"\x1b[H", Key::home},     Sequence{"\x1b[F", Key::end},
    Sequence{"\x1bOH", Key::home},     Sequence{"\x1bOF", Key::end},
    Sequence{"\x1b[1~", Key::home},    Sequence{"\x1b[4~", Key::end},
    Sequence{"\x1b[7~", Key::home},    Sequence{"\x1b[8~", Key::end},
    Sequence{"\x1b[Z", Key::previous}, Sequence{"\x1b[C", Key::next},
    Sequence{"\x1b[D", Key::previous}, Sequence{"q", Key::quit},
    Sequence{"Q", Key::quit},          Sequence{"\x03", Key::quit},
    Sequence{"\t", Key::next},         Sequence{"1", Key::one},
    Sequence{"2", Key::two},           Sequence{"3", Key::three},
    Sequence{"4", Key::four},          Sequence{"k", Key::up},
    Sequence{"j", Key::down},          Sequence{"g", Key::home},
    Sequence{"G", Key::end},           Sequence{"p", Key::pause},
    Sequence{" ", Key::pause},         Sequence{"?", Key::help},
    Sequence{"h", Key::help},          Sequence{"b", Key::batches},
    Sequence{"\x0c", Key::redraw},
};

/// Length of an unknown escape sequence at the front, 0 when it has only begun.
std::size_t escape_length(const std::string& bytes) {
  if (bytes.size() < 2) return 0;
  if (bytes[1] != '[' && bytes[1] != 'O') return 1;
  for (std::size_t i = 2; i < bytes.size(); ++i) {
    if (bytes[i] >= 0x40 && bytes[i] <= 0x7E) return i + 1;
  }
  return bytes.size() > kSequenceMax ? bytes.size() : 0;
}

bool utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    std::string text(value);
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    return text.find("utf-8") != std::string::npos || text.find("utf8") != std::string::npos;
  }
  return false;
}

Colours terminal_colours() {
  if (!colours()) return Colours::none;
  const char* term = std::getenv("TERM");
  const char* direct = std::getenv("COLORTERM");
  const std::string_view name = term == nullptr ? "" : term;
  const bool many = name.find("256") != std::string_view::npos || name.find("kitty") != std::string_view::npos ||
                    name.find("alacritty") != std::string_view::npos || (direct != nullptr && *direct != '\0');
  return many ? Colours::many : Colours::basic;
}

}  // namespace

std::vector<Key> take_keys(std::string& bytes) {
  std::vector<Key> keys;
  while (!bytes.empty()) {
    const auto* found = std::find_if(kSequences.begin(), kSequences.end(),
                                     [&](const Sequence& each) { return bytes.compare(0, each.bytes.size(), each.bytes) == 0; });
    if (found != kSequences.end()) {
      keys.push_back(found->key);
      bytes.erase(0, found->bytes.size());
      continue;
    }
    const std::size_t length = bytes.front() == '\x1b' ? escape_length(bytes) : 1;
    if (length == 0) break;
    bytes.erase(0, length);
  }
  return keys;
}

std::string screen_update(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  std::string out;
  // Another size: lines were wrapped or moved by the terminal itself, so nothing that is there can be relied on.
  const bool all = before.size() != after.size();
  if (all) out += "\x1b[2J";
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (!all && before[i] == after[i]) continue;
    out += "\x1b[" + std::to_string(i + 1) + ";1H" + after[i];
  }
  return out;
}

FullScreen::FullScreen() : colours_(terminal_colours()), glyphs_(utf8_locale() ? Glyphs::unicode : Glyphs::ascii) {
  termios now{};
  if (isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &now) == 0) before_ = now;
  enter();
}

FullScreen::~FullScreen() { leave(); }

void FullScreen::enter() {
  if (entered_) return;
  entered_ = true;
  shown_.clear();
  if (before_) {
    termios raw = *before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // Ctrl-C and Ctrl-Z stay signals
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  }
  // Alternate screen, no cursor, no wrapping at the last column.
  (void)write_all("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J");
}

void FullScreen::leave() {
  if (!entered_) return;
  entered_ = false;
  (void)write_all("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l");
  if (before_) (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &*before_);
}

bool FullScreen::show(const std::vector<TextLine>& lines) {
  std::vector<std::string> next;
  next.reserve(lines.size());
  for (const TextLine& line : lines) next.push_back(ansi(line, colours_));
  const std::string update = screen_update(shown_, next);
  shown_ = std::move(next);
  return update.empty() || write_all(update);
}

TerminalSize FullScreen::size() {
  winsize size{};
  TerminalSize out;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return out;
  if (size.ws_col > 0) out.width = std::min<std::size_t>(size.ws_col, kWidthMax);
  if (size.ws_row > 0) out.height = std::min<std::size_t>(size.ws_row, kHeightMax);
  return out;
}

std::vector<Key> FullScreen::read_keys(bool& closed) {
  std::array<char, 256> buffer{};
  pollfd ready{STDIN_FILENO, POLLIN, 0};
  closed = false;
  if (poll(&ready, 1, 0) <= 0) return {};
  const ssize_t got = read(STDIN_FILENO, buffer.data(), buffer.size());
  if (got > 0) {
    typed_.append(buffer.data(), static_cast<std::size_t>(got));
  } else {
    closed = got == 0 || (errno != EINTR && errno != EAGAIN);
  }
  return take_keys(typed_);
}

bool FullScreen::possible() {
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

bool FullScreen::write_all(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t put = write(STDOUT_FILENO, text.data() + at, text.size() - at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) {
      pollfd ready{STDOUT_FILENO, POLLOUT, 0};
      static constexpr int kPatienceMs = 1000;
      if (poll(&ready, 1, kPatienceMs) <= 0) return false;
      continue;
    }
    if (put <= 0) return false;
    at += static_cast<std::size_t>(put);
  }
  return true;
}

}  // namespace idunno::cli
