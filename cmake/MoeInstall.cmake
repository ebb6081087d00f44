# One export set per component, so that the library loads on a machine without CUDA.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(moe_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/moe")

foreach(component IN ITEMS host cuda nccl)
  if(TARGET moe_${component})
    set(headers "")
    get_target_property(has_headers moe_${component} HEADER_SET)
    if(has_headers)
      set(headers FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    endif()
    install(TARGETS moe_${component} EXPORT moe-${component}-targets ${headers})
    install(EXPORT moe-${component}-targets NAMESPACE moe:: DESTINATION "${moe_cmake_dir}")
  endif()
endforeach()

configure_package_config_file(cmake/moe-config.cmake.in moe-config.cmake
                              INSTALL_DESTINATION "${moe_cmake_dir}")
# Below 1.0 a minor version may break its users.
write_basic_package_version_file(moe-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/moe-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/moe-config-version.cmake"
              cmake/FindCBLAS.cmake cmake/FindNCCL.cmake cmake/MoeCudaStandard.cmake
        DESTINATION "${moe_cmake_dir}")
