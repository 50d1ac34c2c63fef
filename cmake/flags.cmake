# Warnings are errors, in both compilers; hardening follows the OpenSSF compiler options guide.
add_compile_definitions(_GNU_SOURCE MAYFLY_VERSION="${PROJECT_VERSION}")
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
add_compile_options(-Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes
  -Wmissing-prototypes -Wwrite-strings -Wformat=2 -Wvla -Wundef -Wcast-qual
  -Wno-unused-parameter -Wimplicit-fallthrough -fno-common -fno-strict-aliasing
  -fno-delete-null-pointer-checks)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wduplicated-cond -Wlogical-op -Wtrampolines)
endif()
if(MAYFLY_FAULTS)
  add_compile_definitions(MAYFLY_FAULTS=1)
endif()
if(MAYFLY_SANITIZE)
  add_compile_options(-fsanitize=${MAYFLY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MAYFLY_SANITIZE})
  add_compile_definitions(MAYFLY_SANITIZED=1)
endif()
if(MAYFLY_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
# What only tests are run with is linked faster, where LLVM's linker is there; what is shipped by the system's own.
find_program(MAYFLY_LLD ld.lld)
if(MAYFLY_LLD AND MAYFLY_TESTS AND NOT MAYFLY_HARDEN)
  add_link_options(-fuse-ld=lld)
endif()
if(MAYFLY_HARDEN)
  add_compile_options(-D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection
    -fcf-protection=full -ftrivial-auto-var-init=zero -fPIE)
  add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed)
  # not for the shared library, which plugins load
  add_link_options($<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-pie>
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-Wl,-z,nodlopen>)
endif()
