# Writes a C++ file with the bytes of the dashboard's files: cmake -DOUT=... -DROOT=... "-DFILES=a;b" -P embed.cmake
set(table "")
set(arrays "")
set(index 0)
foreach(file IN LISTS FILES)
  file(READ "${ROOT}/${file}" hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "constexpr unsigned char kFile${index}[] = {${bytes}};\n")
  file(SHA256 "${ROOT}/${file}" hash)
  string(SUBSTRING "${hash}" 0 16 tag)
  string(APPEND table "    {\"/${file}\", {reinterpret_cast<const char*>(kFile${index}), ${size}}, \"${tag}\"},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE "${OUT}" "// Made by cli/dash/embed.cmake.\n#include \"cli/dash_assets.h\"\n\nnamespace idunno::cli {\n\nnamespace {\n${arrays}}\n
const std::vector<DashAsset>& dash_assets() {\n  static const std::vector<DashAsset> assets{\n${table}  };\n  return assets;\n}\n
}  // namespace idunno::cli\n")
