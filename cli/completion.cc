#include "cli/completion.h"

#include <fmt/core.h>

#include <cstdio>
#include <functional>

#include "cli/app.h"

namespace idunno::cli {

namespace {

std::vector<const CLI::App*> subcommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* sub) { return !sub->get_name().empty(); });
}

/// A command with its place in the tree: "" for the root, "/job/list".
using Visit = std::function<void(const std::string& path, const CLI::App& app)>;
void walk(const CLI::App& app, const std::string& path, const Visit& visit) {
  visit(path, app);
  for (const CLI::App* sub : subcommands(app)) walk(*sub, path + "/" + sub->get_name(), visit);
}

struct Word {
  std::string text;
  std::string what;
};

/// What may follow: subcommands, and the options of the command and of all above it.
std::vector<Word> words_of(const CLI::App& app) {
  std::vector<Word> words;
  for (const CLI::App* sub : subcommands(app)) words.push_back({sub->get_name(), sub->get_description()});
  for (const CLI::App* at = &app; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        if (at == &app || name != "help") words.push_back({"--" + name, option->get_description()});
      }
    }
  }
  return words;
}

std::string all_paths(const CLI::App& root, const std::string& separator) {
  std::string out;
  walk(root, "", [&](const std::string& path, const CLI::App&) {
    if (!path.empty()) out += (out.empty() ? "" : separator) + path;
  });
  return out;
}

/// Inside single quotes of a shell.
std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string roff(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((i == 0 || text[i - 1] == '\n') && (text[i] == '.' || text[i] == '\'')) out += "\\&";
    if (text[i] == '\\') {
      out += "\\e";
    } else if (text[i] == '-') {
      out += "\\-";
    } else {
      out += text[i];
    }
  }
  return out;
}

void roff_options(std::string& out, const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() && option->get_lnames().empty() && option->get_snames().empty()) {
      out += ".TP\n\\fI" + roff(option->get_name(true)) + "\\fR\n" + roff(option->get_description()) + "\n";
      continue;
    }
    std::string names;
    for (const std::string& name : option->get_snames()) names += (names.empty() ? "-" : ", -") + name;
    for (const std::string& name : option->get_lnames()) names += (names.empty() ? "--" : ", --") + name;
    const bool takes_value = option->get_items_expected_max() > 0;
    out += ".TP\n\\fB" + roff(names) + "\\fR" + (takes_value ? " \\fI" + roff(option->get_type_name()) + "\\fR" : "") + "\n" +
           roff(option->get_description()) + "\n";
  }
}

}  // namespace

std::string bash_completion(const CLI::App& root) {
  std::string out =
      "# bash completion for idunno: source it, or save it as ~/.local/share/bash-completion/completions/idunno\n"
      "_idunno() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} path= words= i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"$path/${COMP_WORDS[i]}\" in\n";
  out += "      " + all_paths(root, "|") + ") path=\"$path/${COMP_WORDS[i]}\" ;;\n";
  out += "    esac\n  done\n  case \"$path\" in\n";
  walk(root, "", [&](const std::string& path, const CLI::App& app) {
    std::string words;
    for (const Word& word : words_of(app)) words += (words.empty() ? "" : " ") + word.text;
    out += fmt::format("    {}) words={} ;;\n", path.empty() ? "''" : path, shell_quoted(words));
  });
  out += "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _idunno idunno\n";
  return out;
}

std::string zsh_completion(const CLI::App& root) {
  std::string out =
      "#compdef idunno\n"
      "# zsh completion for idunno: save it as _idunno in a folder of $fpath\n"
      "_idunno() {\n"
      "  local cmdpath= i\n"
      "  local -a found\n"
      "  for ((i = 2; i < CURRENT; i++)); do\n"
      "    case \"$cmdpath/${words[i]}\" in\n";
  out += "      " + all_paths(root, "|") + ") cmdpath=\"$cmdpath/${words[i]}\" ;;\n";
  out += "    esac\n  done\n  case \"$cmdpath\" in\n";
  walk(root, "", [&](const std::string& path, const CLI::App& app) {
    out += fmt::format("    {}) found=(", path.empty() ? "''" : path);
    for (const Word& word : words_of(app)) {
      std::string entry;
      for (const char c : word.text) entry += c == ':' ? std::string("\\:") : std::string(1, c);
      out += "\n      " + shell_quoted(entry + ":" + word.what);
    }
    out += ") ;;\n";
  });
  out += "  esac\n  _describe 'idunno' found\n  _files\n}\n_idunno \"$@\"\n";
  return out;
}

std::string fish_completion(const CLI::App& root) {
  std::string out =
      "# fish completion for idunno: save it as ~/.config/fish/completions/idunno.fish\n"
      "function __idunno_at\n"
      "  set -l path ''\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$path/$word\"\n";
  out += "      case " + all_paths(root, " ") +
         "\n        set path \"$path/$word\"\n    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\n";
  walk(root, "", [&](const std::string& path, const CLI::App& app) {
    const std::string condition = shell_quoted(fmt::format("__idunno_at \"{}\"", path));
    for (const Word& word : words_of(app)) {
      const bool option = word.text.compare(0, 2, "--") == 0;
      out += fmt::format("complete -c idunno -n {} {} {} -d {}\n", condition, option ? "-l" : "-a",
                         option ? word.text.substr(2) : word.text, shell_quoted(word.what));
    }
  });
  return out;
}

std::string man_page(const CLI::App& root) {
  std::string out = ".TH IDUNNO 1 \"\" \"idunno " IDUNNO_VERSION "\"\n.SH NAME\nidunno \\- distributed batch inference\n";
  out +=
      ".SH SYNOPSIS\n\\fBidunno\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n" + roff(root.get_description()) + "\n";
  out += ".SH GLOBAL OPTIONS\nThey may stand before or after the command.\n";
  roff_options(out, root);
  out += ".SH COMMANDS\n";
  walk(root, "", [&](const std::string& path, const CLI::App& app) {
    if (path.empty()) return;
    std::string name = "idunno" + path;
    for (char& c : name) c = c == '/' ? ' ' : c;
    out += ".SS \"" + roff(name) + "\"\n" + roff(app.get_description()) + "\n";
    roff_options(out, app);
    if (!app.get_footer().empty()) out += ".PP\n.nf\n" + roff(app.get_footer()) + "\n.fi\n";
  });
  out += ".SH EXIT STATUS\n.nf\n" + roff(root.get_footer()) + "\n.fi\n";
  return out;
}

void add_completion_command(CLI::App& root, App&) {
  auto shell = std::make_shared<std::string>();
  CLI::App* completion = root.add_subcommand("completion", "completion for a shell, to stdout");
  completion->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
  completion->callback([&root, shell] {
    const std::string text = *shell == "bash"  ? bash_completion(root)
                             : *shell == "zsh" ? zsh_completion(root)
                                               : fish_completion(root);
    std::fwrite(text.data(), 1, text.size(), stdout);
  });
  completion->footer("Example:\n  source <(idunno completion bash)");
  CLI::App* man = root.add_subcommand("man", "the manual page, to stdout");
  man->callback([&root] {
    const std::string text = man_page(root);
    std::fwrite(text.data(), 1, text.size(), stdout);
  });
  man->footer("Example:\n  idunno man | man -l -");
}

}  // namespace idunno::cli
