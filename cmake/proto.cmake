# protobuf-c's messages from workload/*.proto, and from the two of protobuf's own files that they import.
# Made into the build folder, compiled without warnings: the code is not ours.
find_program(PROTOC_C protoc-c REQUIRED)
pkg_check_modules(PROTOBUF REQUIRED protobuf) # for where it keeps its own .proto files
pkg_get_variable(PROTOBUF_PREFIX protobuf prefix)
set(PROTO_OUT ${CMAKE_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${PROTO_OUT})
set(PROTO_SOURCES "")
foreach(p workload/workload workload/sds google/protobuf/struct google/protobuf/any)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${p}.proto)
    set(file ${CMAKE_SOURCE_DIR}/${p}.proto)
  else()
    set(file ${PROTOBUF_PREFIX}/include/${p}.proto)
  endif()
  add_custom_command(OUTPUT ${PROTO_OUT}/${p}.pb-c.c ${PROTO_OUT}/${p}.pb-c.h VERBATIM
    COMMAND ${PROTOC_C} -I${CMAKE_SOURCE_DIR} -I${PROTOBUF_PREFIX}/include --c_out=${PROTO_OUT} ${file}
    DEPENDS ${file} COMMENT "protoc-c ${p}.proto")
  list(APPEND PROTO_SOURCES ${PROTO_OUT}/${p}.pb-c.c)
endforeach()
add_library(workload_proto OBJECT ${PROTO_SOURCES})
target_include_directories(workload_proto SYSTEM PUBLIC ${PROTO_OUT})
target_link_libraries(workload_proto PUBLIC PkgConfig::PROTOBUFC)
target_compile_options(workload_proto PRIVATE -w)
target_sources(room_workload PRIVATE $<TARGET_OBJECTS:workload_proto>)
target_include_directories(room_workload SYSTEM PUBLIC ${PROTO_OUT})
add_dependencies(room_workload workload_proto) # its headers first
