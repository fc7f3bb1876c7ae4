#include "cli/models/architectures.h"

#include <algorithm>

#include "cli/models/onnx_builder.h"

namespace idunno::models {
namespace {

using ConvOptions = OnnxBuilder::ConvOptions;

/// LeCun et al. 1998 on 28x28 images (padded to 32x32 by the first convolution), with ReLU and max pooling as it is trained
/// today.
Tensor lenet5(OnnxBuilder& b) {
  Tensor x = b.input({1, 1, 28, 28});
  x = b.max_pool(b.relu(b.conv(x, 6, 5, {.pad = 2})), 2, 2);
  x = b.max_pool(b.relu(b.conv(x, 16, 5)), 2, 2);
  x = b.relu(b.fully_connected(b.flatten(x), 120));
  x = b.relu(b.fully_connected(x, 84));
  return b.fully_connected(x, 10, 1.0);
}

/// Krizhevsky 2014, "One weird trick", as in torchvision. Its adaptive pooling to 6x6 is the identity at 224x224.
Tensor alexnet(OnnxBuilder& b) {
  Tensor x = b.input({1, 3, 224, 224});
  x = b.max_pool(b.relu(b.conv(x, 64, 11, {.stride = 4, .pad = 2})), 3, 2);
  x = b.max_pool(b.relu(b.conv(x, 192, 5, {.pad = 2})), 3, 2);
  x = b.relu(b.conv(x, 384, 3, {.pad = 1}));
  x = b.relu(b.conv(x, 256, 3, {.pad = 1}));
  x = b.max_pool(b.relu(b.conv(x, 256, 3, {.pad = 1})), 3, 2);
  x = b.relu(b.fully_connected(b.dropout(b.flatten(x)), 4096));
  x = b.relu(b.fully_connected(b.dropout(x), 4096));
  return b.fully_connected(x, 1000, 1.0);
}

/// The last normalisation of a residual branch starts small: with untrained statistics nothing else keeps 16 sums in a row from
/// growing until one class gets all the probability.
constexpr float kBranchWeight = 0.25F;

Tensor residual_sum(OnnxBuilder& b, const Tensor& x, const Tensor& branch, std::int64_t channels, std::int64_t stride) {
  Tensor shortcut = x;
  if (stride != 1 || x.shape[1] != channels) {
    shortcut = b.batch_norm(b.conv(x, channels, 1, {.stride = stride, .bias = false}));
  }
  return b.relu(b.add(branch, shortcut));
}

Tensor basic_block(OnnxBuilder& b, const Tensor& x, std::int64_t width, std::int64_t stride) {
  Tensor y = b.relu(b.batch_norm(b.conv(x, width, 3, {.stride = stride, .pad = 1, .bias = false})));
  y = b.batch_norm(b.conv(y, width, 3, {.pad = 1, .bias = false}), 1e-5F, kBranchWeight);
  return residual_sum(b, x, y, width, stride);
}

/// The stride is in the 3x3 convolution ("v1.5"), as in torchvision.
Tensor bottleneck(OnnxBuilder& b, const Tensor& x, std::int64_t width, std::int64_t stride) {
  Tensor y = b.relu(b.batch_norm(b.conv(x, width, 1, {.bias = false})));
  y = b.relu(b.batch_norm(b.conv(y, width, 3, {.stride = stride, .pad = 1, .bias = false})));
  y = b.batch_norm(b.conv(y, 4 * width, 1, {.bias = false}), 1e-5F, kBranchWeight);
  return residual_sum(b, x, y, 4 * width, stride);
}

/// He et al. 2015, table 1: four stages of residual blocks, widths 64 to 512.
template <class Block>
Tensor resnet(OnnxBuilder& b, Block block, const std::vector<int>& blocks_per_stage) {
  Tensor x = b.input({1, 3, 224, 224});
  x = b.relu(b.batch_norm(b.conv(x, 64, 7, {.stride = 2, .pad = 3, .bias = false})));
  x = b.max_pool(x, 3, 2, 1);
  std::int64_t width = 64;
  for (std::size_t stage = 0; stage < blocks_per_stage.size(); ++stage, width *= 2) {
    for (int i = 0; i < blocks_per_stage[stage]; ++i) x = block(b, x, width, stage > 0 && i == 0 ? 2 : 1);
  }
  return b.fully_connected(b.flatten(b.global_average_pool(x)), 1000, 1.0);
}

Tensor resnet18(OnnxBuilder& b) { return resnet(b, basic_block, {2, 2, 2, 2}); }
Tensor resnet50(OnnxBuilder& b) { return resnet(b, bottleneck, {3, 4, 6, 3}); }

/// Iandola et al. 2016: squeeze with 1x1, expand with 1x1 and 3x3.
Tensor fire(OnnxBuilder& b, const Tensor& x, std::int64_t squeeze, std::int64_t expand) {
  const Tensor s = b.relu(b.conv(x, squeeze, 1));
  return b.concat({b.relu(b.conv(s, expand, 1)), b.relu(b.conv(s, expand, 3, {.pad = 1}))});
}

/// Version 1.1: pools earlier than 1.0. All pools divide evenly at 224x224, so rounding up or down is the same.
Tensor squeezenet1_1(OnnxBuilder& b) {
  Tensor x = b.input({1, 3, 224, 224});
  x = b.max_pool(b.relu(b.conv(x, 64, 3, {.stride = 2})), 3, 2);
  x = b.max_pool(fire(b, fire(b, x, 16, 64), 16, 64), 3, 2);
  x = b.max_pool(fire(b, fire(b, x, 32, 128), 32, 128), 3, 2);
  x = fire(b, fire(b, x, 48, 192), 48, 192);
  x = fire(b, fire(b, x, 64, 256), 64, 256);
  x = b.relu(b.conv(b.dropout(x), 1000, 1));
  return b.flatten(b.global_average_pool(x));
}

/// Szegedy et al. 2015, "Rethinking the Inception Architecture", as in torchvision and without the auxiliary head.
class InceptionV3 {
 public:
  explicit InceptionV3(OnnxBuilder& b) : b_(b) {}

  Tensor build() {
    Tensor x = b_.input({1, 3, 299, 299});
    x = unit(unit(unit(x, 32, 3, 2), 32, 3), 64, 3, 1, 1);
    x = b_.max_pool(x, 3, 2);
    x = b_.max_pool(unit(unit(x, 80, 1), 192, 3), 3, 2);
    for (const std::int64_t pooled : {32, 64, 64}) x = grid35(x, pooled);
    x = reduce_to_17(x);
    for (const std::int64_t width : {128, 160, 160, 192}) x = grid17(x, width);
    x = reduce_to_8(x);
    x = grid8(grid8(x));
    return b_.fully_connected(b_.flatten(b_.dropout(b_.global_average_pool(x))), 1000, 1.0);
  }

 private:
  /// Convolution, normalisation, ReLU.
  Tensor unit(const Tensor& x, std::int64_t channels, Window kernel, std::int64_t stride = 1, Window pad = 0) {
    return b_.relu(b_.batch_norm(b_.conv(x, channels, kernel, {.stride = stride, .pad = pad, .bias = false}), 1e-3F));
  }
  Tensor row7(const Tensor& x, std::int64_t channels) { return unit(x, channels, {1, 7}, 1, {0, 3}); }
  Tensor column7(const Tensor& x, std::int64_t channels) { return unit(x, channels, {7, 1}, 1, {3, 0}); }
  Tensor pooled_unit(const Tensor& x, std::int64_t channels) { return unit(b_.average_pool(x, 3, 1, 1), channels, 1); }

  Tensor grid35(const Tensor& x, std::int64_t pooled) {
    const Tensor one = unit(x, 64, 1);
    const Tensor five = unit(unit(x, 48, 1), 64, 5, 1, 2);
    const Tensor three_twice = unit(unit(unit(x, 64, 1), 96, 3, 1, 1), 96, 3, 1, 1);
    return b_.concat({one, five, three_twice, pooled_unit(x, pooled)});
  }
  Tensor reduce_to_17(const Tensor& x) {
    const Tensor three = unit(x, 384, 3, 2);
    const Tensor three_twice = unit(unit(unit(x, 64, 1), 96, 3, 1, 1), 96, 3, 2);
    return b_.concat({three, three_twice, b_.max_pool(x, 3, 2)});
  }
  Tensor grid17(const Tensor& x, std::int64_t width) {
    const Tensor one = unit(x, 192, 1);
    const Tensor seven = column7(row7(unit(x, width, 1), width), 192);
    const Tensor seven_twice = row7(column7(row7(column7(unit(x, width, 1), width), width), width), 192);
    return b_.concat({one, seven, seven_twice, pooled_unit(x, 192)});
  }
  Tensor reduce_to_8(const Tensor& x) {
    const Tensor three = unit(unit(x, 192, 1), 320, 3, 2);
    const Tensor seven_three = unit(column7(row7(unit(x, 192, 1), 192), 192), 192, 3, 2);
    return b_.concat({three, seven_three, b_.max_pool(x, 3, 2)});
  }
  Tensor split3(const Tensor& x) { return b_.concat({unit(x, 384, {1, 3}, 1, {0, 1}), unit(x, 384, {3, 1}, 1, {1, 0})}); }
  Tensor grid8(const Tensor& x) {
    const Tensor one = unit(x, 320, 1);
    const Tensor three = split3(unit(x, 384, 1));
    const Tensor three_twice = split3(unit(unit(x, 448, 1), 384, 3, 1, 1));
    return b_.concat({one, three, three_twice, pooled_unit(x, 192)});
  }

  OnnxBuilder& b_;
};

Tensor inception_v3(OnnxBuilder& b) { return InceptionV3(b).build(); }

struct Entry {
  Architecture about;
  Tensor (*build)(OnnxBuilder&);
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all{
      {{"lenet5", "LeCun et al. 1998", 61'706, 28, 1, 10}, lenet5},
      {{"alexnet", "Krizhevsky 2014", 61'100'840, 224, 3, 1000}, alexnet},
      {{"resnet18", "He et al. 2015", 11'689'512, 224, 3, 1000}, resnet18},
      {{"resnet50", "He et al. 2015", 25'557'032, 224, 3, 1000}, resnet50},
      {{"inception_v3", "Szegedy et al. 2015, without the auxiliary head", 23'834'568, 299, 3, 1000}, inception_v3},
      {{"squeezenet1_1", "Iandola et al. 2016", 1'235'496, 224, 3, 1000}, squeezenet1_1},
  };
  return all;
}

}  // namespace

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = [] {
    std::vector<Architecture> list;
    for (const auto& entry : entries()) list.push_back(entry.about);
    return list;
  }();
  return all;
}

Result<Architecture> find_architecture(const std::string& name) {
  std::string known;
  for (const auto& architecture : architectures()) {
    if (architecture.name == name) return architecture;
    known += (known.empty() ? "" : ", ") + architecture.name;
  }
  return Error{Errc::not_found, "no architecture is called '" + name + "'; there are " + known};
}

Result<Bytes> build_architecture(const std::string& name, std::uint64_t seed) {
  const auto entry = std::find_if(entries().begin(), entries().end(), [&](const Entry& e) { return e.about.name == name; });
  if (entry == entries().end()) return find_architecture(name).error();
  OnnxBuilder builder(name, seed);
  const Tensor output = entry->build(builder);
  if (builder.parameters() != entry->about.parameters) {
    return Error{Errc::internal, name + " has " + std::to_string(builder.parameters()) + " parameters, published are " +
                                     std::to_string(entry->about.parameters)};
  }
  return builder.finish(output);
}

ModelSpec architecture_spec(const Architecture& architecture) {
  ModelSpec spec;
  spec.input.width = architecture.side;
  spec.input.height = architecture.side;
  spec.output.kind = OutputKind::classify;
  spec.output.softmax = true;
  if (architecture.channels == 1) {
    // 0.1307 and 0.3081 of full scale: mean and deviation of the MNIST training images.
    spec.input.channels = ChannelOrder::gray;
    spec.input.mean = {33.3285F};
    spec.input.scale = {0.0127286F};
    return spec;
  }
  spec.input.channels = ChannelOrder::rgb;
  spec.input.resize = ResizeKind::crop;
  spec.input.shorter = architecture.side == 299 ? 342 : 256;
  spec.input.mean = {123.675F, 116.28F, 103.53F};
  spec.input.scale = {0.01712475F, 0.017507F, 0.01742919F};
  return spec;
}

}  // namespace idunno::models
