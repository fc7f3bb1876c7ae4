#pragma once
/// On what an experiment ran: figures without it say nothing.

#include "cli/app.h"

namespace idunno::cli {

/// Processor, cores, memory, kernel, versions of this program (with the commit it was built from), its libraries' and gnuplot's.
[[nodiscard]] Json machine_json();

}  // namespace idunno::cli
