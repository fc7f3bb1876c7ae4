#include "cli/models/zoo.h"

#include "bus/strict_toml.h"

namespace idunno::models {
namespace {

constexpr const char* kFolder = "validated/vision/classification/";

ModelSpec image_spec(std::uint32_t side, ChannelOrder channels, std::vector<float> mean, std::vector<float> scale, bool softmax) {
  ModelSpec spec;
  spec.input.width = side;
  spec.input.height = side;
  spec.input.channels = channels;
  spec.input.mean = std::move(mean);
  spec.input.scale = std::move(scale);
  spec.output.kind = OutputKind::classify;
  spec.output.softmax = softmax;
  return spec;
}

/// "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]" of the zoo, on 0..255; shorter side 256, centre 224. These end in
/// logits.
ModelSpec normalised(bool softmax = true) {
  ModelSpec spec =
      image_spec(224, ChannelOrder::rgb, {123.675F, 116.28F, 103.53F}, {0.01712475F, 0.017507F, 0.01742919F}, softmax);
  spec.input.resize = ResizeKind::crop;
  spec.input.shorter = 256;
  return spec;
}

/// Networks that came from Caffe: BGR with the ImageNet mean subtracted, and a softmax at their end.
ModelSpec caffe(bool softmax = false) {
  ModelSpec spec = image_spec(224, ChannelOrder::bgr, {103.939F, 116.779F, 123.68F}, {1, 1, 1}, softmax);
  spec.input.resize = ResizeKind::crop;
  spec.input.shorter = 256;
  return spec;
}

/// White digits on black, pixels 0..255 as they are: 987 of the first 1000 MNIST test digits are right with mnist-8.
ModelSpec digits() {
  ModelSpec spec = image_spec(28, ChannelOrder::gray, {0}, {1}, true);
  spec.output.top = 3;
  return spec;
}

ZooModel entry(const std::string& folder, const std::string& name, std::uint64_t size, const std::string& sha256,
               const std::string& about, const std::string& licence, const ModelSpec& spec) {
  return {name, kFolder + folder + "/model/" + name + ".onnx", size, sha256, about, licence, spec};
}

}  // namespace

const std::vector<ZooModel>& zoo() {
  static const std::vector<ZooModel> all{
      entry("mnist", "mnist-8", 26'454, "2f06e72de813a8635c9bc0397ac447a601bdbfa7df4bebc278723b958831c9bf", "MNIST digits", "MIT",
            digits()),
      entry("mnist", "mnist-12", 26'143, "5c688690f8bacf667d4c2074af5ad0646ca328d7ab03eccf944a65b320171bdd", "MNIST digits",
            "MIT", digits()),
      entry("squeezenet", "squeezenet1.1-7", 4'956'208, "1eeff551a67ae8d565ca33b572fc4b66e3ef357b0eb2863bb9ff47a918cc4088",
            "SqueezeNet 1.1, ImageNet", "Apache-2.0", normalised()),
      entry("mobilenet", "mobilenetv2-7", 14'246'826, "c1c513582d56afceff8516c73804e484c81c6a830712ab6d682253f4a3cd042f",
            "MobileNetV2, ImageNet", "Apache-2.0", normalised()),
      entry("mobilenet", "mobilenetv2-12", 13'964'571, "c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5",
            "MobileNetV2, ImageNet", "Apache-2.0", normalised()),
      entry("resnet", "resnet18-v1-7", 46'820'737, "4e8f8653e7a2222b3904cc3fe8e304cd8b339ce1d05fd24688162f86fb6df52c",
            "ResNet-18 v1, ImageNet", "Apache-2.0", normalised()),
      entry("resnet", "resnet18-v2-7", 46'806'737, "3b4d048057854022232aa20bf68262e31718ab7119a17f920b8a2dc1433f824b",
            "ResNet-18 v2, ImageNet", "Apache-2.0", normalised()),
      entry("resnet", "resnet34-v1-7", 87'302'588, "883a41b2e30ddc2e422c108b091b5e70b92d37dc5c345a2c563dcae27971e2cc",
            "ResNet-34 v1, ImageNet", "Apache-2.0", normalised()),
      entry("resnet", "resnet50-v1-7", 102'583'340, "af16a04a6ec48ac494065d4439fe9dea590d337b9ca6dc328160ccf04a217b9c",
            "ResNet-50 v1, ImageNet", "Apache-2.0", normalised()),
      entry("resnet", "resnet50-v2-7", 102'442'452, "79102261eb6e5fd7af5d27f41316293e388c5cb691e5d25bfb035c4f64fefe31",
            "ResNet-50 v2, ImageNet", "Apache-2.0", normalised()),
      entry("shufflenet", "shufflenet-v2-10", 9'218'554, "8b85e969a0a5518b554c99548379d1ba54d973733a6a12012138d91852308584",
            "ShuffleNet v2, ImageNet", "BSD-3-Clause", normalised()),
      entry("alexnet", "bvlcalexnet-12", 243'863'787, "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
            "AlexNet of Caffe, ImageNet", "BSD-3-Clause", caffe()),
      entry("inception_and_googlenet/googlenet", "googlenet-12", 28'021'836,
            "c99c507058eaf41de8723408fdda7db8325cb57f0a89f2ee07a716d6e963e14e", "GoogLeNet, ImageNet", "BSD-3-Clause", caffe()),
      entry("inception_and_googlenet/googlenet", "googlenet-9", 28'020'232,
            "bd979d99d10d9acf84c5a67252bcae4992bf4e1afdab046cb0ea370e6f01ee38", "GoogLeNet, ImageNet", "BSD-3-Clause", caffe()),
  };
  return all;
}

Result<ZooModel> find_zoo_model(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& model : zoo()) {
    if (model.name == name) return model;
    names.push_back(model.name);
  }
  const std::string near = nearest_word(name, names);
  return Error{Errc::not_found, "the model zoo has no '" + name + "'" + (near.empty() ? "" : ", perhaps '" + near + "'") +
                                    "; `idunno model pull --list` shows all"};
}

}  // namespace idunno::models
