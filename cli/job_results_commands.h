#pragma once
/// job results, job errors, job verify: the commands that read result rows.

#include "cli/app.h"

namespace idunno::cli {

void add_job_results_commands(CLI::App& job, App& app);

}  // namespace idunno::cli
