#include "storage/sdfs/writer_id.h"

#include <sys/random.h>

namespace idunno {

std::uint64_t random_writer_id() {
  std::uint64_t writer = 0;
  while (writer == 0) {
    if (getrandom(&writer, sizeof writer, 0) != static_cast<ssize_t>(sizeof writer)) writer = 0;
  }
  return writer;
}

}  // namespace idunno
