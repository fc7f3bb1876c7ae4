#include "cli/root.h"

int main(int argc, char** argv) { return idunno::cli::run(argc, argv); }
