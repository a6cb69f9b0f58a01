#include "initramfs/closure/grub_config.h"

#include <algorithm>
#include <set>

namespace bootstream {
namespace {

// Words of GRUB's shell; what is quoted belongs to its word.
class Words {
 public:
  explicit Words(std::string_view text) : text_(text) {}

  // False: there are no more.
  bool Next(std::string& word) {
    SkipBetween();
    if (at_ == text_.size()) return false;
    word.clear();
    while (at_ < text_.size() && !Ends(text_[at_])) Take(word);
    return true;
  }

 private:
  static bool Ends(char c) {
    return std::string_view(" \t\r\n;{}|&<>").find(c) != std::string_view::npos;
  }
  void SkipBetween() {
    while (at_ < text_.size()) {
      if (text_[at_] == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (Ends(text_[at_])) {
        ++at_;
      } else {
        return;
      }
    }
  }
  void Take(std::string& word) {
    const char c = text_[at_++];
    if (c == '\\' && at_ < text_.size()) {
      word += text_[at_++];
    } else if (c == '\'' || c == '"') {
      const size_t end = std::min(text_.find(c, at_), text_.size());
      word += text_.substr(at_, end - at_);
      at_ = std::min(end + 1, text_.size());
    } else if (c == '$' && text_.substr(at_).starts_with('{')) {
      const size_t end = std::min(text_.find('}', at_), text_.size());
      word += c;
      at_ = std::min(end + 1, text_.size());
    } else {
      word += c;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Of font=/usr/share/x: what is behind the "=".
std::string_view Value(std::string_view word) {
  const size_t equals = word.find('=');
  const size_t slash = word.find('/');
  if (equals == std::string_view::npos || slash == std::string_view::npos ||
      equals > slash) {
    return word;
  }
  return word.substr(equals + 1);
}

std::string_view WithoutDevice(std::string_view path) {
  if (!path.starts_with('(')) return path;
  const size_t end = path.find(')');
  return end == std::string_view::npos ? path : path.substr(end + 1);
}

}  // namespace

std::vector<std::string> PathsNamedBy(std::string_view grub_cfg) {
  std::set<std::string> paths;
  Words words(grub_cfg);
  for (std::string word; words.Next(word);) {
    const std::string_view path = WithoutDevice(Value(word));
    if (!path.starts_with('/') || path.find('$') != std::string_view::npos) {
      continue;
    }
    paths.emplace(path);
  }
  return {paths.begin(), paths.end()};
}

}  // namespace bootstream
