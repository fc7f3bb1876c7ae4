#include "bus/names.h"

namespace idunno {

std::string to_string(JobState state) {
  switch (state) {
    case JobState::queued:
      return "queued";
    case JobState::running:
      return "running";
    case JobState::paused:
      return "paused";
    case JobState::done:
      return "done";
    case JobState::failed:
      return "failed";
    case JobState::stopped:
      return "stopped";
  }
  return "unknown";
}

std::string to_string(NodeState state) {
  switch (state) {
    case NodeState::alive:
      return "alive";
    case NodeState::suspect:
      return "suspect";
    case NodeState::dead:
      return "dead";
    case NodeState::left:
      return "left";
    case NodeState::unknown:
      return "unknown";
  }
  return "unknown";
}

std::string to_string(ItemKind kind) {
  switch (kind) {
    case ItemKind::image:
      return "image";
    case ItemKind::pixels:
      return "pixels";
    case ItemKind::numbers:
      return "numbers";
    case ItemKind::nothing:
      return "nothing";
  }
  return "unknown";
}

std::string to_string(Phase phase) {
  switch (phase) {
    case Phase::none:
      return "none";
    case Phase::training:
      return "training";
    case Phase::inference:
      return "inference";
  }
  return "unknown";
}

std::string to_string(JobKind kind) { return kind == JobKind::training ? "training" : "inference"; }

bool is_over(JobState state) { return state == JobState::done || state == JobState::failed || state == JobState::stopped; }

}  // namespace idunno
