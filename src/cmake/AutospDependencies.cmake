# Everything that this project takes from elsewhere: Python, the torch wheel (optional), fmt, pybind11, GoogleTest.
include_guard(GLOBAL)

# --- Python: -DPython_EXECUTABLE, else the virtual environment beside the sources, else the system's ----------------
if(NOT Python_EXECUTABLE AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(Python_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
if(AUTOSP_BUILD_PYTHON)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
elseif(AUTOSP_WITH_TORCH OR AUTOSP_BUILD_TESTS)
  find_package(Python 3.10 COMPONENTS Interpreter)
endif()

# For find_package(Python3), here and in what is found below: the same interpreter.
if(Python_EXECUTABLE AND NOT Python3_EXECUTABLE)
  set(Python3_EXECUTABLE "${Python_EXECUTABLE}")
endif()

# --- torch ----------------------------------------------------------------------------------------------------------
if(AUTOSP_WITH_TORCH)
  include(AutospTorch)
  autosp_find_torch()
  if(NOT TARGET autosp_torch::torch)
    message(STATUS "autosp: no torch in ${Python_EXECUTABLE}: building the torch-free part only")
    set(AUTOSP_WITH_TORCH OFF)
  endif()
endif()

# --- fmt: the system's library, else (or when asked to compile it in) its headers, else those in the torch wheel ----
if(NOT TARGET fmt::fmt)
  if(NOT AUTOSP_FMT_HEADER_ONLY)
    find_package(fmt 9 QUIET)
  endif()
  if(TARGET fmt::fmt)
    set(AUTOSP_FMT_FROM_PACKAGE ON)
  else()
    if(NOT AUTOSP_TORCH_DIR AND Python_EXECUTABLE)
      include(AutospTorch)
      autosp_torch_directory(AUTOSP_TORCH_DIR)
    endif()
    find_path(AUTOSP_FMT_INCLUDE_DIR fmt/format.h HINTS "${AUTOSP_TORCH_DIR}/include")
    mark_as_advanced(AUTOSP_FMT_INCLUDE_DIR)
    if(NOT AUTOSP_FMT_INCLUDE_DIR)
      message(FATAL_ERROR "autosp: fmt not found: install it (Debian, Ubuntu: apt-get install libfmt-dev), or configure with "
                          "-DPython_EXECUTABLE of an environment that has torch, whose wheel brings the headers")
    endif()
    # Copied aside when they lie in the torch wheel: its include directory must not be visible to the torch-free core.
    if(NOT AUTOSP_TORCH_DIR STREQUAL "" AND AUTOSP_FMT_INCLUDE_DIR STREQUAL "${AUTOSP_TORCH_DIR}/include")
      file(COPY "${AUTOSP_TORCH_DIR}/include/fmt" DESTINATION "${PROJECT_BINARY_DIR}/fmt_headers")
      set(AUTOSP_FMT_INCLUDE_DIR "${PROJECT_BINARY_DIR}/fmt_headers" CACHE PATH "" FORCE)
    endif()
    add_library(fmt::fmt INTERFACE IMPORTED)
    set_target_properties(fmt::fmt PROPERTIES INTERFACE_COMPILE_DEFINITIONS FMT_HEADER_ONLY
                                              INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${AUTOSP_FMT_INCLUDE_DIR}"
                                              INTERFACE_INCLUDE_DIRECTORIES "${AUTOSP_FMT_INCLUDE_DIR}")
  endif()
endif()

# --- pybind11: the pip package, else the system's, else the headers in the torch wheel -------------------------------
# autosp_pybind11 is what an extension module links. The core hands only plain py::object around, so any version works.
if(AUTOSP_BUILD_PYTHON)
  if(NOT pybind11_DIR)
    execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir OUTPUT_VARIABLE autosp_pybind11_dir
                    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_package(pybind11 CONFIG QUIET HINTS "${autosp_pybind11_dir}")
  add_library(autosp_pybind11 INTERFACE)
  if(TARGET pybind11::headers)
    target_link_libraries(autosp_pybind11 INTERFACE pybind11::headers)
  elseif(AUTOSP_TORCH_DIR AND EXISTS "${AUTOSP_TORCH_DIR}/include/pybind11/pybind11.h")
    file(COPY "${AUTOSP_TORCH_DIR}/include/pybind11" DESTINATION "${PROJECT_BINARY_DIR}/pybind11_headers")
    target_include_directories(autosp_pybind11 SYSTEM INTERFACE "${PROJECT_BINARY_DIR}/pybind11_headers")
  else()
    message(FATAL_ERROR "autosp: pybind11 not found in ${Python_EXECUTABLE}: run `${Python_EXECUTABLE} -m pip install pybind11`")
  endif()
endif()

# autosp_add_python_module(NAME SOURCE...): an extension module written straight into the Python package, so that it can
# be imported from the source tree.
function(autosp_add_python_module name)
  Python_add_library(${name} MODULE WITH_SOABI ${ARGN})
  target_link_libraries(${name} PRIVATE autosp_pybind11)
  # Hidden, as pybind11 asks for: two modules with different pybind11 versions must not see each other's types.
  set_target_properties(${name} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(PROJECT_IS_TOP_LEVEL AND NOT SKBUILD)
    set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${PROJECT_SOURCE_DIR}/python/autosp")
  endif()
endfunction()

# --- GoogleTest ------------------------------------------------------------------------------------------------------
if(AUTOSP_BUILD_TESTS)
  find_package(GTest QUIET)
  if(NOT TARGET GTest::gtest)
    message(FATAL_ERROR "autosp: GoogleTest not found: install it (Debian, Ubuntu: apt-get install libgtest-dev libgmock-dev), "
                        "or configure with -DAUTOSP_BUILD_TESTS=OFF")
  endif()
  include(GoogleTest)
endif()
