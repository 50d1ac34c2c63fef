# The web page's files (ui/) as a C array, so that the frontend needs none at run time.
# Included: the rule. Run with -P: writes OUT from the files in DIR.
if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB files LIST_DIRECTORIES false ${DIR}/*.html ${DIR}/*.css ${DIR}/*.js ${DIR}/*.svg)
  set(arrays "") # file(GLOB) sorts
  set(table "")
  set(n 0)
  foreach(f ${files})
    get_filename_component(name ${f} NAME)
    file(SHA256 ${f} hash)
    string(SUBSTRING ${hash} 0 32 hash)
    file(READ ${f} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const unsigned char file${n}[] = {${bytes}};\n")
    string(APPEND table "    {\"${name}\", \"\\\"${hash}\\\"\", file${n}, sizeof file${n}},\n")
    math(EXPR n "${n} + 1")
  endforeach()
  file(WRITE ${OUT} "/* Made by cmake/ui.cmake from ui/. */\n#include \"api/ui.h\"\n\n${arrays}\n"
    "const struct ui_file ui_files[] = {\n${table}    {0},\n};\n")
else()
  file(GLOB UI_FILES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ui/*)
  set(UI_C ${CMAKE_BINARY_DIR}/ui_files.c)
  add_custom_command(OUTPUT ${UI_C} VERBATIM
    COMMAND ${CMAKE_COMMAND} -DDIR=${CMAKE_SOURCE_DIR}/ui -DOUT=${UI_C} -P ${CMAKE_CURRENT_LIST_FILE}
    DEPENDS ${UI_FILES} ${CMAKE_CURRENT_LIST_FILE} COMMENT "Embedding ui/")
  target_sources(room_api PRIVATE ${UI_C})
endif()
