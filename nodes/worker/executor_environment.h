#pragma once
/// Settings of the executor that libraries read when they are loaded, so that they must stand in the environment before exec:
/// limits of image decoders, one thread each, and no log lines of OpenCV.

#include <array>
#include <utility>

namespace idunno {

inline constexpr std::array<std::pair<const char*, const char*>, 9> kExecutorEnvironment{{
    {"OPENCV_IO_MAX_IMAGE_PIXELS", "33554432"},
    {"OPENCV_IO_MAX_IMAGE_WIDTH", "16384"},
    {"OPENCV_IO_MAX_IMAGE_HEIGHT", "16384"},
    {"OPENCV_LOG_LEVEL", "SILENT"},
    {"OPENCV_OPENCL_RUNTIME", "disabled"},
    {"OPENCV_FOR_THREADS_NUM", "1"},
    {"OMP_NUM_THREADS", "1"},
    {"OPENBLAS_NUM_THREADS", "1"},
    {"MALLOC_ARENA_MAX", "1"},
}};

}  // namespace idunno
