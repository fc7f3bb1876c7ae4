#pragma once
/// What a key does to the view. Pure.

#include "cli/watch_frame.h"
#include "cli/watch_terminal.h"

namespace idunno::cli {

/// `scroll_max` and `page` are those of the frame that is shown. Events are counted from the newest, so there the keys up and
/// home lead back in time, away from it.
void press(Key key, WatchUi& ui, std::size_t scroll_max, std::size_t page);

}  // namespace idunno::cli
