#include "cli/watch_keys.h"

#include <algorithm>

namespace idunno::cli {

namespace {

void show(WatchUi& ui, int pane) {
  ui.pane = static_cast<Pane>((pane + kPanes) % kPanes);
  ui.scroll = 0;
  ui.help = false;
}

void scroll(WatchUi& ui, std::size_t lines, bool up, std::size_t scroll_max) {
  const bool from_newest = !ui.help && (ui.pane == Pane::overview || ui.pane == Pane::events);
  if (up == from_newest) {
    ui.scroll = lines > scroll_max - std::min(scroll_max, ui.scroll) ? scroll_max : ui.scroll + lines;
  } else {
    ui.scroll -= std::min(ui.scroll, lines);
  }
}

}  // namespace

void press(Key key, WatchUi& ui, std::size_t scroll_max, std::size_t page) {
  switch (key) {
    case Key::next:
      return show(ui, static_cast<int>(ui.pane) + 1);
    case Key::previous:
      return show(ui, static_cast<int>(ui.pane) - 1);
    case Key::one:
    case Key::two:
    case Key::three:
    case Key::four:
      return show(ui, static_cast<int>(key) - static_cast<int>(Key::one));
    case Key::up:
    case Key::down:
      return scroll(ui, 1, key == Key::up, scroll_max);
    case Key::page_up:
    case Key::page_down:
      return scroll(ui, std::max<std::size_t>(1, page), key == Key::page_up, scroll_max);
    case Key::home:
    case Key::end:
      return scroll(ui, scroll_max, key == Key::home, scroll_max);
    case Key::pause:
      ui.paused = !ui.paused;
      return;
    case Key::help:
      ui.help = !ui.help;
      ui.scroll = 0;
      return;
    case Key::batches:
      ui.batches = !ui.batches;
      ui.scroll = 0;
      return;
    case Key::quit:
    case Key::redraw:
      return;
  }
}

}  // namespace idunno::cli
