# libmayfly-tlog, the public library (include/mayfly/tlog.h): those files of base and tlog that
# judge a certificate's proof, and nothing of ours besides. Its objects are its own, because their
# symbols are hidden: the shared library and the static one each show mayfly_tlog_* alone.
include(GNUInstallDirs)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto>=3.0)
set(TLOG_ABI 1) # rises when a program built against an older one would break; never otherwise
set(TLOG_LIBRARY_SOURCES
  base/bytes.c base/bytes_codec.c base/clock.c base/der.c base/err.c
  tlog/cert.c tlog/checkpoint.c tlog/cosign.c tlog/entry.c tlog/hash.c tlog/library.c tlog/merkle.c
  tlog/pem.c tlog/policy.c tlog/proof.c tlog/vkey.c)
list(TRANSFORM TLOG_LIBRARY_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/)

add_library(mayfly_tlog_objects OBJECT ${TLOG_LIBRARY_SOURCES})
set_target_properties(mayfly_tlog_objects PROPERTIES C_VISIBILITY_PRESET hidden)
target_compile_options(mayfly_tlog_objects PRIVATE -fPIC) # after flags.cmake's -fPIE
target_link_libraries(mayfly_tlog_objects PRIVATE PkgConfig::CRYPTO)

add_library(mayfly-tlog SHARED $<TARGET_OBJECTS:mayfly_tlog_objects>)
set_target_properties(mayfly-tlog PROPERTIES LINKER_LANGUAGE C VERSION ${TLOG_ABI}.0.0
  SOVERSION ${TLOG_ABI} LINK_DEPENDS ${CMAKE_SOURCE_DIR}/tlog/mayfly-tlog.map)
target_link_libraries(mayfly-tlog PRIVATE PkgConfig::CRYPTO)
target_link_options(mayfly-tlog PRIVATE
  -Wl,--version-script=${CMAKE_SOURCE_DIR}/tlog/mayfly-tlog.map)
if(NOT MAYFLY_SANITIZE AND NOT MAYFLY_FUZZ AND NOT CMAKE_C_FLAGS MATCHES "--coverage")
  target_link_options(mayfly-tlog PRIVATE -Wl,-z,defs) # a file missing above is found here
endif()

# One object, so that hidden symbols can be made local ones: a static library has no other way to
# keep names like err_set to itself.
set(TLOG_STATIC ${CMAKE_BINARY_DIR}/libmayfly-tlog.a)
add_custom_command(OUTPUT ${TLOG_STATIC}
  COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o mayfly-tlog.o $<TARGET_OBJECTS:mayfly_tlog_objects>
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden mayfly-tlog.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${TLOG_STATIC}
  COMMAND ${CMAKE_AR} qcs ${TLOG_STATIC} mayfly-tlog.o
  DEPENDS mayfly_tlog_objects $<TARGET_OBJECTS:mayfly_tlog_objects>
  COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(mayfly-tlog-static ALL DEPENDS ${TLOG_STATIC})

# Where the file lies says where the prefix is, so an installed tree may be moved.
file(RELATIVE_PATH TLOG_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${CMAKE_SOURCE_DIR}/tlog/mayfly-tlog.pc.in ${CMAKE_BINARY_DIR}/mayfly-tlog.pc @ONLY)

install(TARGETS mayfly-tlog LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${TLOG_STATIC} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/include/mayfly/tlog.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mayfly)
install(FILES ${CMAKE_BINARY_DIR}/mayfly-tlog.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_SOURCE_DIR}/tlog/mayfly_tlog.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
