# moe::cuda, made where nvcc is. moe_why_no_cuda says why it is not made; the installed package
# repeats it to whoever asks for the component.
set(moe_why_no_cuda "")
get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT MOE_CUDA)
  set(moe_why_no_cuda "MOE_CUDA=OFF")
elseif(MOE_CUDA STREQUAL "AUTO" AND NOT PROJECT_IS_TOP_LEVEL AND NOT "CUDA" IN_LIST languages)
  set(moe_why_no_cuda "the project that added moe had not enabled the language CUDA")
else()
  if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    # CMake itself looks on PATH only.
    find_program(MOE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH
                 PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(MOE_NVCC)
    if(MOE_NVCC)
      set(CMAKE_CUDA_COMPILER "${MOE_NVCC}" CACHE FILEPATH "CUDA compiler")
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(moe_why_no_cuda "no nvcc found")
  else()
    # Unset, CMake takes nvcc's default architecture, which lacks the newer instructions. 90a-real,
    # not 90a: that one adds PTX, which nothing can run.
    if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES
       AND NOT DEFINED ENV{CUDAARCHS})
      set(CMAKE_CUDA_ARCHITECTURES 90a-real CACHE STRING "CUDA architectures")
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit QUIET)
    if(NOT CUDAToolkit_FOUND)
      set(moe_why_no_cuda "nvcc without its toolkit's libraries")
    elseif(CUDAToolkit_VERSION VERSION_LESS 13.0)
      set(moe_why_no_cuda "CUDA ${CUDAToolkit_VERSION}, 13.0 is the oldest that will do")
    endif()
  endif()
  if(moe_why_no_cuda AND NOT MOE_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "MOE_CUDA=${MOE_CUDA}, but: ${moe_why_no_cuda}. "
                        "Put nvcc on PATH, or set CUDACXX or CMAKE_CUDA_COMPILER.")
  endif()
endif()

if(NOT moe_why_no_cuda)
  include(MoeCudaStandard)
  moe_teach_cuda_20()
  if(NOT PROJECT_IS_TOP_LEVEL)  # the parent's targets, which link this one, need them too
    foreach(variable IN ITEMS CMAKE_CUDA20_STANDARD_COMPILE_OPTION CMAKE_CUDA_COMPILE_FEATURES
                              CMAKE_CUDA20_EXTENSION_COMPILE_OPTION CMAKE_CUDA20_COMPILE_FEATURES)
      set(${variable} "${${variable}}" PARENT_SCOPE)
    endforeach()
  endif()

  add_library(moe_cuda INTERFACE)
  add_library(moe::cuda ALIAS moe_cuda)
  set_target_properties(moe_cuda PROPERTIES EXPORT_NAME cuda)
  target_compile_features(moe_cuda INTERFACE cuda_std_20)
  target_link_libraries(moe_cuda INTERFACE moe::moe CUDA::cudart CUDA::cublas)
  file(GLOB_RECURSE moe_cuda_headers CONFIGURE_DEPENDS include/moe/*.cuh)
  if(moe_cuda_headers)
    target_sources(moe_cuda INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${moe_cuda_headers})
  endif()
endif()
