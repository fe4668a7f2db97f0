# autosp::autosp, the torch-free library as one archive of all core rooms, and the CMake package that exports it.
include_guard(GLOBAL)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(autosp_objects "")
foreach(room support ir sharding analysis pass passes)
  list(APPEND autosp_objects "$<TARGET_OBJECTS:autosp_${room}>")
endforeach()
add_library(autosp STATIC ${autosp_objects})
add_library(autosp::autosp ALIAS autosp)
set_target_properties(autosp PROPERTIES LINKER_LANGUAGE CXX)
target_compile_features(autosp INTERFACE cxx_std_20)
target_include_directories(autosp INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
                                            "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/passes>"
                                            "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
if(AUTOSP_FMT_FROM_PACKAGE)
  target_link_libraries(autosp PRIVATE fmt::fmt)
endif()

if(AUTOSP_INSTALL AND NOT SKBUILD)
  set(autosp_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/autosp")
  install(TARGETS autosp EXPORT autosp_targets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/autosp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
          FILES_MATCHING PATTERN "*.h" PATTERN "*.def")
  # <autosp/autosp.h> includes it by this name in quotes, so it must lie beside it.
  install(FILES "${PROJECT_SOURCE_DIR}/passes/autosp_pipeline.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/autosp")
  install(EXPORT autosp_targets NAMESPACE autosp:: DESTINATION "${autosp_package_dir}")
  configure_package_config_file("${PROJECT_SOURCE_DIR}/src/cmake/autosp-config.cmake.in"
                                "${PROJECT_BINARY_DIR}/autosp-config.cmake" INSTALL_DESTINATION "${autosp_package_dir}")
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/autosp-config-version.cmake" COMPATIBILITY SameMinorVersion)
  install(FILES "${PROJECT_BINARY_DIR}/autosp-config.cmake" "${PROJECT_BINARY_DIR}/autosp-config-version.cmake"
          DESTINATION "${autosp_package_dir}")
  if(TARGET autosp-opt)
    install(TARGETS autosp-opt RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endif()
