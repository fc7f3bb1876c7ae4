#include "cli/model_commands.h"

#include <memory>

#include "cli/models/architectures.h"

namespace idunno::cli {
namespace {

void add_add(CLI::App& model, App& app) {
  auto options = std::make_shared<ModelAddOptions>();
  CLI::App* command =
      model.add_subcommand("add", "check an ONNX file and store it as a new version of a model; prints NAME:VERSION");
  command->add_option("name", options->name, "name in the cluster")->required()->type_name("NAME");
  command->add_option("file", options->onnx, "the ONNX file")->required()->type_name("FILE.onnx");
  command->add_option("--spec", options->spec, "how inputs are prepared (default: FILE.toml beside FILE.onnx)")
      ->type_name("FILE.toml");
  command->footer("Example:\n  idunno model add squeezenet squeezenet1.0.onnx --spec squeezenet1.0.toml");
  command->callback([&app, options] { model_add(app, *options); });
}

void add_init(CLI::App& model, App& app) {
  std::string known;
  for (const auto& architecture : models::architectures()) known += (known.empty() ? "" : "|") + architecture.name;
  auto options = std::make_shared<ModelInitOptions>();
  CLI::App* command =
      model.add_subcommand("init", "build a published architecture with random weights, for real work without downloads");
  command->add_option("architecture", options->architecture, known)->required()->type_name("ARCH");
  command->add_option("--name", options->name, "name in the cluster (default: the architecture's)")->type_name("NAME");
  command->add_option("--seed", options->seed, "of the weights: the same seed gives the same file everywhere")
      ->capture_default_str();
  command->add_option("--output", options->output, "write FILE.onnx and FILE.toml here instead; needs no cluster")
      ->type_name("FILE.onnx");
  command->footer("Example:\n  idunno model init resnet18\n  idunno model init lenet5 --seed 7 --output lenet.onnx");
  command->callback([&app, options] { model_init(app, *options); });
}

void add_pull(CLI::App& model, App& app) {
  auto options = std::make_shared<ModelPullOptions>();
  CLI::App* command = model.add_subcommand("pull", "download a pre-trained model of the public ONNX model zoo and add it");
  command->add_option("zoo_name", options->zoo_name, "as `--list` shows it")->type_name("NAME");
  command->add_flag("--list", options->list, "show what can be had");
  command->add_option("--name", options->name, "name in the cluster (default: the zoo's)")->type_name("NAME");
  command->add_option("--labels", options->labels, "names of the classes, one a line (default: class numbers)")
      ->type_name("FILE");
  command->add_option("--url-base", options->url_base, "a mirror of the zoo")->type_name("URL");
  command->add_option("--cache", options->cache, "folder for downloads (default: $XDG_CACHE_HOME/idunno or ~/.cache/idunno)")
      ->type_name("DIR");
  command->footer("Example:\n  idunno model pull --list\n  idunno model pull squeezenet1.1-7 --labels imagenet_classes.txt");
  command->callback([&app, options] { model_pull(app, *options); });
}

void add_check(CLI::App& model, App& app) {
  auto options = std::make_shared<ModelCheckOptions>();
  CLI::App* command =
      model.add_subcommand("check", "load a model in an executor; print what it is, what it needs and how fast it is");
  command->add_option("model", options->what, "an ONNX file, or a model of the cluster")->required()->type_name("FILE|NAME[:V]");
  command->add_option("--spec", options->spec, "default: FILE.toml beside FILE.onnx")->type_name("FILE.toml");
  command->footer("Example:\n  idunno model check squeezenet1.0.onnx\n  idunno model check resnet18:2 --json");
  command->callback([&app, options] { model_check(app, *options); });
}

}  // namespace

void add_model_commands(CLI::App& root, App& app) {
  CLI::App* model = root.add_subcommand("model", "models: add, init, pull, check, list, show, remove");
  model->require_subcommand(1);
  model->footer("Example:\n  idunno model init resnet18\n  idunno model list");
  add_add(*model, app);
  add_init(*model, app);
  add_pull(*model, app);
  add_check(*model, app);

  auto all = std::make_shared<bool>(false);
  CLI::App* list = model->add_subcommand("list", "models of the cluster, newest version each");
  list->add_flag("--all", *all, "all versions");
  add_stale_flag(*list, app);
  list->footer("Example:\n  idunno model list");
  list->callback([&app, all] { model_list(app, *all); });

  auto shown = std::make_shared<std::string>();
  CLI::App* show = model->add_subcommand("show", "one model: its files, spec and origin");
  show->add_option("model", *shown, "model, or model:version")->required()->type_name("NAME[:V]");
  show->footer("Example:\n  idunno model show resnet18:2");
  show->callback([&app, shown] { model_show(app, *shown); });

  auto removed = std::make_shared<std::string>();
  CLI::App* remove =
      model->add_subcommand("remove", "remove all versions of a model and their files; refused while a job uses it");
  remove->add_option("name", *removed, "name in the cluster")->required()->type_name("NAME");
  remove->footer("Example:\n  idunno model remove resnet18");
  remove->callback([&app, removed] { model_remove(app, *removed); });
}

}  // namespace idunno::cli
