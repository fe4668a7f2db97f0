# The libtorch of an installed `torch` wheel as imported targets. The wheel's own TorchConfig.cmake is not used: it needs
# a CUDA toolkit wherever the wheel is a CUDA build, which is every wheel of the package index on Linux.
include_guard(GLOBAL)

# Where the torch package of ${Python_EXECUTABLE} lies, found without importing it; empty when there is none.
function(autosp_torch_directory result)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE directory OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${result} "${directory}" PARENT_SCOPE)
endfunction()

# Defines, when torch is found:
#   autosp_torch::torch         headers (as system headers), libtorch, libtorch_cpu, libc10
#   autosp_torch::torch_cuda    the same and the CUDA libraries, only where the wheel has them
#   autosp_torch::torch_python  the same as torch and libtorch_python, for code that handles THPVariable
#   AUTOSP_TORCH_DIR, AUTOSP_TORCH_VERSION
macro(autosp_find_torch)
  if(NOT AUTOSP_TORCH_DIR AND Python_EXECUTABLE)
    autosp_torch_directory(AUTOSP_TORCH_DIR)
  endif()
  if(AUTOSP_TORCH_DIR AND EXISTS "${AUTOSP_TORCH_DIR}/lib/libtorch_cpu.so" AND NOT TARGET autosp_torch::torch)
    file(STRINGS "${AUTOSP_TORCH_DIR}/version.py" autosp_torch_version_line REGEX "^__version__ *=")
    string(REGEX REPLACE ".*['\"]([^'\"]+)['\"].*" "\\1" AUTOSP_TORCH_VERSION "${autosp_torch_version_line}")
    message(STATUS "autosp: torch ${AUTOSP_TORCH_VERSION} in ${AUTOSP_TORCH_DIR}")
    _autosp_define_torch_targets()
  endif()
endmacro()

function(_autosp_import_library name)
  add_library(autosp_torch::lib_${name} SHARED IMPORTED GLOBAL)
  set_target_properties(autosp_torch::lib_${name} PROPERTIES IMPORTED_LOCATION "${AUTOSP_TORCH_DIR}/lib/lib${name}.so"
                                                             IMPORTED_NO_SONAME OFF)
endfunction()

function(_autosp_define_torch_targets)
  set(include_dirs "${AUTOSP_TORCH_DIR}/include" "${AUTOSP_TORCH_DIR}/include/torch/csrc/api/include")
  _autosp_import_library(c10)
  _autosp_import_library(torch_cpu)
  _autosp_import_library(torch)
  add_library(autosp_torch::torch INTERFACE IMPORTED GLOBAL)
  set_target_properties(
    autosp_torch::torch
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${include_dirs}"
               INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${include_dirs}"
               INTERFACE_LINK_LIBRARIES "autosp_torch::lib_torch;autosp_torch::lib_torch_cpu;autosp_torch::lib_c10"
               # libtorch finds the CUDA packages beside it by its own rpath; the linker need not see them.
               INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  if(EXISTS "${AUTOSP_TORCH_DIR}/lib/libtorch_cuda.so" AND EXISTS "${AUTOSP_TORCH_DIR}/lib/libc10_cuda.so")
    _autosp_import_library(torch_cuda)
    _autosp_import_library(c10_cuda)
    add_library(autosp_torch::torch_cuda INTERFACE IMPORTED GLOBAL)
    set_target_properties(
      autosp_torch::torch_cuda PROPERTIES INTERFACE_LINK_LIBRARIES
                                          "autosp_torch::torch;autosp_torch::lib_torch_cuda;autosp_torch::lib_c10_cuda")
  endif()
  if(EXISTS "${AUTOSP_TORCH_DIR}/lib/libtorch_python.so")
    _autosp_import_library(torch_python)
    add_library(autosp_torch::torch_python INTERFACE IMPORTED GLOBAL)
    set_target_properties(autosp_torch::torch_python
                          PROPERTIES INTERFACE_LINK_LIBRARIES "autosp_torch::torch;autosp_torch::lib_torch_python")
  endif()
endfunction()
