#include "bus/codec_instances.h"

#include "bus/codec.h"
#include "bus/log_messages.h"
#include "bus/swim_messages.h"

namespace idunno {

IDUNNO_MESSAGES(IDUNNO_DEFINED_MESSAGE)
IDUNNO_COMMANDS(IDUNNO_DEFINED_COMMAND)
IDUNNO_SWIM_MESSAGES(IDUNNO_DEFINED_MESSAGE)
IDUNNO_LOG_MESSAGES(IDUNNO_DEFINED_MESSAGE)

}  // namespace idunno
