# Options and the settings that every target of this project shares. Settings are directory-scoped, so that a project
# which adds this one by add_subdirectory keeps its own.
include_guard(GLOBAL)
include(CMakeDependentOption)

if(NOT DEFINED PROJECT_IS_TOP_LEVEL)
  string(COMPARE EQUAL "${CMAKE_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}" PROJECT_IS_TOP_LEVEL)
endif()

option(AUTOSP_SANITIZE "Build the torch-free part with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
set(AUTOSP_SANITIZE_RUNTIME "" CACHE STRING "Build the communicators with a sanitizer: address or thread; libtorch is not instrumented")
option(AUTOSP_WERROR "Treat warnings in this project's code as errors" ${PROJECT_IS_TOP_LEVEL})
option(AUTOSP_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(AUTOSP_BUILD_TOOLS "Build autosp-opt (and autosp-run with torch)" ${PROJECT_IS_TOP_LEVEL})
option(AUTOSP_INSTALL "Generate the install rules of the library and its headers" ${PROJECT_IS_TOP_LEVEL})
option(AUTOSP_FMT_HEADER_ONLY "Compile fmt in, so that nothing needs libfmt.so at run time" OFF)
# A sanitized extension module cannot be loaded into a plain Python, and torch itself is not instrumented.
cmake_dependent_option(AUTOSP_BUILD_PYTHON "Build the Python extension module _core" ${PROJECT_IS_TOP_LEVEL}
                       "NOT AUTOSP_SANITIZE" OFF)
cmake_dependent_option(AUTOSP_WITH_TORCH "Build what needs libtorch, if the wheel is found" ${PROJECT_IS_TOP_LEVEL}
                       "NOT AUTOSP_SANITIZE" OFF)
if(AUTOSP_SANITIZE_RUNTIME STREQUAL "address")
  set(AUTOSP_SANITIZE_RUNTIME_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=vptr
                                    -fno-omit-frame-pointer -g1)
elseif(AUTOSP_SANITIZE_RUNTIME STREQUAL "thread")
  set(AUTOSP_SANITIZE_RUNTIME_FLAGS -fsanitize=thread -g1 -Wno-tsan)
elseif(AUTOSP_SANITIZE_RUNTIME)
  message(FATAL_ERROR "autosp: AUTOSP_SANITIZE_RUNTIME is \"${AUTOSP_SANITIZE_RUNTIME}\", expected address or thread")
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
  endif()
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
endif()

add_compile_options(-Wall -Wextra)
if(AUTOSP_WERROR)
  add_compile_options(-Werror)
endif()
if(AUTOSP_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1)
  add_link_options(-fsanitize=address,undefined)
  # Instrumentation hides initialisations from g++'s flow analysis; the plain build keeps these warnings.
  add_compile_options(-Wno-maybe-uninitialized)
endif()

find_program(AUTOSP_CCACHE ccache)
mark_as_advanced(AUTOSP_CCACHE)
if(AUTOSP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without the sloppiness ccache refuses every compilation that uses a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${AUTOSP_CCACHE})
endif()

include_directories("${PROJECT_SOURCE_DIR}/include")

# Called by every room's target. Generator expressions keep source paths out of the installed package.
function(autosp_configure target)
  target_include_directories(${target} PUBLIC "$<BUILD_INTERFACE:${autosp_SOURCE_DIR}/include>")
endfunction()

# A torch header costs ten seconds or more of parsing. Targets that include several call this once.
function(autosp_torch_pch target)
  target_compile_options(${target} PRIVATE -fpch-preprocess)
  target_precompile_headers(${target} PRIVATE <ATen/ATen.h> <map> <memory> <string> <vector>)
endfunction()
